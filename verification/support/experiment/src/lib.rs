//! Tools for experiments on a running system: [`ResourceSnapshot`] for leak checks, [`Random`], a seeded
//! generator, [`Histogram`] of times, [`Failure`], the common error, and [`SuiteDomain`], which runs
//! scenarios.
//!
//! A library: the scenarios, the soak and the benchmark of faults link it.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod failure;
mod histogram;
mod random;
mod scenarios;
mod snapshot;

pub use failure::Failure;
pub use histogram::Histogram;
pub use random::Random;
pub use scenarios::{Scenario, ScenarioContext, SuiteDomain};
pub use snapshot::{ResourceSnapshot, SnapshotError};
