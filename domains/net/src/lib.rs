//! What a client of a network device has: packets that circulate, and a queue to pass them through.
//!
//! - [`Pool`] makes packets and lends each of them once. It keeps the claims, and gets back what a crash took out of circulation.
//! - [`Port`] is a queue of a device with a pool behind it. What it carries are whole batches: frames are written and read where they
//!   lie. It goes on after crashes, of a driver behind a shadow and of a driver that it is wired to itself.
//!
//! A port is one thread's, as the queue behind it: the thread that uses it first.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod appetite;
mod error;
mod pool;
mod port;
mod reopen;

pub use error::PortError;
pub use pool::{Audit, Pool};
pub use port::{Accounts, Missing, Port, Turn};
