//! What a disk may hold: whoever writes to a disk keeps a [`Ledger`] of it, and holds every block that it reads against it.
//!
//! - [`Stamp`]: what each block that is written carries, so that it says itself where it belongs, which write it is of, and
//!   whether all of it is there;
//! - [`Ledger`]: for each block the values that it may have *now*, and those that it may have *after the power has gone*;
//! - [`journal`]: the second set in lines of text, so that whoever outlives the machine can hold the disk against it.
//!
//! A library that knows no kernel: the integrity load is linked with it, and so is the tool that looks at a disk afterwards.
//! The rules are those of `interfaces/block/src/lib.rs`: requests under way at the same time have no order, a write may take
//! effect more than once until it is answered, and a flush covers what was answered before it was submitted.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod block;
pub mod journal;
mod ledger;
mod stamp;
mod verdict;

pub use block::VALUES;
pub use ledger::{Allowed, Answer, Durable, Extent, Flush, Full, Glimpse, Ledger, Mode, Refusal, Write};
pub use stamp::{Content, Stamp};
pub use verdict::{Kind, Wrong};
