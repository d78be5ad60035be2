//! [`Mismatch`]: a block whose content is not allowed.

use core::fmt;

use crate::oracle::Allowed;
use crate::stamp::Content;

/// The kind of a mismatch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// The block is a mix of several contents.
    Torn,
    /// The block is a mix, and a write to it was in flight during the read: the disk's reads and writes of
    /// one block are not atomic.
    Mixed,
    /// The data of an earlier write that a later one had replaced: the later one was lost, or the earlier one
    /// repeated.
    Stale,
    /// The data of another block.
    Misplaced,
    /// The stamp of a write that was never submitted to that block.
    NeverWritten,
    /// Zeroes or ones, but the block was not erased.
    Erased,
    /// Data of no write of this run.
    Foreign,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] = [
        Self::Torn,
        Self::Mixed,
        Self::Stale,
        Self::Misplaced,
        Self::NeverWritten,
        Self::Erased,
        Self::Foreign,
    ];

    /// Returns the kind as one word, for reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Mixed => "mixed",
            Self::Stale => "stale",
            Self::Misplaced => "misplaced",
            Self::NeverWritten => "invented",
            Self::Erased => "erased",
            Self::Foreign => "foreign",
        }
    }
}

/// A block whose content is not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// The address of the block.
    pub lba: u64,
    /// The kind of the mismatch.
    pub kind: Kind,
    /// The content that was read.
    pub found: Content,
    /// The latest allowed value.
    pub expected: Allowed,
}

impl Mismatch {
    /// Classifies `found`, a content that block `lba` must not have in run `run`, whose latest write is
    /// `last`.
    pub fn new(run: u64, last: u64, lba: u64, found: Content, expected: Allowed) -> Self {
        let kind = match found {
            Content::Torn { run: its, .. } if its == run => Kind::Torn,
            Content::Stamped(stamp) if stamp.run == run => match stamp {
                _ if stamp.lba != lba => Kind::Misplaced,
                _ if stamp.sequence > last => Kind::NeverWritten,
                _ => Kind::Stale,
            },
            Content::Zeroes | Content::Ones => Kind::Erased,
            Content::Torn { .. } | Content::Stamped(_) | Content::Foreign => Kind::Foreign,
        };
        Self { lba, kind, found, expected }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lba, kind, found, expected } = self;
        write!(f, "block {lba} is {}: {found}; allowed is {expected}", kind.name())
    }
}
