//! The narrow transport between a device model and whoever hosts it.
//!
//! A [`Model`] is a PCI function at register level. It knows its registers, and of the world only what [`Host`] says:
//! memory can be read and written, a vector can be raised. That lets one model serve a kernel in a process, a
//! driver's tests, and other people's machines.
//!
//! Between the two stand pieces that all functions share: [`Port`], through which a model reaches its host and which
//! bus mastering closes; [`Function`], which adds a configuration space and an MSI-X table for hosts that want to
//! enumerate; [`Switches`] and [`Presence`], which faults on demand are made of; [`Bench`], a host for tests.
//!
//! The trait could have lent slices of host memory, which saves a copy. It copies instead: a slice that a driver's
//! CPU writes at the same time is no Rust slice, and with copies only the host has to know how memory is reached.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod attention;
mod bench;
mod chance;
mod config;
mod fault_injection;
mod function;
mod gate;
mod host;
mod losses;
mod model;
mod msix;
mod nap;
mod port;
mod presence;
#[cfg(test)]
mod races;
mod text;

/// Where modules that are also tried with other atomics take theirs from.
mod atomic {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
}

pub use attention::{Attention, Inbox, Rest};
pub use bench::{Bench, PAGE_BYTES};
pub use chance::Chance;
pub use config::{CONFIG_BYTES, CONFIG_EXTENDED_BYTES};
pub use fault_injection::{FaultKind, Rate, Rule, RuleError, Switches};
pub use function::Function;
pub use host::{DmaError, Host};
pub use losses::Counter;
pub use model::{AlreadyAttached, Bar, BarKind, ClassCode, Model, MsixLayout, PciIdentity};
pub use msix::{Message, MsixTable};
pub use port::Port;
pub use presence::Presence;
pub use text::{
    DurationError, SizeError, ValueError, parse_duration, parse_number, parse_size, parse_wait,
    parse_yes_or_no,
};
