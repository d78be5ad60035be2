//! The frame of every benchmark: [`start`] runs it on a thread of its own, a [`Bench`] has its options, its
//! clock and its report, [`Samples`] are cycles per call, and a [`CrashTarget`] is a domain that the
//! benchmark kills under load.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod bench;
mod crash_target;
mod options;
mod samples;

pub use bench::{Bench, start};
pub use coppice_run_protocol::bench::Figure;
pub use crash_target::{CrashClient, CrashTarget, KillError};
pub use options::Options;
pub use samples::{Budget, Samples};
