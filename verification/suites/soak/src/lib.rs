//! Ends and restarts domains a million times while clients on every CPU call them, and checks the kernel's
//! guarantees:
//!
//! - a client gets a right answer or a clean error, and nothing else ([`clients`]);
//! - an error names an instance that was ended, and its cause ([`kill_targets`]);
//! - nothing leaks: memory, objects and threads are as before after each tenth of the run ([`soak`]);
//! - restarts take as long at the end as in the beginning: times go to the console by hundredths of the run
//!   ([`report`]), and `cargo xtask soak` compares them.
//!
//! The ways to end an instance are drawn by weights in the manifest, from a seed ([`plan`]). On one CPU under
//! QEMU's instruction counter the same seed gives the same run. A typed line `stop` ends the run early, with
//! all checks and reports.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod audit;
mod clients;
mod kill_targets;
mod killer;
mod plan;
mod report;
mod soak;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use coppice_runtime::thread::{self, Builder};
use coppice_runtime::{Domain, Environment, StartError};

use coppice_experiment::Failure;
use plan::{BadPlan, Plan};
use report::Report;
use soak::{Soak, Wires};

/// This domain's name in the manifest.
const OWN_NAME: &str = "soak";

/// The domain that runs the soak and then shuts the system down.
pub struct SoakDomain;

impl Domain for SoakDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let control = wires.control.clone();
        let plan = match Plan::read(environment, &control) {
            Ok(Ok(plan)) => Ok(plan),
            Ok(Err(BadPlan(what))) => Err(what),
            Err(error) => Err(alloc::format!("{error}")),
        };
        // Has a higher priority than its killers and clients, which would otherwise delay its reports.
        let run = move || {
            let soak = plan.and_then(|plan| Soak::new(wires, plan).map_err(|Failure(what)| what));
            let success = match soak {
                Ok(soak) => run(Arc::new(soak)),
                Err(what) => {
                    log::error!("the soak cannot start: {what}");
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
    // This thread waits for a line until the system ends.
    thread::spawn(listen).expect("the manifest allows a second thread");
    soak.run(&Report::new(&soak.wires.control))
}
