//! Trials of a network driver and its device inside a system: the real driver, and a device whose wire is a
//! loopback.
//!
//! kernel/tests/scenarios boots this suite and reads the lines that it prints, one for each trial of
//! `list.rs`. The option `scenario=NAME` selects the trials whose name contains NAME.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod context;
mod nics;

use alloc::sync::Arc;

use coppice_experiment::run_scenarios;
use coppice_runtime::{Domain, Environment, StartError, thread};

use context::{Context, Wires};

macro_rules! scenarios {
    ($($module:ident: [$($name:ident,)*])*) => {
        /// The name and the function of each trial.
        pub(crate) const SCENARIOS: &[coppice_experiment::Scenario<crate::Context>] =
            &[$($((stringify!($name), crate::$module::$name),)*)*];
    };
}

// Follows the macro that it uses.
mod list;

/// The domain that runs the trials and then shuts the system down.
pub struct NicTrialsDomain;

impl Domain for NicTrialsDomain {
    type Imports = Wires;
    type Export = ();

    fn start(_: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let run = move || {
            let control = wires.control.clone();
            let success = match Context::new(wires) {
                Ok(context) => run_scenarios(&control, list::SCENARIOS, &Arc::new(context)),
                Err(failure) => {
                    log::error!("the trials cannot start: {failure}");
                    false
                }
            };
            let _ = control.shut_down(success);
        };
        thread::Builder::new().priority(1).spawn(run)?;
        Ok(())
    }
}
