//! [`Tally`]: what has happened so far, counted by all threads.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_block::BlockError;
use coppice_disk_oracle::{Kind, Wrong};
use coppice_runtime::sync::Mutex;

/// How many wrong blocks are kept with what they held; all are counted.
const KEPT: usize = 16;

macro_rules! counts {
    ($($name:ident: $what:literal,)*) => {
        /// Counters of a load. They only grow, each for itself: two of them may be of different moments.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $(#[doc = $what] pub $name: u64,)*
            /// Blocks that hold what they may not, by kind, in the order of [`Kind::ALL`].
            pub wrong: [u64; Kind::ALL.len()],
            /// Requests that were answered with an error, by kind, in the order of [`ERRORS`].
            pub errors: [u64; ERRORS.len()],
        }

        #[derive(Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: Counter,)*
            wrong: [Counter; Kind::ALL.len()],
            errors: [Counter; ERRORS.len()],
            kept: Mutex<Vec<Wrong>>,
        }

        impl Tally {
            pub(crate) fn counters(&self) -> Counters {
                Counters {
                    $($name: self.$name.get(),)*
                    wrong: core::array::from_fn(|kind| self.wrong[kind].get()),
                    errors: core::array::from_fn(|error| self.errors[error].get()),
                }
            }
        }
    };
}

counts! {
    reads: "Reads that were answered with data.",
    writes: "Writes that were done, FUA or not.",
    fua_writes: "Those of them that had FUA.",
    zeroes: "Zeroes that were written.",
    deallocations: "Deallocations that were done.",
    flushes: "Flushes that were done.",
    blocks_verified: "Blocks that were read and compared.",
    blocks_written: "Blocks that were written, zeroes too.",
    mixed: "Blocks that a read found half old and half new while they were written, where that need not be wrong.",
    twice: "Requests that came back twice.",
    unknown: "Answers to nothing that was asked.",
    lost: "Requests that were never answered although the disk lives.",
    unverified: "Blocks that could not be read at the end, however often that was tried.",
    interruptions: "Times that a queue broke off and was opened again: its domain crashed.",
}

/// What [`Counters::errors`] counts.
pub const ERRORS: [&str; 12] = [
    "out of range",
    "too large",
    "buffer too small",
    "not supported",
    "queue full",
    "media",
    "write protected",
    "device fault",
    "timed out",
    "aborted",
    "gone",
    "unknown",
];

fn number(error: &BlockError) -> usize {
    match error {
        BlockError::LbaOutOfRange { .. } => 0,
        BlockError::TooLarge { .. } => 1,
        BlockError::BufferTooSmall { .. } => 2,
        BlockError::NotSupported { .. } => 3,
        BlockError::QueueFull { .. } => 4,
        BlockError::Media { .. } => 5,
        BlockError::WriteProtected { .. } => 6,
        BlockError::DeviceFault { .. } => 7,
        BlockError::TimedOut { .. } => 8,
        BlockError::Aborted { .. } => 9,
        BlockError::Gone { .. } => 10,
        BlockError::Unknown { .. } => 11,
    }
}

/// One count.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tally {
    /// `atomic`: [`crate::Options::atomic`].
    pub(crate) fn wrong(&self, wrong: Wrong, atomic: bool) {
        if wrong.kind == Kind::Mixed && !atomic {
            self.mixed.add(1);
            return;
        }
        let kind = Kind::ALL.iter().position(|&kind| kind == wrong.kind).expect("it is one of all");
        self.wrong[kind].add(1);
        let mut kept = self.kept.lock();
        if kept.len() < KEPT {
            kept.push(wrong);
        }
    }

    pub(crate) fn error(&self, error: &BlockError) {
        self.errors[number(error)].add(1);
    }

    /// The first blocks that were wrong.
    pub(crate) fn kept(&self) -> Vec<Wrong> {
        self.kept.lock().clone()
    }
}

impl Counters {
    /// Requests that were done.
    pub fn requests(&self) -> u64 {
        self.reads + self.writes + self.zeroes + self.deallocations + self.flushes
    }

    /// Blocks that hold what they may not.
    pub fn wrong_blocks(&self) -> u64 {
        self.wrong.iter().sum()
    }

    /// Requests that were answered with an error. The disk said so: that is no wrong answer.
    pub fn failed(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// Whether every promise was kept.
    pub fn is_clean(&self) -> bool {
        self.wrong_blocks() + self.twice + self.unknown + self.lost + self.unverified == 0
    }
}

/// What a wrong block and its like are called, with how many there are: all that are not zero.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong = Kind::ALL.iter().zip(self.wrong).map(|(kind, count)| (kind.name(), count));
        let rest = [
            ("answered twice", self.twice),
            ("answers to nothing", self.unknown),
            ("lost", self.lost),
            ("unverified", self.unverified),
        ];
        write!(f, "{} requests, {} blocks verified", self.requests(), self.blocks_verified)?;
        for (name, count) in wrong.chain(rest).filter(|(_, count)| *count > 0) {
            write!(f, ", {count} {name}")?;
        }
        for (name, count) in ERRORS.iter().zip(self.errors).filter(|(_, count)| *count > 0) {
            write!(f, ", {count} failed: {name}")?;
        }
        if self.mixed > 0 {
            write!(f, ", {} mixed while they were written", self.mixed)?;
        }
        if self.interruptions > 0 {
            write!(f, ", {} interruptions", self.interruptions)?;
        }
        Ok(())
    }
}
