//! A model of the Intel 82599 and X540 network controllers, at register level.
//!
//! Written from the Intel 82599 10 GbE Controller Datasheet (331520). It shares nothing with any driver,
//! least of all a list of constants: a wrong offset must not agree with itself.
//!
//! - [`Ixgbe`] is the device; [`IxgbeConfig`] is its configuration, also parsed from the text of a command
//!   line.
//! - A `device_link::Wire` connects it to a peer.
//! - [`FaultInjector`] makes it misbehave, on demand.
//! - [`Losses`] are the frames that it did not deliver, by cause.
//!
//! Most registers are memory that all threads share; heads, tails, counters and interrupt causes have places
//! and rules of their own. All other state belongs to one thread per device, which moves frames in batches:
//! it reads up to 64 descriptors at once, writes as many back at once, and opens its DMA session and reads
//! the clock once per batch. It polls while there is work and sleeps after an idle while.

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

/// The atomics of modules that `loom` also tests, with its own in their place.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

pub use config::{Chip, ConfigError, IxgbeConfig};
pub use device::Ixgbe;
pub use fault_injection::{Fault, FaultInjector, Rule};
pub use losses::{LossCounters, Losses};
