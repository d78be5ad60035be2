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

use coppice_experiment::SuiteDomain;

pub use context::Context;

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
pub type ScenariosDomain = SuiteDomain<Context>;
