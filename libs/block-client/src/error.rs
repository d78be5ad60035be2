//! [`DiskError`].

use core::fmt;

use coppice_block::{BlockError, OpenError};
use coppice_interfaces::RpcError;

/// Why a disk did not do what it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// Nobody answered. Requests under way come back to nobody and are freed.
    Rpc(RpcError),
    /// The device has no queue for us.
    Open(OpenError),
    /// A piece was not done.
    Block {
        /// Where the first such piece begins.
        lba: u64,
        /// Why not.
        error: BlockError,
    },
    /// The queue is another thread's.
    Busy,
    /// No whole number of blocks.
    Unaligned {
        /// As given.
        bytes: u64,
        /// Bytes of a block.
        block_bytes: u32,
    },
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Block { lba, error } => write!(f, "at block {lba}: {error}"),
            Self::Busy => f.write_str("the disk is another thread's"),
            Self::Unaligned { bytes, block_bytes } => {
                write!(f, "{bytes} bytes are no whole number of blocks of {block_bytes}")
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
