//! Where a driver meets a device model, without a kernel.
//!
//! A [`Bench`] is the machine between the two: memory, a clock, interrupts, registers. It hands the driver a
//! [`coppice_hardware::Device`], and a test the means to see what passes between them, to change what the driver reads
//! ([`Bench::intercept`]), and to be told when the device touches memory that it should not ([`Bench::forbid`]).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bench;
mod host;
mod interrupts;

pub use bench::{Access, Bench, Intercept};
