//! Drives Intel's 82599 and X540 (10 Gigabit Ethernet), and the 82576 (1 Gigabit), whose descriptors are the same.
//!
//! A [`Controller`] is made of a [`coppice_hardware::Device`] and nothing else: the library knows no kernel and no domain. It gives
//! [`Queue`]s, each with a transmit ring, a receive ring and an interrupt vector, that are used from one thread each and share
//! nothing on the path of a packet. What a packet is, the user says by a [`PacketFormat`].
//!
//! Written from the 82599 datasheet (331520) and the 82576 datasheet, which the comments cite. docs/drivers/ixgbe.md has the order
//! of initialisation, the rules of the rings, and what is not supported.
//!
//! What the device says is not trusted: a length beyond the buffer, a descriptor that it was not given, a register that never
//! changes are a [`Fault`], after which nothing is taken from it until it was reset. Memory that it may still write to is not
//! given back to anybody before that.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

extern crate alloc;

mod chip;
mod config;
mod controller;
mod descriptor;
mod error;
mod format;
mod igb;
mod ixgbe;
mod losses;
mod port;
mod queue;
mod receive;
mod registers;
mod shared;
mod statistics;
mod transmit;

pub use config::{Config, Groups, HashFields};
pub use controller::{Controller, Info, Link, Options, QueueOptions};
pub use descriptor::Received;
pub use error::{Fault, IxgbeError, Step};
pub use format::{Offload, PacketFormat, Refusal, Transport};
pub use losses::Losses;
pub use queue::Queue;
pub use statistics::Statistics;
