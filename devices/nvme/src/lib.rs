//! An NVMe controller in software, at register level.
//!
//! Written from the NVM Express Base Specification 2.0 (cited as "Base"), the NVM Command Set Specification 1.0
//! ("NVM") and the NVMe over PCIe Transport Specification 1.0 ("PCIe"). It shares nothing with any driver, least of
//! all a list of constants: a wrong offset must not agree with itself.
//!
//! - [`Nvme`] is the device; [`NvmeConfig`] says what it is like, also as text for command lines.
//! - [`MemoryDisk`] and [`FileDisk`] hold what it stores; they outlive it, so that a test can look at them, cut the
//!   power, and plug in another controller.
//! - [`FaultInjector`] makes it misbehave, in one or several of the ways that [`Kind`] names. The controller knows nothing
//!   of that: fault injection sits between it and its host, its registers, its data and its completions.
//!
//! Registers are atomics, and all else belongs to one thread per device, which polls while there is work and sleeps
//! when there was none for a while. Several threads would scale further; one keeps every order explicable.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod admin;
mod cache;
mod command;
mod config;
mod controller;
mod device;
mod disk;
mod engine;
mod fault_injection;
mod features;
mod io;
mod logs;
mod namespace;
mod parse;
mod prp;
mod queue;
mod registers;
mod schedule;
mod status;
mod transfer;

pub use config::{ConfigError, Medium, NvmeConfig};
pub use device::{Nvme, PowerLoss};
pub use device_bus::Rate;
pub use disk::{Disk, Fetch, FileDisk, FileDiskError, Give, MemoryDisk};
pub use fault_injection::{FaultInjector, Kind, Rule};
pub use parse::{ParseError, Problem};
