//! Interfaces of the examples: contracts that show one thing each, for the tutorial and for tests.
//!
//! A kernel for production does not carry them (docs/decisions/024-interfaces-per-kernel-image.md). The
//! contract of a new service gets a crate of its own beside this one.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod counter;
mod echo;
mod engine;
mod factory;
mod filter;
mod pool;

pub use counter::Counter;
pub use echo::{Echo, Message};
pub use engine::{Engine, EngineInfo, Misuse};
pub use factory::Factory;
pub use filter::{Filter, FilterError, Rule, Verdict};
pub use pool::{Job, Pool, PoolError};

use coppice_interfaces::InterfaceEntry;

/// The interfaces of this family, for the list of a kernel image.
pub const ALL: &[InterfaceEntry] = &[
    InterfaceEntry::of::<dyn Counter>(),
    InterfaceEntry::of::<dyn Echo>(),
    InterfaceEntry::of::<dyn Engine>(),
    InterfaceEntry::of::<dyn Factory>(),
    InterfaceEntry::of::<dyn Filter>(),
    InterfaceEntry::of::<dyn Pool>(),
];
