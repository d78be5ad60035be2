//! Tries a network driver and its device inside a system: the real driver, and a device whose wire leads back to itself.
//!
//! kernel/tests/scenarios.rs boots this and reads the lines that it prints, one for each trial of `list.rs`. The option
//! `scenario=NAME` runs only those whose name contains NAME.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod nics;
mod stage;

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
pub struct NicTrialsDomain;

impl Domain for NicTrialsDomain {
    type Imports = Wires;
    type Export = ();

    fn start(_: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let run = move || {
            let control = wires.control.clone();
            let success = match Stage::new(wires) {
                Ok(stage) => try_claims(&control, list::SCENARIOS, &Arc::new(stage)),
                Err(failure) => {
                    log::error!("the trials cannot begin: {failure}");
                    false
                }
            };
            let _ = control.shut_down(success);
        };
        thread::Builder::new().priority(1).spawn(run)?;
        Ok(())
    }
}
