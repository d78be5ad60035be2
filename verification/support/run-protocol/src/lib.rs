//! The run protocol: the console lines by which a test system reports to the host.
//!
//! Domains print the lines with [`Display`](core::fmt::Display); `cargo xtask` and the tests of the kernel
//! parse them with `from_console`. Both sides use the types of this crate, so a field has its name in one
//! place. A line has a mark, the version of the protocol, and one object of JSON, whose only name is the kind
//! of the line:
//!
//! ```text
//! @demo/1 {"check":{"name":"bytes wrong","value":0}}
//! ```
//!
//! - [`trial`]: `@demo`, a driver that is crashed under load.
//! - [`soak`]: `@soak`, domains that are ended and restarted under load.
//! - [`bench`]: `@bench`, the figures of a benchmark.
//! - [`integrity`]: `@integrity`, a disk under test.
//! - [`faults`]: the words by which the host selects the faults of a trial.
//! - [`scenario`]: the outcomes of scenarios, as plain text.
//!
//! The journal of a disk is a format of its own (`coppice-disk-oracle`), since it has to survive a cut at any
//! byte.
//!
//! # Changes of the protocol
//!
//! A field that is added, removed or renamed is a new [`VERSION`]. A line of another version, or of none, is
//! an error of the reader and is never skipped.
//!
//! The JSON is written and parsed here and not by `serde_json`, which contains unsafe code: a domain may not
//! link that.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

pub mod bench;
pub mod faults;
pub mod integrity;
mod json;
mod line;
mod record;
pub mod scenario;
pub mod soak;
#[cfg(test)]
mod tests;
pub mod trial;

pub use json::{JsonError, MAX_TEXT};
pub use line::{LineError, MAX_LINE, VERSION};
