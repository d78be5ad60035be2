//! [`DiskError`].

use core::fmt;

use coppice_block::{BlockError, OpenError};
use coppice_interfaces::RpcError;

/// An error of a disk operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// A call failed. The requests in flight are abandoned, and freed when they return.
    Rpc(RpcError),
    /// The device did not open a queue.
    Open(OpenError),
    /// A piece of the operation failed.
    Block {
        /// The first block of the first such piece.
        lba: u64,
        /// The device's error.
        error: BlockError,
    },
    /// The driver returned a request with another tag than it was sent with. The piece counts as failed.
    ChangedTag {
        /// The tag with which the request was sent.
        sent: u64,
        /// The tag with which it came back.
        returned: u64,
    },
    /// The driver returned a request that is none of those in flight.
    UnknownRequest {
        /// The tag of that request.
        tag: u64,
    },
    /// The queue belongs to another thread.
    Busy,
    /// The length is not a multiple of the block size.
    Unaligned {
        /// The length, as given.
        bytes: u64,
        /// The size of a block in bytes.
        block_bytes: u32,
    },
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Block { lba, error } => write!(f, "at block {lba}: {error}"),
            Self::ChangedTag { sent, returned } => {
                write!(f, "the driver returned the request with tag {sent} under tag {returned}")
            }
            Self::UnknownRequest { tag } => {
                write!(f, "the driver returned a request with tag {tag} that is not in flight")
            }
            Self::Busy => f.write_str("the disk belongs to another thread"),
            Self::Unaligned { bytes, block_bytes } => {
                write!(f, "{bytes} bytes are not a multiple of the block size of {block_bytes}")
            }
        }
    }
}

impl core::error::Error for DiskError {}

impl From<RpcError> for DiskError {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<OpenError> for DiskError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}
