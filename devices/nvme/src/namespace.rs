//! A namespace: a medium cut into blocks (NVM, section 2.1).

use crate::cache::Medium;
use crate::config::FORMATS;

/// A namespace, which exists and is attached for as long as the device does.
pub(crate) struct Namespace {
    pub(crate) medium: Medium,
    /// Index of the LBA format.
    pub(crate) format: usize,
}

/// A range of blocks that lies within its namespace, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Namespace {
    pub(crate) fn block_bytes(&self) -> u64 {
        u64::from(FORMATS[self.format])
    }

    /// NSZE: blocks that are too few to fill one are left out, which a format to a larger block may leave over.
    pub(crate) fn blocks(&self) -> u64 {
        self.medium.bytes() / self.block_bytes()
    }

    /// `None` if not all of it exists.
    pub(crate) fn extent(&self, first: u64, blocks: u64) -> Option<Extent> {
        let end = first.checked_add(blocks)?;
        let bytes = self.block_bytes();
        (end <= self.blocks()).then(|| Extent { offset: first * bytes, bytes: blocks * bytes })
    }
}
