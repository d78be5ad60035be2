//! A software NVMe controller at register level.
//!
//! Written from the NVM Express Base Specification 2.0 (cited as "Base"), the NVM Command Set Specification
//! 1.0 ("NVM") and the NVMe over PCIe Transport Specification 1.0 ("PCIe"). It shares nothing with any
//! driver, not even constants: a wrong offset must not agree with itself.
//!
//! - [`Nvme`] is the device; [`NvmeConfig`] describes it, also as text for command lines.
//! - [`MemoryDisk`] and [`FileDisk`] hold the stored data. They outlive the device, so that a test can
//!   inspect them, cut the power, and attach another controller.
//! - [`FaultInjector`] injects faults of the kinds in [`Kind`]. The controller is unaware of it: faults are
//!   injected between the controller and its host, its registers, its data and its completions.
//!
//! Registers are atomics. All other state belongs to one thread per device, which polls while there is work
//! and goes to sleep when there has been none for a while. Several threads would scale further; with one,
//! each order of events can be explained.

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
mod spec;
mod status;
mod transfer;

pub use config::{Backing, ConfigError, NvmeConfig};
pub use device::{Nvme, PowerLoss};
pub use device_bus::Rate;
pub use disk::{DataSink, DataSource, Disk, FileDisk, FileDiskError, MemoryDisk};
pub use fault_injection::{FaultInjector, Kind, Rule};
pub use parse::{ParseError, Problem};
