//! [`NetError`]: why a device does not do what it was told. [`Refusal`]: why a frame was not sent.

use core::fmt;

use coppice_rref::{Flat, Shareable};

use super::MacAddr;

/// Why a device does not do what it was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum NetError {
    /// A queue cannot be that deep.
    Depth {
        /// As asked for.
        depth: u32,
        /// The most.
        most: u32,
    },
    /// All queues are open.
    NoQueue {
        /// How many there are.
        queues: u32,
    },
    /// No station can have that address: it names a group, or nobody.
    Address {
        /// As asked for.
        mac: MacAddr,
    },
    /// That address names no group.
    Group {
        /// As asked for.
        mac: MacAddr,
    },
    /// More groups than can be told one by one.
    Groups {
        /// As asked for.
        groups: u32,
        /// The most.
        most: u32,
    },
    /// Frames cannot be that short or long.
    Mtu {
        /// As asked for.
        mtu: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// The device does not do what it should, and was reset in vain. `register` names where it was seen.
    Device {
        /// Offset of the register.
        register: u32,
        /// What it held.
        value: u32,
    },
    /// There was no driver for so long.
    Gone {
        /// How long was waited for one.
        waited_ns: u64,
    },
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth { depth, most } => write!(f, "a queue of {depth} packets: 1 to {most} are possible"),
            Self::NoQueue { queues } => write!(f, "all of {queues} queues are open"),
            Self::Address { mac } => write!(f, "{mac} is no address for a station"),
            Self::Group { mac } => write!(f, "{mac} is no group of stations"),
            Self::Groups { groups, most } => {
                write!(f, "{groups} groups: at most {most} can be told one by one")
            }
            Self::Mtu { mtu, least, most } => write!(f, "an MTU of {mtu}: {least} to {most} are possible"),
            Self::Device { register, value } => {
                write!(f, "the device does not work: register {register:#x} holds {value:#x}")
            }
            Self::Gone { waited_ns } => write!(f, "there was no driver for {} ms", waited_ns / 1_000_000),
        }
    }
}

impl core::error::Error for NetError {}

/// Why a frame was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is shorter than an Ethernet header.
    TooShort,
    /// It is longer than the device was set up for, or than its packets, or is in more packets than the device or the batch takes.
    TooLong,
    /// It goes on in a packet that is not there.
    Incomplete,
    /// The device cannot do what the head asks for, or the head contradicts itself.
    Offload,
    /// Something else, by somebody who knows more reasons than this build.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "the frame is too short",
            Self::TooLong => "the frame is too long",
            Self::Incomplete => "the rest of the frame is missing",
            Self::Offload => "the device cannot do what is asked for with the frame",
            Self::Unknown => "the frame is refused",
        })
    }
}
