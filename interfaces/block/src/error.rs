//! [`BlockError`]: the reason why a request failed, and its encoding in a request's head.

use core::fmt;

use coppice_rref::{Flat, Shareable};

/// The reason why a request failed.
///
/// `status` is the device's own code; in NVM Express the status field of a completion without the phase tag
/// (Base Specification 2.0, "Status Field Definition"): status code in bits 7:0, its type in 10:8.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum BlockError {
    /// The range exceeds the disk.
    LbaOutOfRange {
        /// The first block of the request.
        lba: u64,
        /// The number of blocks of the request.
        blocks: u32,
        /// The number of blocks of the disk.
        capacity: u64,
    },
    /// The request has more blocks than one request may have, or none.
    TooLarge {
        /// The number of blocks of the request.
        blocks: u32,
        /// The largest number of blocks.
        most: u32,
    },
    /// The data buffer is smaller than the blocks of the request.
    BufferTooSmall {
        /// The size of the blocks in bytes.
        bytes: u64,
        /// The size of the buffer in bytes.
        capacity: u64,
    },
    /// The disk does not support the operation, or there is no operation of that number.
    NotSupported {
        /// The number of the operation.
        operation: u8,
    },
    /// The queue has its full depth of requests in flight.
    QueueFull {
        /// The depth of the queue.
        depth: u32,
    },
    /// The medium has lost the data, or cannot store them.
    Media {
        /// The first block of the request.
        lba: u64,
        /// The device's status code.
        status: u16,
    },
    /// The disk or these blocks are read-only.
    WriteProtected {
        /// The first block of the request.
        lba: u64,
    },
    /// The device reports an internal failure.
    DeviceFault {
        /// The device's status code.
        status: u16,
    },
    /// The device did not complete the request in time, and the driver took the request back from it.
    TimedOut {
        /// The time that the driver waited.
        after_ns: u64,
    },
    /// The request was taken back before it was completed. It may have taken effect.
    Aborted {
        /// The device's status code.
        status: u16,
    },
    /// The disk is gone: there was no driver for it, or only one for another disk.
    Gone {
        /// The time that the shadow waited for a driver.
        waited_ns: u64,
    },
    /// An error of a callee that was built with more error codes than this crate.
    Unknown {
        /// The code.
        code: u16,
    },
}

/// The encoding of an error in a head: its code and up to three values.
pub(super) type Encoded = (u16, [u64; 3]);

/// The first error code, above the codes of [`crate::Status`].
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

    /// Decodes any bits to some error, since a borrower may have died halfway. Values that are too large are
    /// truncated.
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
            Self::NotSupported { operation } => write!(f, "the disk does not support operation {operation}"),
            Self::QueueFull { depth } => write!(f, "{depth} requests are in flight: the queue is full"),
            Self::Media { lba, status } => write!(f, "the medium failed at block {lba} (status {status:#x})"),
            Self::WriteProtected { lba } => write!(f, "block {lba} is write protected"),
            Self::DeviceFault { status } => write!(f, "the device failed (status {status:#x})"),
            Self::TimedOut { after_ns } => {
                write!(f, "the device did not answer for {} ms", after_ns / 1_000_000)
            }
            Self::Aborted { status } => write!(f, "aborted before completion (status {status:#x})"),
            Self::Gone { waited_ns } => write!(f, "the disk is gone, for {} ms", waited_ns / 1_000_000),
            Self::Unknown { code } => write!(f, "unknown error {code}"),
        }
    }
}

impl core::error::Error for BlockError {}
