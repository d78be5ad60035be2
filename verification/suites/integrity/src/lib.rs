//! The data integrity harness: writes to a disk from several threads, verifies every read, and proves at the end every write
//! that was acknowledged.
//!
//! Each thread has a queue of its own ([`desk`]) and asks of the disk what chance says ([`writer`]): reads, writes, some of them FUA,
//! zeroes, deallocations and flushes, of any number of blocks at any block, over and across what the others do. What a block may
//! hold at any moment the ledger says ([`coppice_disk_oracle`]), which all share ([`book`]). Most writes have their blocks to themselves while they are under
//! way, so that one value is right afterwards; some on purpose do not, and then either is right until a read has said which it is.
//!
//! What is found ([`tally`]): blocks that hold what they must not, by kind; answers that come twice or to nothing that was
//! asked; requests that are never answered. An error that the disk reports is counted and is no wrong answer; a write that failed
//! may have happened or not.
//!
//! A library, for whoever wants to have a disk loaded while something else goes on ([`Load`]), and a domain, which does that
//! until its time is over and ends the system.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod book;
mod desk;
mod domain;
mod load;
mod options;
mod tally;
mod writer;

pub use book::Sink;
pub use coppice_disk_oracle::{Extent, Kind, Wrong};
pub use domain::{IntegrityDomain, Wires};
pub use load::{Load, LoadError, Report, console};
pub use options::{Options, Senseless};
pub use tally::{Counters, ERRORS};
