//! [`DiskOracle`]: the allowed values of each block of a range.

use alloc::vec::Vec;
use core::fmt;

pub use crate::block::Write;
use crate::block::{Cell, End};
use crate::mismatch::{Kind, Mismatch};
use crate::stamp::{Content, Stamp};

/// A range of consecutive blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first block.
    pub first: u64,
    /// The number of blocks.
    pub blocks: u32,
}

impl Extent {
    /// Returns the block addresses.
    pub fn lbas(self) -> core::ops::Range<u64> {
        self.first..self.first + u64::from(self.blocks)
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.first, self.blocks)
    }
}

/// A value that a block may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Allowed {
    /// The unknown content at the start of the run.
    Anything,
    /// The stamped data of that write.
    Stamped(u64),
    /// Zeroes, possibly left by that write.
    Zeroes(u64),
    /// Ones, possibly left by that write.
    Ones(u64),
}

impl Allowed {
    /// Returns the sequence number of its write; 0 for the content at the start.
    pub const fn sequence(self) -> u64 {
        match self {
            Self::Anything => 0,
            Self::Stamped(sequence) | Self::Zeroes(sequence) | Self::Ones(sequence) => sequence,
        }
    }

    /// Returns true if `content`, read from block `lba`, is this value of run `run`.
    pub fn is(self, content: &Content, run: u64, lba: u64) -> bool {
        match (self, content) {
            (Self::Stamped(sequence), Content::Stamped(stamp)) => {
                (stamp.run, stamp.lba, stamp.sequence) == (run, lba, sequence)
            }
            (Self::Zeroes(_), Content::Zeroes) | (Self::Ones(_), Content::Ones) => true,
            // The content at the start was written before this run.
            (Self::Anything, Content::Stamped(Stamp { run: its, .. }) | Content::Torn { run: its, .. }) => {
                *its != run
            }
            (Self::Anything, _) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anything => f.write_str("the unknown content at the start"),
            Self::Stamped(sequence) => write!(f, "write {sequence}"),
            Self::Zeroes(sequence) => write!(f, "zeroes of write {sequence}"),
            Self::Ones(sequence) => write!(f, "ones of write {sequence}"),
        }
    }
}

/// The overlap of a write with others in flight to the same blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// No overlap: the content is known after completion.
    Exclusive,
    /// Overlap is allowed: either write may have been the last.
    Overlapping,
}

/// The reason not to submit a write now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Another write to one of the blocks is in flight.
    BeingWritten {
        /// The first such block.
        lba: u64,
    },
    /// A block has too many possible values already ([`Full`]).
    Full(Full),
    /// The oracle does not cover all of these blocks.
    OutOfRange(Extent),
}

/// All slots of a block are in use. A flush, or a durable write that does not overlap, frees some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// The address of the block.
    pub lba: u64,
}

/// The completion of a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteOutcome {
    /// Completed without error.
    Done,
    /// Completed and on the medium: FUA, or a disk without a volatile cache.
    Durable,
    /// Completed with an error: all, some or none of its blocks may have been written.
    Failed,
    /// Refused before it could have any effect.
    Withdrawn,
}

/// A flush in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Flush {
    /// The number of completed writes at its submission.
    completions: u64,
}

/// Consecutive blocks that a power loss may leave with the same values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Durable {
    /// The blocks.
    pub extent: Extent,
    /// The possible values; a later write may also be found.
    pub values: Vec<Allowed>,
}

/// A read in flight, with the values that were allowed when it was submitted.
#[derive(Clone, Debug)]
pub struct ReadExpectation {
    extent: Extent,
    /// The latest write at its submission.
    since: u64,
    /// The values of all blocks, block by block.
    allowed: Vec<Allowed>,
    /// For each block: its number of values, and [`Cell::revision`].
    blocks: Vec<(u8, Option<u32>)>,
}

impl ReadExpectation {
    /// Returns the blocks of the read.
    pub fn extent(&self) -> Extent {
        self.extent
    }
}

/// A completed write that no flush has covered.
struct Unflushed {
    extent: Extent,
    sequence: u64,
    /// The number of completed writes, including this one.
    completion: u64,
}

/// The allowed values of each block of a range: 96 bytes for each block, and some for each write that no
/// flush has covered.
///
/// Writes are numbered from 1 in the order of their submission.
pub struct DiskOracle {
    run: u64,
    first: u64,
    cells: Vec<Cell>,
    sequence: u64,
    completions: u64,
    unflushed: Vec<Unflushed>,
}

impl DiskOracle {
    /// Returns an oracle for `blocks` blocks from `first`, all with unknown content. `run` is in all stamps;
    /// no earlier run may have used it.
    pub fn new(run: u64, first: u64, blocks: u32) -> Self {
        let cells = alloc::vec![Cell::UNKNOWN; blocks as usize];
        Self { run, first, cells, sequence: 0, completions: 0, unflushed: Vec::new() }
    }

    /// Returns the run number of all stamps.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Returns the range of the oracle.
    pub fn range(&self) -> Extent {
        Extent { first: self.first, blocks: self.cells.len() as u32 }
    }

    /// Returns the sequence number of the latest write.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn indices(&self, extent: Extent) -> Option<core::ops::Range<usize>> {
        let start = usize::try_from(extent.first.checked_sub(self.first)?).ok()?;
        let end = start.checked_add(extent.blocks as usize)?;
        (end <= self.cells.len()).then_some(start..end)
    }

    /// Records a write that is about to be submitted and returns its sequence number.
    ///
    /// # Errors
    /// [`Refusal`] when the write must not be submitted now. The oracle is then unchanged.
    pub fn begin(&mut self, write: Write, extent: Extent, mode: Mode) -> Result<u64, Refusal> {
        let indices = self.indices(extent).ok_or(Refusal::OutOfRange(extent))?;
        // The last slot is reserved for a write that frees others.
        let room = match (write, mode) {
            (Write::Data, Mode::Exclusive) => 1,
            (Write::Data | Write::Zeroes, _) => 2,
            (Write::Deallocate, _) => 3,
        };
        for (cell, lba) in self.cells[indices.clone()].iter().zip(extent.lbas()) {
            if mode == Mode::Exclusive && cell.is_being_written() {
                return Err(Refusal::BeingWritten { lba });
            }
            if cell.room() < room {
                return Err(Refusal::Full(Full { lba }));
            }
        }
        self.sequence += 1;
        let sequence = self.sequence;
        self.cells[indices].iter_mut().for_each(|cell| cell.begin(write, sequence));
        Ok(sequence)
    }

    /// Records the completion of a write and appends the blocks that it makes durable to `durable`.
    ///
    /// # Panics
    /// When `extent` was not accepted by [`Self::begin`].
    pub fn end(
        &mut self,
        write: Write,
        extent: Extent,
        sequence: u64,
        outcome: WriteOutcome,
        durable: &mut Vec<Durable>,
    ) {
        let indices = self.indices(extent).expect("the write was begun");
        self.completions += 1;
        let end = match outcome {
            WriteOutcome::Done | WriteOutcome::Durable => End::Done,
            WriteOutcome::Failed => End::Failed,
            WriteOutcome::Withdrawn => End::Withdrawn,
        };
        self.cells[indices].iter_mut().for_each(|cell| cell.end(write, sequence, end));
        match outcome {
            WriteOutcome::Done => {
                self.unflushed.push(Unflushed { extent, sequence, completion: self.completions });
                self.prune();
            }
            WriteOutcome::Durable => self.make_durable(extent, sequence, durable),
            WriteOutcome::Failed | WriteOutcome::Withdrawn => {}
        }
    }

    /// Drops writes that later durable writes have replaced in all their blocks. The number of the remaining
    /// ones is bounded by the slots of the cells.
    fn prune(&mut self) {
        if self.unflushed.len() > 2 * self.cells.len().max(64) {
            let (first, cells) = (self.first, &self.cells);
            self.unflushed
                .retain(|one| one.extent.lbas().any(|lba| cells[(lba - first) as usize].keeps(one.sequence)));
        }
    }

    /// Records a flush that is about to be submitted.
    pub fn begin_flush(&self) -> Flush {
        Flush { completions: self.completions }
    }

    /// Records the success of a flush and appends the blocks that it makes durable to `durable`. A failed
    /// flush needs no call.
    pub fn end_flush(&mut self, flush: Flush, durable: &mut Vec<Durable>) {
        let covered: Vec<Unflushed> =
            self.unflushed.extract_if(.., |one| one.completion <= flush.completions).collect();
        for Unflushed { extent, sequence, .. } in covered {
            self.make_durable(extent, sequence, durable);
        }
    }

    fn make_durable(&mut self, extent: Extent, sequence: u64, durable: &mut Vec<Durable>) {
        for lba in extent.lbas() {
            let cell = &mut self.cells[(lba - self.first) as usize];
            if !cell.confirm_durable(sequence) {
                continue;
            }
            let values = cell.after_power_loss();
            if let Some(last) = durable.last_mut()
                && last.extent.lbas().end == lba
                && values.eq(last.values.iter().copied())
            {
                last.extent.blocks += 1;
            } else {
                let values = cell.after_power_loss().collect();
                durable.push(Durable { extent: Extent { first: lba, blocks: 1 }, values });
            }
        }
    }

    /// Records a read that is about to be submitted.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`] when the oracle does not cover all of `extent`.
    pub fn expect_read(&self, extent: Extent) -> Result<ReadExpectation, Refusal> {
        let indices = self.indices(extent).ok_or(Refusal::OutOfRange(extent))?;
        let mut allowed = Vec::with_capacity(indices.len());
        let mut blocks = Vec::with_capacity(indices.len());
        for cell in &self.cells[indices] {
            let from = allowed.len();
            allowed.extend(cell.present());
            blocks.push(((allowed.len() - from) as u8, cell.revision()));
        }
        Ok(ReadExpectation { extent, since: self.sequence, allowed, blocks })
    }

    /// Checks a completed read with `contents`, block by block, and calls `report` for each content that is
    /// not allowed. A read with no concurrent write determines the content of its blocks.
    ///
    /// # Panics
    /// When the number of contents is not the number of blocks read.
    pub fn judge(
        &mut self,
        expectation: &ReadExpectation,
        contents: &[Content],
        mut report: impl FnMut(Mismatch),
    ) {
        assert_eq!(contents.len(), expectation.blocks.len(), "one content for each block");
        let indices = self.indices(expectation.extent).expect("it was in range when it was submitted");
        let (run, last, since) = (self.run, self.sequence, expectation.since);
        let mut rest = &expectation.allowed[..];
        for (((cell, lba), content), &(count, revision)) in self.cells[indices]
            .iter_mut()
            .zip(expectation.extent.lbas())
            .zip(contents)
            .zip(&expectation.blocks)
        {
            let allowed;
            (allowed, rest) = rest.split_at(usize::from(count));
            let is_newer = match content {
                Content::Stamped(stamp) => {
                    // An intact stamp is one of ours: a newer one was submitted while this read was in
                    // flight.
                    (stamp.run, stamp.lba) == (run, lba) && (since + 1..=last).contains(&stamp.sequence)
                }
                Content::Zeroes | Content::Ones => cell.erased() > since,
                Content::Torn { .. } | Content::Foreign => false,
            };
            if is_newer {
                continue;
            }
            if allowed.iter().any(|value| value.is(content, run, lba)) {
                if revision.is_some() && revision == cell.revision() {
                    cell.settle(content);
                }
                continue;
            }
            let expected =
                allowed.iter().copied().max_by_key(|value| value.sequence()).expect("a block has a value");
            let mut found = Mismatch::new(run, last, lba, *content, expected);
            let overlaps_a_write = revision.is_none() || revision != cell.revision();
            if found.kind == Kind::Torn && overlaps_a_write {
                found.kind = Kind::Mixed;
            }
            report(found);
        }
    }

    /// Returns the values of a block that a power loss may leave if no further request is submitted.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`] when the oracle does not cover the block.
    pub fn after_power_loss(&self, lba: u64) -> Result<impl Iterator<Item = Allowed> + '_, Refusal> {
        let extent = Extent { first: lba, blocks: 1 };
        let indices = self.indices(extent).ok_or(Refusal::OutOfRange(extent))?;
        Ok(self.cells[indices.start].after_power_loss())
    }
}
