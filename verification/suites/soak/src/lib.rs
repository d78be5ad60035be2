//! Ends and restarts domains a million times while clients on every CPU call them, and checks what the kernel promises:
//!
//! - a client gets a right answer or a clean error, and nothing else ([`clients`]);
//! - an error names a instance that somebody ended, and what it died of ([`victims`]);
//! - nothing is lost: memory, objects and threads are as before after each tenth of the run ([`soak`]);
//! - restarts take as long at the end as in the beginning: times go to the console by hundredths of the run ([`report`]),
//!   and `cargo xtask soak` compares them.
//!
//! How lives end is drawn by weights in the manifest, from a seed ([`plan`]); on one CPU under QEMU's instruction counter
//! the same seed gives the same run. A typed line `stop` ends the run early, with all checks and reports.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod audit;
mod clients;
mod killer;
mod plan;
mod report;
mod soak;
mod victims;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use coppice_runtime::thread::{self, Builder};
use coppice_runtime::{Domain, Environment, StartError};

use coppice_experiment::Failure;
use plan::{Plan, Senseless};
use report::Report;
use soak::{Soak, Wires};

/// This domain's name in the manifest.
const OBSERVER: &str = "soak";

/// The domain.
pub struct SoakDomain;

impl Domain for SoakDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let control = wires.control.clone();
        let plan = match Plan::read(environment, &control) {
            Ok(Ok(plan)) => Ok(plan),
            Ok(Err(Senseless(what))) => Err(what),
            Err(error) => Err(alloc::format!("{error}")),
        };
        // More urgent than its killers and clients, which otherwise would hold up what it reports.
        let run = move || {
            let soak = plan.and_then(|plan| Soak::new(wires, plan).map_err(|Failure(what)| what));
            let success = match soak {
                Ok(soak) => run(Arc::new(soak)),
                Err(what) => {
                    log::error!("the soak cannot begin: {what}");
                    false
                }
            };
            let _ = control.shut_down(success);
        };
        Builder::new().priority(0).spawn(run)?;
        Ok(())
    }
}

fn run(soak: Arc<Soak>) -> bool {
    let listener = soak.clone();
    let listen = move || {
        while let Ok(line) = listener.wires.control.read_line() {
            if &*line == "stop" {
                listener.stop.store(true, Ordering::Relaxed);
            }
        }
    };
    // It waits for a line until the system ends.
    thread::spawn(listen).expect("the manifest allows a second thread");
    soak.run(&Report::new(&soak.wires.control))
}
