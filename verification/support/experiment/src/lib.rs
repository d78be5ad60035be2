//! Tools for experiments on a running system: [`ResourceSnapshot`] for leak checks, [`Random`], a seeded
//! generator, [`Histogram`] of times, [`Samples`] of the time-stamp counter, [`CrashTarget`], a domain that
//! the experiment kills, [`Options`] of benchmarks, [`Failure`], the common error, and [`SuiteDomain`], which
//! runs scenarios.
//!
//! A library: the scenarios, the soak and the benchmarks link it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod crash_target;
mod failure;
mod histogram;
mod options;
mod random;
mod samples;
mod scenarios;
mod snapshot;

pub use coppice_run_protocol::bench::Figure;
pub use crash_target::{CrashTarget, KillError};
pub use failure::Failure;
pub use histogram::Histogram;
pub use options::Options;
pub use random::Random;
pub use samples::{Budget, Samples, figure, print_figure};
pub use scenarios::{Scenario, ScenarioContext, SuiteDomain};
pub use snapshot::{ResourceSnapshot, SnapshotError};
