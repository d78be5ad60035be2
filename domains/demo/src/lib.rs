//! Crashes a disk driver again and again under load, and checks that nothing is lost.
//!
//! A [`hasher`] reads the whole image through the driver, over and over; [`writer`]s write blocks to a scratch area and
//! verify each that they read; a [`killer`] crashes the driver by one kind of fault after the other and measures how long
//! nobody is answered; and what comes of it all is said on the console ([`console`]), for `cargo xtask demo` to show and to
//! judge. All of them go through the shadow, and none of them may notice more than a pause.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod console;
mod hasher;
mod killer;
mod pattern;
mod plan;
mod queue;
mod run;
mod stage;
mod writer;

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use coppice_runtime::thread::{self, Builder};
use coppice_runtime::{Domain, Environment};

use stage::{Stage, Wires};

/// The domain.
pub struct DemoDomain;

impl Domain for DemoDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) {
        let victim = environment.option("victim").unwrap_or("nvme");
        let observer = environment.option("name").unwrap_or("demo");
        // More urgent than the load, which otherwise would hold up what is reported.
        let run = move || {
            let control = wires.control.clone();
            let success = match Stage::new(wires, victim, observer) {
                Ok(stage) => run(&Arc::new(stage)),
                Err(failure) => {
                    console::broken(&control, &failure.0);
                    false
                }
            };
            let _ = control.shut_down(success);
        };
        Builder::new().priority(0).spawn(run).expect("the manifest allows a thread");
    }
}

fn run(stage: &Arc<Stage>) -> bool {
    let listener = stage.clone();
    let listen = move || {
        while let Ok(line) = listener.wires.control.read_line() {
            if &*line == "stop" {
                listener.stop.store(true, Ordering::Relaxed);
            }
        }
    };
    // It waits for a line until the system ends.
    thread::spawn(listen).expect("the manifest allows a second thread");
    match run::run(stage) {
        Ok(()) => !stage.is_broken(),
        Err(failure) => {
            stage.breaks(&failure.0);
            false
        }
    }
}
