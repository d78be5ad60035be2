//! [`Guarantees`]: the parsed journal, to check a disk against.

use alloc::vec::Vec;
use core::fmt;

use super::{Begin, Entry, Line};
use crate::mismatch::Mismatch;
use crate::oracle::{Allowed, Extent, Write};
use crate::stamp::Content;

/// The reason to reject a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gap {
    /// A line is missing or repeated.
    Line {
        /// The expected line number.
        expected: u64,
        /// The line number found.
        found: u64,
    },
    /// The blocks are outside the journal's range.
    Range(Extent),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { expected, found } => {
                write!(f, "journal line {found} instead of {expected}")
            }
            Self::Range(extent) => write!(f, "blocks {extent} are outside the journal's range"),
        }
    }
}

impl core::error::Error for Gap {}

/// A guarantee for one block.
#[derive(Clone, Debug)]
struct Guarantee {
    /// The line that states it.
    line: u64,
    /// The data of a later write may also be found.
    sequence: u64,
    values: Vec<Allowed>,
}

/// The guarantees for one block in the order of their lines, each at least as strong as the one before it.
#[derive(Clone, Debug, Default)]
struct History {
    guarantees: Vec<Guarantee>,
    erasures: Vec<(Write, u64)>,
}

/// All guarantees of a journal.
#[derive(Clone, Debug)]
pub struct Guarantees {
    begin: Begin,
    lines: u64,
    blocks: Vec<History>,
}

impl Guarantees {
    /// Returns the state before any line.
    pub fn new(begin: Begin) -> Self {
        Self { begin, lines: 0, blocks: alloc::vec![History::default(); begin.range.blocks as usize] }
    }

    /// Returns the first line of the journal.
    pub fn begin(&self) -> Begin {
        self.begin
    }

    /// Returns the number of lines added.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    fn of(&mut self, extent: Extent) -> Result<&mut [History], Gap> {
        let range = self.begin.range.lbas();
        let lbas = extent.lbas();
        if lbas.start < range.start || lbas.end > range.end {
            return Err(Gap::Range(extent));
        }
        Ok(&mut self.blocks[(lbas.start - range.start) as usize..][..extent.blocks as usize])
    }

    /// Adds the next line.
    ///
    /// # Errors
    /// [`Gap`] when the line number is not the next one, or when a block is outside the journal's range.
    pub fn add(&mut self, Line { number, entry }: Line) -> Result<(), Gap> {
        if number != self.lines + 1 {
            return Err(Gap::Line { expected: self.lines + 1, found: number });
        }
        match entry {
            Entry::Durable { sequence, blocks } => {
                for one in blocks {
                    for history in self.of(one.extent)? {
                        // An older state that was printed later is weaker.
                        if history.guarantees.last().is_none_or(|last| last.sequence <= sequence) {
                            history.guarantees.push(Guarantee {
                                line: number,
                                sequence,
                                values: one.values.clone(),
                            });
                        }
                    }
                }
            }
            Entry::Erasure { write, sequence, extent } => {
                self.of(extent)?.iter_mut().for_each(|history| history.erasures.push((write, sequence)));
            }
        }
        self.lines = number;
        Ok(())
    }

    /// Returns the number of blocks with a guarantee.
    pub fn covered_blocks(&self) -> usize {
        self.blocks.iter().filter(|history| !history.guarantees.is_empty()).count()
    }

    /// Checks whether block `lba` of the journal's range may hold `content` after a power loss at a time when
    /// `lines` lines had been printed.
    ///
    /// # Errors
    /// [`Mismatch`] when it may not.
    ///
    /// # Panics
    /// When the block is outside the journal's range.
    pub fn judge(&self, lines: u64, lba: u64, content: &Content) -> Result<(), Mismatch> {
        let history = &self.blocks[(lba - self.begin.range.first) as usize];
        let lines_before = history.guarantees.partition_point(|guarantee| guarantee.line <= lines);
        let initial = Guarantee { line: 0, sequence: 0, values: Vec::new() };
        let (guarantee, values) = match lines_before.checked_sub(1).map(|latest| &history.guarantees[latest])
        {
            Some(guarantee) => (guarantee, &guarantee.values[..]),
            None => (&initial, &[Allowed::Anything][..]),
        };
        let run = self.begin.run;
        let is_newer = match content {
            Content::Stamped(stamp) => {
                stamp.run == run && stamp.lba == lba && stamp.sequence > guarantee.sequence
            }
            Content::Zeroes => history.erasures.iter().any(|&(_, sequence)| sequence > guarantee.sequence),
            Content::Ones => history
                .erasures
                .iter()
                .any(|&(write, sequence)| write == Write::Deallocate && sequence > guarantee.sequence),
            Content::Torn { .. } | Content::Foreign => false,
        };
        if is_newer || values.iter().any(|value| value.is(content, run, lba)) {
            return Ok(());
        }
        let expected =
            values.iter().copied().max_by_key(|value| value.sequence()).unwrap_or(Allowed::Anything);
        Err(Mismatch::new(run, u64::MAX, lba, *content, expected))
    }
}
