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

use coppice_experiment::SuiteDomain;

pub use context::Context;

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
pub type NicTrialsDomain = SuiteDomain<Context>;
