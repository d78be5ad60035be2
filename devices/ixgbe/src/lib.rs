//! An Intel 82599 or X540 network controller in software, at register level.
//!
//! Written from the Intel 82599 10 GbE Controller Datasheet (331520). It shares nothing with any driver, least of all a list of
//! constants: a wrong offset must not agree with itself.
//!
//! - [`Ixgbe`] is the device; [`IxgbeConfig`] says what it is like, also as text for command lines.
//! - A `device_link::Wire` is what it is plugged into.
//! - [`FaultInjector`] is what it does wrong, on demand.
//! - [`Losses`] are the frames that it did not deliver, by cause.
//!
//! Registers are memory that all threads share; heads, tails, counters and interrupt causes have places and rules of their own.
//! All else belongs to one thread per device, which moves frames in batches: it reads up to 64 descriptors at once, writes as
//! many back at once, passes its port once for them, and asks for the time once. It polls while there is work and sleeps when
//! there was none for a while.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod buffer;
mod config;
mod device;
mod eeprom;
mod engine;
mod fault_injection;
mod fcs;
mod filter;
mod headers;
mod i2c;
mod interrupts;
mod losses;
mod map;
mod offload;
#[cfg(test)]
mod races;
mod receive;
mod registers;
mod ring;
mod rss;
mod serial;
mod statistics;
mod transmit;

/// Where modules that are also tried with other atomics take theirs from.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

pub use config::{Chip, ConfigError, IxgbeConfig};
pub use device::Ixgbe;
pub use fault_injection::{FaultInjector, Kind, Rule};
pub use losses::{LossCounters, Losses};
