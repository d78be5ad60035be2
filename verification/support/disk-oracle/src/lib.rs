//! An oracle for disk contents: a test records its writes in a [`DiskOracle`] and checks every block that it
//! reads against it.
//!
//! - [`Stamp`]: the header of each written block. It names the block's address and its write, and a checksum
//!   covers the whole block;
//! - [`DiskOracle`]: for each block, the set of values that a read may return *now*, and the set that may
//!   remain *after a power loss*;
//! - [`journal`]: the second set as lines of text, so that a host that survives the machine can check the
//!   disk.
//!
//! The library knows no kernel: the integrity load links it, and so does the host tool that inspects a disk
//! afterwards. The rules are those of `interfaces/block/src/lib.rs`: concurrent requests have no order, a
//! write may take effect more than once until it completes, and a flush covers the writes that completed
//! before its submission.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod block;
pub mod journal;
mod mismatch;
mod oracle;
mod stamp;

pub use block::VALUES;
pub use mismatch::{Kind, Mismatch};
pub use oracle::{
    Allowed, DiskOracle, Durable, Extent, Flush, Full, Mode, ReadExpectation, Refusal, Write, WriteOutcome,
};
pub use stamp::{Content, Stamp};
