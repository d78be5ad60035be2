//! Memory that may outlive the domain that made it.
//!
//! - [`RRef`]: an owned reference to one object on the shared heap. Moving it across a domain boundary moves
//!   ownership with one store; nothing is copied.
//! - [`Shareable`]: the types that may live there and cross; [`Flat`]: those without references inside;
//!   [`AnyBits`]: those of them for which any bytes are a valid value.
//! - [`Bytes`], [`Buffer`]: byte buffers with a length, and with a head and a size chosen at run time.
//! - [`RRefArray`], [`RRefDeque`], [`LentDeque`]: containers of references.
//! - [`Loan`] and [`Lent`]: an object that a callee may keep past the call, and that returns if the callee
//!   dies; [`Subloan`]: the same for an object that a callee lends on.
//! - [`heap`]: the allocator behind them, with the sweep that takes back everything that a dead domain owned.
//!   The kernel runs it; a domain only reaches it through [`coppice_abi::Services`].
//!
//! docs/rref.md numbers the invariants (R1 to R11, S1 to S5) that the `SAFETY` comments name.

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

// The derive macros name this crate by its path, also inside it.
extern crate self as coppice_rref;

mod buffer;
mod bytes;
mod containers;
mod header;
pub mod heap;
mod loan;
// The model and its mock kernel are test code, so they lie outside the trusted sources.
#[cfg(test)]
#[path = "../model/mod.rs"]
mod model;
mod payer;
mod rref;
mod shareable;
#[cfg(test)]
mod tests;
mod types;

pub use buffer::{Buffer, MAX_BUFFER};
pub use bytes::{Bytes, TooLong};
pub use containers::{Deque, LentDeque, RRefArray, RRefDeque, Reference};
pub use coppice_abi::{Content, Fingerprint, fingerprint};
pub use coppice_interface_macros::{AnyBits, Flat, Shareable};
pub use header::Header;
pub use loan::{Lent, Loan, Subloan};
pub use payer::{Payer, Quotas};
pub use rref::{RRef, refused};
pub use shareable::{AnyBits, Flat, Shareable};
pub use types::{DropValue, TypeEntry, VisitRoot, VisitRoots};
