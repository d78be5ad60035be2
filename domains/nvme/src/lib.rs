//! Serves a namespace of an NVM Express controller as a block device.
//!
//! The driver is `nvme-driver`; this wires it to the interface. [`Disk`] is a controller with one of its namespaces, and what
//! decides when a controller that misbehaves is reset, and when it is too much: then the domain ends, and what stands in
//! front of it (docs/recovery.md) goes on with its next life.
//!
//! A domain is a [`Disk`] opened with [`Settings`] and served; a variant that injects faults does the same.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
mod disk;
mod queue;
mod settings;

pub use disk::{Disk, DiskError};
pub use settings::{BadArgument, Settings};
