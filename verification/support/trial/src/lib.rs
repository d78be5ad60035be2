//! A trial of a driver: it is crashed by one kind of fault after the other under some [`Load`], it is measured how long nobody
//! is answered, and all is weighed before and after.
//!
//! A library and no domain: the demonstrations are linked with it, `demo` of a disk's driver and `forward` of a network
//! device's. What the load does, and what its clients would notice of a crash, is theirs; what is here knows of no device.
//!
//! - [`Trial`]: what all threads of one share; [`Schedule`]: what is to be done, from the kernel's options.
//! - [`start`]: the course of it all, from a domain's entry function on.
//! - [`Probe`]: when the driver has answered, for the killer, which measures outages.
//! - [`console`]: what is said of it, a line of JSON each, for `cargo xtask demo` to show and to judge.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

pub mod console;
mod killer;
mod load;
mod method;
mod run;
mod schedule;
mod trial;

pub use killer::Probe;
pub use load::{Load, Meter, Progress, Unit, Work};
pub use method::Method;
pub use run::start;
pub use schedule::{Schedule, option};
pub use trial::Trial;
