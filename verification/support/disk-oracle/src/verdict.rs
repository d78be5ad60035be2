//! [`Wrong`]: a block that holds what it may not.

use core::fmt;

use crate::ledger::Allowed;
use crate::stamp::Content;

/// How a block is wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// Parts of it are from elsewhere.
    Torn,
    /// The same, in a read that was under way together with a write to it: the disk's reads and writes of one block are not atomic.
    Mixed,
    /// It is an earlier write's, which a later one had replaced: that one was lost, or an old one done again.
    Stale,
    /// It belongs to another block.
    Misplaced,
    /// It says that it is of a write that was never submitted to that block.
    Invented,
    /// It is erased, and nobody had it erased.
    Erased,
    /// It was written by nobody of this run.
    Foreign,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Torn, Self::Mixed, Self::Stale, Self::Misplaced, Self::Invented, Self::Erased, Self::Foreign];

    /// One word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Mixed => "mixed",
            Self::Stale => "stale",
            Self::Misplaced => "misplaced",
            Self::Invented => "invented",
            Self::Erased => "erased",
            Self::Foreign => "foreign",
        }
    }
}

/// A block that holds what it may not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrong {
    /// Which block.
    pub lba: u64,
    /// How.
    pub kind: Kind,
    /// What it holds.
    pub found: Content,
    /// One of the values that it may hold: the latest.
    pub expected: Allowed,
}

impl Wrong {
    /// What is wrong with a block of run `run`, of whose writes `last` is the latest, that holds `found`, which it may not.
    pub fn new(run: u64, last: u64, lba: u64, found: Content, expected: Allowed) -> Self {
        let kind = match found {
            Content::Torn { run: its, .. } if its == run => Kind::Torn,
            Content::Stamped(stamp) if stamp.run == run => match stamp {
                _ if stamp.lba != lba => Kind::Misplaced,
                _ if stamp.sequence > last => Kind::Invented,
                _ => Kind::Stale,
            },
            Content::Zeroes | Content::Ones => Kind::Erased,
            Content::Torn { .. } | Content::Stamped(_) | Content::Foreign => Kind::Foreign,
        };
        Self { lba, kind, found, expected }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lba, kind, found, expected } = self;
        write!(f, "block {lba} is {}: {found}; allowed is {expected}", kind.name())
    }
}
