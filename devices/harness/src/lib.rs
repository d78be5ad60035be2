//! A test bench that connects a driver and a device model without a kernel.
//!
//! A [`Bench`] is the machine between the two: memory, a clock, interrupts, registers. It gives the driver a
//! [`coppice_hardware::Device`]. A test can observe and change the register accesses of the driver
//! ([`Bench::intercept`]), and detect accesses of the device to memory that it must not access
//! ([`Bench::forbid`]).

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod bench;
mod host;
mod interrupts;

pub use bench::{Access, Bench, Intercept};
