//! The data integrity harness: writes to a disk from several threads, verifies every read, and checks every
//! acknowledged write at the end.
//!
//! Each thread has a queue of its own ([`queue_client`]) and submits random requests ([`writer`]): reads,
//! writes, some of them FUA, zeroes, deallocations and flushes, of any number of blocks at any block,
//! overlapping those of the other threads. The disk oracle ([`coppice_disk_oracle`]) knows the permitted
//! content of each block at any moment; all threads share it ([`load_state`]). Most writes have their blocks
//! to themselves while they are in flight, so that one value is right afterwards. Some overlap on purpose,
//! and then either value is right until a read has decided it.
//!
//! The harness finds ([`tally`]): blocks with wrong content, by kind; requests that complete twice, and
//! completions without a request; requests that never complete. An error that the disk reports is counted and
//! is not a wrong answer; a failed write may have happened or not.
//!
//! The crate is a library that loads a disk during another test ([`Load`]), and a domain that runs a load for
//! a given time and ends the system.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod domain;
mod load;
mod load_state;
mod options;
mod queue_client;
mod tally;
mod writer;

pub use coppice_disk_oracle::{Extent, Kind, Mismatch};
pub use domain::{IntegrityDomain, Wires};
pub use load::{Load, LoadError, Report, console};
pub use load_state::Sink;
pub use options::{BadOptions, Options};
pub use tally::{Counters, ERRORS};
