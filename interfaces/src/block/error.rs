//! [`BlockError`]: why a request was not done, and how a request's head holds it.

use core::fmt;

use coppice_rref::{Flat, Shareable};

/// Why a request was not done.
///
/// `status` is a device's own number for it; in NVM Express the status field of a completion without the phase tag (Base
/// Specification 2.0, "Status Field Definition"): status code in bits 7:0, its type in 10:8.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum BlockError {
    /// No such blocks.
    LbaOutOfRange {
        /// The first block that was asked for.
        lba: u64,
        /// How many.
        blocks: u32,
        /// How many the disk has.
        capacity: u64,
    },
    /// More blocks than one request may have, or none.
    TooLarge {
        /// How many were asked for.
        blocks: u32,
        /// How many there may be.
        most: u32,
    },
    /// The request has fewer bytes than its blocks.
    BufferTooSmall {
        /// As many as its blocks have.
        bytes: u64,
        /// As many as it has.
        capacity: u64,
    },
    /// The disk cannot do that, or there is no such operation.
    NotSupported {
        /// The operation's number.
        operation: u8,
    },
    /// As many requests are under way as the queue has room for.
    QueueFull {
        /// How many these are.
        depth: u32,
    },
    /// The medium has lost the data, or does not take them.
    Media {
        /// The first block of the request.
        lba: u64,
        /// The device's word for it.
        status: u16,
    },
    /// The disk, or these blocks, can only be read.
    WriteProtected {
        /// The first block of the request.
        lba: u64,
    },
    /// The device says that it failed.
    DeviceFault {
        /// The device's word for it.
        status: u16,
    },
    /// The device did not answer in time, and was made to give the request back.
    TimedOut {
        /// How long that was waited for.
        after_ns: u64,
    },
    /// The request was taken back before it was done. It may have taken effect.
    Aborted {
        /// The device's word for it.
        status: u16,
    },
    /// The disk is gone: there was no driver for it for this long, or not for the same disk.
    Gone {
        /// How long was waited for one.
        waited_ns: u64,
    },
    /// Something else, by somebody who knows more errors than this build.
    Unknown {
        /// Its number.
        code: u16,
    },
}

/// How a head holds an error: its number, and up to three values.
pub(super) type Encoded = (u16, [u64; 3]);

/// The numbers begin behind those of [`super::Status`].
const FIRST: u16 = 16;

impl BlockError {
    pub(super) const fn encode(self) -> Encoded {
        match self {
            Self::LbaOutOfRange { lba, blocks, capacity } => (FIRST, [lba, blocks as u64, capacity]),
            Self::TooLarge { blocks, most } => (FIRST + 1, [blocks as u64, most as u64, 0]),
            Self::BufferTooSmall { bytes, capacity } => (FIRST + 2, [bytes, capacity, 0]),
            Self::NotSupported { operation } => (FIRST + 3, [operation as u64, 0, 0]),
            Self::QueueFull { depth } => (FIRST + 4, [depth as u64, 0, 0]),
            Self::Media { lba, status } => (FIRST + 5, [lba, status as u64, 0]),
            Self::WriteProtected { lba } => (FIRST + 6, [lba, 0, 0]),
            Self::DeviceFault { status } => (FIRST + 7, [status as u64, 0, 0]),
            Self::TimedOut { after_ns } => (FIRST + 8, [after_ns, 0, 0]),
            Self::Aborted { status } => (FIRST + 9, [status as u64, 0, 0]),
            Self::Gone { waited_ns } => (FIRST + 10, [waited_ns, 0, 0]),
            Self::Unknown { code } => (code, [0; 3]),
        }
    }

    /// Any bits are some error: a borrower may have died halfway. Values that are too long are cut.
    pub(super) const fn decode((code, [first, second, third]): Encoded) -> Self {
        const LAST: u16 = FIRST + 10;
        if code < FIRST || code > LAST {
            return Self::Unknown { code };
        }
        match code - FIRST {
            0 => Self::LbaOutOfRange { lba: first, blocks: second as u32, capacity: third },
            1 => Self::TooLarge { blocks: first as u32, most: second as u32 },
            2 => Self::BufferTooSmall { bytes: first, capacity: second },
            3 => Self::NotSupported { operation: first as u8 },
            4 => Self::QueueFull { depth: first as u32 },
            5 => Self::Media { lba: first, status: second as u16 },
            6 => Self::WriteProtected { lba: first },
            7 => Self::DeviceFault { status: first as u16 },
            8 => Self::TimedOut { after_ns: first },
            9 => Self::Aborted { status: first as u16 },
            _ => Self::Gone { waited_ns: first },
        }
    }
}

impl fmt::Display for BlockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LbaOutOfRange { lba, blocks, capacity } => {
                write!(f, "{blocks} blocks from {lba} on a disk of {capacity}")
            }
            Self::TooLarge { blocks, most } => {
                write!(f, "{blocks} blocks at once: between 1 and {most} are possible")
            }
            Self::BufferTooSmall { bytes, capacity } => {
                write!(f, "a buffer of {capacity} bytes for {bytes}")
            }
            Self::NotSupported { operation } => write!(f, "the disk cannot do operation {operation}"),
            Self::QueueFull { depth } => write!(f, "{depth} requests are under way, and no more fit"),
            Self::Media { lba, status } => write!(f, "the medium failed at block {lba} (status {status:#x})"),
            Self::WriteProtected { lba } => write!(f, "block {lba} is write protected"),
            Self::DeviceFault { status } => write!(f, "the device failed (status {status:#x})"),
            Self::TimedOut { after_ns } => {
                write!(f, "the device did not answer for {} ms", after_ns / 1_000_000)
            }
            Self::Aborted { status } => write!(f, "taken back before it was done (status {status:#x})"),
            Self::Gone { waited_ns } => write!(f, "the disk is gone, for {} ms", waited_ns / 1_000_000),
            Self::Unknown { code } => write!(f, "error {code}, which this build does not know"),
        }
    }
}

impl core::error::Error for BlockError {}
