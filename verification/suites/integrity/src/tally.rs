//! [`Tally`]: the counters of a load, updated by all threads.

use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_block::BlockError;
use coppice_disk_oracle::{Kind, Mismatch};
use coppice_runtime::sync::Mutex;

/// The number of wrong blocks that are recorded with their content. All are counted.
const MAX_RECORDED: usize = 16;

macro_rules! counts {
    ($($name:ident: $what:literal,)*) => {
        /// Counters of a load. Each only grows, independently: two of them may be of different moments.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
        pub struct Counters {
            $(#[doc = $what] pub $name: u64,)*
            /// Blocks with wrong content, by kind, in the order of [`Kind::ALL`].
            pub wrong: [u64; Kind::ALL.len()],
            /// Requests completed with an error, by kind, in the order of [`ERRORS`].
            pub errors: [u64; ERRORS.len()],
        }

        #[derive(Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: Counter,)*
            wrong: [Counter; Kind::ALL.len()],
            errors: [Counter; ERRORS.len()],
            kept: Mutex<Vec<Mismatch>>,
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
    reads: "Successful reads.",
    writes: "Successful writes, FUA or not.",
    fua_writes: "Successful writes with FUA.",
    zeroes: "Successful writes of zeroes.",
    deallocations: "Successful deallocations.",
    flushes: "Successful flushes.",
    blocks_verified: "Blocks that were read and compared.",
    blocks_written: "Blocks that were written, zeroes included.",
    mixed: "Blocks that a read found half old and half new during a write, where [`crate::Options::atomic`] permits it.",
    twice: "Requests that completed twice.",
    unknown: "Completions without a request.",
    lost: "Requests that never completed although the disk's domain runs.",
    unverified: "Blocks that could not be read at the end after all attempts.",
    interruptions: "Queues that were opened again after a crash of their domain.",
}

/// The kinds of errors that [`Counters::errors`] counts.
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

/// One counter.
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
    /// `atomic` is [`crate::Options::atomic`].
    pub(crate) fn wrong(&self, wrong: Mismatch, atomic: bool) {
        if wrong.kind == Kind::Mixed && !atomic {
            self.mixed.add(1);
            return;
        }
        let kind = Kind::ALL.iter().position(|&kind| kind == wrong.kind).expect("`Kind::ALL` has every kind");
        self.wrong[kind].add(1);
        let mut kept = self.kept.lock();
        if kept.len() < MAX_RECORDED {
            kept.push(wrong);
        }
    }

    pub(crate) fn error(&self, error: &BlockError) {
        self.errors[number(error)].add(1);
    }

    /// Returns the first wrong blocks.
    pub(crate) fn recorded(&self) -> Vec<Mismatch> {
        self.kept.lock().clone()
    }
}

impl Counters {
    /// Returns the number of successful requests.
    pub fn requests(&self) -> u64 {
        self.reads + self.writes + self.zeroes + self.deallocations + self.flushes
    }

    /// Returns the number of blocks with wrong content.
    pub fn wrong_blocks(&self) -> u64 {
        self.wrong.iter().sum()
    }

    /// Returns the number of requests completed with an error. A reported error is not a wrong answer.
    pub fn failed(&self) -> u64 {
        self.errors.iter().sum()
    }

    /// Returns true if the disk has kept all its guarantees.
    pub fn is_clean(&self) -> bool {
        self.wrong_blocks() + self.twice + self.unknown + self.lost + self.unverified == 0
    }
}

/// The counters that are not zero, with their names.
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
