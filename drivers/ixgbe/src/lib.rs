//! A driver for Intel's 82599 and X540 (10 Gigabit Ethernet), and the 82576 (1 Gigabit), whose descriptors
//! are the same.
//!
//! A [`Controller`] is built from a [`coppice_hardware::Device`] alone: the library knows no kernel and no
//! domain. It opens [`Queue`]s, each with a transmit ring, a receive ring and an interrupt vector. Each queue
//! is used by one thread at a time, and queues share nothing on the path of a packet.
//!
//! A *packet* is the client's object with its memory, described by a [`PacketFormat`]. It is called so from
//! the ring to the client. A *frame* is an Ethernet frame; a packet holds a frame, a part of one, or none,
//! when it is spare.
//!
//! Written from the 82599 datasheet (331520) and the 82576 datasheet, which the comments cite.
//! docs/drivers/ixgbe.md describes the order of initialisation, the rules of the rings, and the unsupported
//! features.
//!
//! The device is not trusted. A length beyond the packet, a descriptor that the device was not given or a
//! register that never changes is a [`Fault`], after which the driver ignores the device until it has been
//! reset. Memory that the device may still write to is not freed before that.

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
mod identify;
mod igb;
mod info;
mod ixgbe;
mod losses;
mod options;
mod queue;
mod receive;
mod register_block;
mod registers;
mod shared;
mod statistics;
mod transmit;

pub use config::{Config, Groups, HashFields};
pub use controller::Controller;
pub use descriptor::Received;
pub use error::{Fault, IxgbeError, Step};
pub use format::{Offload, PacketFormat, Refusal, Transport};
pub use info::{Info, Link};
pub use losses::Losses;
pub use options::{Options, QueueOptions};
pub use queue::Queue;
pub use statistics::Statistics;
