//! A trial of a driver: crashes it by one kind of fault after the other under a [`Load`], measures each
//! outage, and compares the resources in use before and after.
//!
//! A library: the demonstrations link it, `demo` for a disk driver and `forward` for a network driver. They
//! define the load and check what their clients observe; this crate knows no device.
//!
//! - [`Trial`]: the state that all threads share; [`Schedule`]: the plan, from the kernel's options.
//! - [`TrialDomain`]: the domain that runs a trial; a [`Demonstration`] defines its imports and its load.
//! - [`Probe`]: reports the driver's replies to the killer, which measures outages.
//! - [`console`]: the output, lines of the run protocol, for `cargo xtask demo` to show and to check.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

pub mod console;
mod deaths;
mod domain;
mod killer;
mod load;
mod method;
mod run;
mod schedule;
mod trial;

pub use domain::{Demonstration, Services, TrialDomain};
pub use killer::Probe;
pub use load::{Load, Progress, Work};
pub use method::Method;
pub use schedule::{Schedule, option};
pub use trial::Trial;
