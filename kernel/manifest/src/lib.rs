//! System manifests: the domains of a system and their connections.
//!
//! A manifest is written by hand as `systems/<name>.toml`, read and checked on the host ([`TomlManifest`],
//! feature `toml`), and packed into the boot archive as `postcard` ([`Manifest::encode`]). The kernel decodes
//! it ([`Manifest::decode`]) and runs the same [`Manifest::validate`], so that it trusts nothing that it has
//! not checked itself. The archive holds postcard and not TOML, so that the kernel needs no parser of text.
//!
//! The archive also carries [`Symbols`], an image's tables for backtraces, which the host writes and the
//! kernel reads.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod check;
mod device;
mod duration;
mod error;
mod manifest;
mod order;
mod parents;
#[cfg(feature = "toml")]
mod shadow;
mod size;
mod symbols;
#[cfg(feature = "toml")]
mod toml;

pub use check::{DEADLINE_LIMIT_NS, DOMAIN_LIMIT};
pub use device::{DeviceSelector, MachineDevice, SelectorError};
pub use duration::{DurationError, Nanoseconds, parse_duration};
pub use error::{DecodeError, Key, ManifestError, ManifestPart, Problem};
pub use manifest::{
    CPU_PERCENT, DEADLINE_NS, Domain, KERNEL, LAST_PRIORITY, LOG_RATE, Manifest, NORMAL_PRIORITY, PAGE_BYTES,
    Policy, Restart, START_DEADLINE_NS,
};
pub use parents::Quota;
pub use size::{SizeError, parse_size};
pub use symbols::{Base, Row, Rule, Symbols, SymbolsError, encode_symbols};
#[cfg(feature = "toml")]
pub use toml::{TomlError, TomlManifest, TomlProblem};
