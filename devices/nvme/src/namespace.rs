//! [`Namespace`], a disk divided into blocks (NVM, section 2.1).

use crate::cache::CachedDisk;
use crate::config::FORMATS;

/// A namespace. It exists and is attached as long as the device exists.
pub(crate) struct Namespace {
    pub(crate) disk: CachedDisk,
    /// The index of the LBA format in [`FORMATS`].
    pub(crate) format: usize,
}

/// A range of blocks inside of a namespace, in bytes.
#[derive(Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

impl Namespace {
    pub(crate) fn block_bytes(&self) -> u64 {
        u64::from(FORMATS[self.format])
    }

    /// NSZE. A remainder smaller than a block, which a format to larger blocks may leave, is not counted.
    pub(crate) fn blocks(&self) -> u64 {
        self.disk.bytes() / self.block_bytes()
    }

    /// Returns the range of `blocks` from `first` on; `None` if it exceeds the namespace.
    pub(crate) fn extent(&self, first: u64, blocks: u64) -> Option<Extent> {
        let end = first.checked_add(blocks)?;
        let bytes = self.block_bytes();
        (end <= self.blocks()).then(|| Extent { offset: first * bytes, bytes: blocks * bytes })
    }
}
