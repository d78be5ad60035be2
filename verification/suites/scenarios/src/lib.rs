//! Runs scenarios inside a system: what the kernel promises, tried from where it matters.
//!
//! kernel/tests/scenarios.rs boots this on both machines and reads the lines that it prints, one for each scenario of
//! `list.rs`. The option `scenario=NAME` runs only those whose name contains NAME; `soak=N` makes them go on N times as
//! long, and `seed=N` gives those that leave something to chance another course.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod accounting;
mod blocks;
mod calls;
mod crashes;
mod desk;
mod devices;
mod faults;
mod hangs;
mod leaks;
mod lending;
mod locks;
mod memory;
mod nets;
mod objects;
mod quotas;
mod revocation;
mod shadows;
mod stage;
mod storm;
mod supervision;
mod threads;

use alloc::sync::Arc;

use coppice_experiment::try_claims;
use coppice_runtime::{Domain, Environment, StartError, thread};

use stage::{Stage, Wires};

macro_rules! scenarios {
    ($($module:ident: [$($name:ident,)*])*) => {
        /// Name and function of each.
        pub(crate) const SCENARIOS: &[coppice_experiment::Claim<crate::Stage>] =
            &[$($((stringify!($name), crate::$module::$name),)*)*];
    };
}

// After the macro, which it uses.
mod list;

/// The domain.
pub struct ScenariosDomain;

impl Domain for ScenariosDomain {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let has_device = environment.device(0).is_some();
        let run = move || {
            let control = wires.control.clone();
            let success = run(wires, has_device);
            let _ = control.shut_down(success);
        };
        // More urgent than the threads that it starts, so that these do not hold it up.
        thread::Builder::new().priority(1).spawn(run)?;
        Ok(())
    }
}

fn run(wires: Wires, has_device: bool) -> bool {
    let stage = match Stage::new(wires, has_device) {
        Ok(stage) => Arc::new(stage),
        Err(failure) => {
            log::error!("the scenarios cannot begin: {failure}");
            return false;
        }
    };
    let control = stage.control.clone();
    try_claims(&control, list::SCENARIOS, &stage)
}
