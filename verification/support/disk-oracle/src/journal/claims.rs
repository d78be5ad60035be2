//! [`Claims`]: a journal that was read, to hold a disk against.

use alloc::vec::Vec;
use core::fmt;

use super::{Begin, Entry, Line};
use crate::ledger::{Allowed, Extent, Write};
use crate::stamp::Content;
use crate::verdict::Wrong;

/// A line is missing, or about blocks that the journal is not about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gap {
    /// Lines come in order, without a gap.
    Line {
        /// The number that should have come.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// Blocks out of the journal's range.
    Range(Extent),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line { expected, found } => {
                write!(f, "line {found} of the journal came where {expected} should")
            }
            Self::Range(extent) => write!(f, "the journal speaks of blocks {extent}, which are not its own"),
        }
    }
}

impl core::error::Error for Gap {}

/// What was said of a block.
#[derive(Clone, Debug)]
struct Claim {
    /// In which line.
    line: u64,
    /// Later writes may be there instead.
    sequence: u64,
    values: Vec<Allowed>,
}

/// What was said of a block, in the order of lines, each claim at least as strong as the one before it.
#[derive(Clone, Debug, Default)]
struct History {
    claims: Vec<Claim>,
    erasures: Vec<(Write, u64)>,
}

/// All that a journal says.
#[derive(Clone, Debug)]
pub struct Claims {
    begin: Begin,
    lines: u64,
    blocks: Vec<History>,
}

impl Claims {
    /// Nothing yet.
    pub fn new(begin: Begin) -> Self {
        Self { begin, lines: 0, blocks: alloc::vec![History::default(); begin.range.blocks as usize] }
    }

    /// What it is about.
    pub fn begin(&self) -> Begin {
        self.begin
    }

    /// How many lines were read.
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

    /// Takes the next line in.
    ///
    /// # Errors
    /// [`Gap`].
    pub fn add(&mut self, Line { number, entry }: Line) -> Result<(), Gap> {
        if number != self.lines + 1 {
            return Err(Gap::Line { expected: self.lines + 1, found: number });
        }
        match entry {
            Entry::Durable { sequence, blocks } => {
                for one in blocks {
                    for history in self.of(one.extent)? {
                        // What was found earlier and said later is weaker.
                        if history.claims.last().is_none_or(|last| last.sequence <= sequence) {
                            history.claims.push(Claim { line: number, sequence, values: one.values.clone() });
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

    /// How many blocks are known to hold something that was written.
    pub fn claimed(&self) -> usize {
        self.blocks.iter().filter(|history| !history.claims.is_empty()).count()
    }

    /// Whether block `lba` of the journal's range may hold `content` after a power loss at a time when `lines` lines were out.
    ///
    /// # Errors
    /// What is wrong.
    ///
    /// # Panics
    /// When the journal is not about that block.
    pub fn judge(&self, lines: u64, lba: u64, content: &Content) -> Result<(), Wrong> {
        let history = &self.blocks[(lba - self.begin.range.first) as usize];
        let said = history.claims.partition_point(|claim| claim.line <= lines);
        let at_first = Claim { line: 0, sequence: 0, values: Vec::new() };
        let (claim, values) = match said.checked_sub(1).map(|latest| &history.claims[latest]) {
            Some(claim) => (claim, &claim.values[..]),
            None => (&at_first, &[Allowed::Anything][..]),
        };
        let run = self.begin.run;
        let is_newer = match content {
            Content::Stamped(stamp) => {
                stamp.run == run && stamp.lba == lba && stamp.sequence > claim.sequence
            }
            Content::Zeroes => history.erasures.iter().any(|&(_, sequence)| sequence > claim.sequence),
            Content::Ones => history
                .erasures
                .iter()
                .any(|&(write, sequence)| write == Write::Deallocate && sequence > claim.sequence),
            Content::Torn { .. } | Content::Foreign => false,
        };
        if is_newer || values.iter().any(|value| value.is(content, run, lba)) {
            return Ok(());
        }
        let expected =
            values.iter().copied().max_by_key(|value| value.sequence()).unwrap_or(Allowed::Anything);
        Err(Wrong::new(run, u64::MAX, lba, *content, expected))
    }
}
