//! The narrow transport between a device model and its host.
//!
//! A [`Model`] is a PCI function at register level. It knows its registers, and sees the rest of the machine
//! only through [`Host`]: memory that can be read and written, and interrupt vectors that can be raised. One
//! model therefore serves a kernel in a process, the tests of a driver, and foreign virtual machines.
//!
//! The parts that all models share stand between the two: [`DmaPort`], through which a model reaches its host
//! and which bus mastering closes; [`ModelThread`], the thread of a model, to which [`WorkSignal`] and
//! [`Inbox`] announce work; [`Function`], which adds a configuration space and an MSI-X table for hosts that
//! enumerate; [`FaultRules`] and [`Presence`], on which fault injection is built; and [`TestHost`].
//!
//! [`Host`] copies memory. Lending slices of host memory would save the copy, but a slice that a driver's CPU
//! writes at the same time is no valid Rust slice; with copies, only the host has to know how memory is
//! reached.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod config;
mod counter;
mod dma_gate;
mod dma_port;
mod fault_injection;
mod function;
mod host;
#[cfg(test)]
mod loom_tests;
mod model;
mod model_thread;
mod msix;
mod presence;
mod sleep_handshake;
mod split_mix;
mod test_host;
mod text;
mod work_signal;

/// The atomics of modules that are also tested with those of `loom`.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
}

pub use config::{CONFIG_BYTES, CONFIG_EXTENDED_BYTES};
pub use counter::Counter;
pub use dma_port::DmaPort;
pub use fault_injection::{FaultKind, FaultRules, Rate, Rule, RuleError};
pub use function::Function;
pub use host::{DmaError, Host};
pub use model::{AlreadyAttached, Bar, BarKind, ClassCode, Model, MsixLayout, PciIdentity};
pub use model_thread::{
    MIN_SLEEP_NS, ModelEngine, ModelFrontend, ModelRequest, ModelThread, POLLS_PER_CLOCK_READ, Step,
    ThreadedModel,
};
pub use msix::{Message, MsixTable};
pub use presence::Presence;
pub use split_mix::SplitMix64;
pub use test_host::{PAGE_BYTES, TestHost};
pub use text::{
    DurationError, SizeError, ValueError, parse_duration, parse_number, parse_size, parse_wait,
    parse_yes_or_no,
};
pub use work_signal::{Inbox, SleepTime, WorkSignal};
