//! [`NetError`]: an error of a device. [`Refusal`]: the reason why a frame was not sent.

use core::fmt;

use coppice_rref::{Flat, Shareable};

use crate::MacAddr;

/// An error of a network device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum NetError {
    /// The depth is zero, or more than the device supports.
    Depth {
        /// The requested depth.
        depth: u32,
        /// The largest depth.
        most: u32,
    },
    /// All queues are open.
    NoQueue {
        /// The number of queues.
        queues: u32,
    },
    /// The station address is a group address or zero.
    Address {
        /// The requested address.
        mac: MacAddr,
    },
    /// The multicast address is no group address.
    Group {
        /// The requested address.
        mac: MacAddr,
    },
    /// The configuration lists more groups than the device can filter by.
    Groups {
        /// The requested number of groups.
        groups: u32,
        /// The largest number of groups.
        most: u32,
    },
    /// The MTU is out of range.
    Mtu {
        /// The requested MTU.
        mtu: u32,
        /// The smallest MTU.
        least: u32,
        /// The largest MTU.
        most: u32,
    },
    /// The device misbehaves, and a reset did not help.
    Device {
        /// The offset of the register that showed the fault.
        register: u32,
        /// The value of that register.
        value: u32,
    },
    /// There is no driver.
    Gone {
        /// The time that the shadow waited for one.
        waited_ns: u64,
    },
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Depth { depth, most } => write!(f, "a queue of {depth} packets: 1 to {most} are possible"),
            Self::NoQueue { queues } => write!(f, "all {queues} queues are open"),
            Self::Address { mac } => write!(f, "{mac} is no station address"),
            Self::Group { mac } => write!(f, "{mac} is no multicast address"),
            Self::Groups { groups, most } => {
                write!(f, "{groups} multicast groups: at most {most} are possible")
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

/// The reason why a frame was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The frame is shorter than an Ethernet header.
    TooShort,
    /// The frame is longer than the MTU or than its packets, or is in more packets than the device or the
    /// batch takes.
    TooLong,
    /// The frame continues in a packet that is missing.
    Incomplete,
    /// The device does not support the requested offload, or the head is inconsistent.
    Offload,
    /// A reason of a driver that was built with more of them than this crate.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "the frame is too short",
            Self::TooLong => "the frame is too long",
            Self::Incomplete => "the rest of the frame is missing",
            Self::Offload => "the device does not support the frame's offload request",
            Self::Unknown => "the frame is refused",
        })
    }
}
