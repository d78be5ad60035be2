//! The scenarios: claims about the kernel and its services, each tried by a domain inside a running system.
//!
//! kernel/tests/scenarios boots this suite on both machines and reads the lines that it prints, one for each
//! scenario of `list.rs`. The option `scenario=NAME` selects the scenarios whose name contains NAME, `soak=N`
//! makes them last N times as long, and `seed=N` changes the random numbers.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod accounting;
mod availability;
mod blocks;
mod calls;
mod context;
mod crashes;
mod devices;
mod faults;
mod hangs;
mod leaks;
mod lending;
mod locks;
mod memory;
mod nets;
mod objects;
mod queue_client;
mod quotas;
mod revocation;
mod shadows;
mod storm;
mod supervision;
mod threads;

use alloc::sync::Arc;

use coppice_experiment::run_scenarios;
use coppice_runtime::{Domain, Environment, StartError, thread};

use context::{Context, Wires};

macro_rules! scenarios {
    ($($module:ident: [$($name:ident,)*])*) => {
        /// The name and the function of each scenario.
        pub(crate) const SCENARIOS: &[coppice_experiment::Scenario<crate::Context>] =
            &[$($((stringify!($name), crate::$module::$name),)*)*];
    };
}

// Follows the macro that it uses.
mod list;

/// The domain that runs the scenarios and then shuts the system down.
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
        // Runs at a higher priority than the threads that the scenarios start, so that they do not delay it.
        thread::Builder::new().priority(1).spawn(run)?;
        Ok(())
    }
}

fn run(wires: Wires, has_device: bool) -> bool {
    let context = match Context::new(wires, has_device) {
        Ok(context) => Arc::new(context),
        Err(failure) => {
            log::error!("the scenarios cannot start: {failure}");
            return false;
        }
    };
    let control = context.control.clone();
    run_scenarios(&control, list::SCENARIOS, &context)
}
