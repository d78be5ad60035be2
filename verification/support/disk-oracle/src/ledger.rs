//! [`Ledger`]: the values that each block of a range may have.

use alloc::vec::Vec;
use core::fmt;

pub use crate::block::Write;
use crate::block::{Cell, End};
use crate::stamp::{Content, Stamp};
use crate::verdict::{Kind, Wrong};

/// A number of blocks in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first.
    pub first: u64,
    /// How many.
    pub blocks: u32,
}

impl Extent {
    /// Their numbers.
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
    /// What was there at the beginning.
    Anything,
    /// What that write has stamped.
    Stamped(u64),
    /// Zeroes, which that write may have left.
    Zeroes(u64),
    /// Ones, likewise.
    Ones(u64),
}

impl Allowed {
    /// The write that it is of; 0 for what was there at the beginning.
    pub const fn sequence(self) -> u64 {
        match self {
            Self::Anything => 0,
            Self::Stamped(sequence) | Self::Zeroes(sequence) | Self::Ones(sequence) => sequence,
        }
    }

    /// Whether `content`, found in block `lba`, is this value of run `run`.
    pub fn is(self, content: &Content, run: u64, lba: u64) -> bool {
        match (self, content) {
            (Self::Stamped(sequence), Content::Stamped(stamp)) => {
                (stamp.run, stamp.lba, stamp.sequence) == (run, lba, sequence)
            }
            (Self::Zeroes(_), Content::Zeroes) | (Self::Ones(_), Content::Ones) => true,
            // What was there at the beginning was written before this run.
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
            Self::Anything => f.write_str("whatever was there at first"),
            Self::Stamped(sequence) => write!(f, "write {sequence}"),
            Self::Zeroes(sequence) => write!(f, "zeroes of write {sequence}"),
            Self::Ones(sequence) => write!(f, "ones of write {sequence}"),
        }
    }
}

/// Whether a write may be under way together with others to the same blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// It may not: then it is known afterwards what the blocks hold.
    Alone,
    /// It may: then they may hold either.
    Beside,
}

/// Why a write should not be submitted now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Another write to one of the blocks is under way.
    BeingWritten {
        /// Which.
        lba: u64,
    },
    /// More values of a block would have to be kept than there is room for ([`Full`]).
    Full(Full),
    /// The ledger is not about all of these blocks.
    OutOfRange(Extent),
}

/// There is no room for one more value of this block: a flush, or a write that is alone and durable, makes some.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Full {
    /// Which.
    pub lba: u64,
}

/// How a write was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// It is done, and on the medium: FUA, or a disk without a volatile cache.
    Durable,
    /// With an error: it may have happened, or not, or for some of its blocks.
    Failed,
    /// It was refused before it could do anything.
    Withdrawn,
}

/// A flush under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Flush {
    /// How many answers there had been.
    answers: u64,
}

/// Blocks in a row of which a power loss may leave the same values.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Durable {
    /// Which.
    pub extent: Extent,
    /// One of these, or what is submitted later.
    pub values: Vec<Allowed>,
}

/// A read under way: what it may find by what was known when it was submitted.
#[derive(Clone, Debug)]
pub struct Glimpse {
    extent: Extent,
    /// The latest write at that time.
    since: u64,
    /// Values of all blocks, one block's after the other's.
    allowed: Vec<Allowed>,
    /// By block: how many of them, and [`Cell::steady`].
    blocks: Vec<(u8, Option<u32>)>,
}

impl Glimpse {
    /// What is read.
    pub fn extent(&self) -> Extent {
        self.extent
    }
}

/// A write that is done and that no flush has covered.
struct Unflushed {
    extent: Extent,
    sequence: u64,
    /// How many answers there had been, this one included.
    answer: u64,
}

/// The values that each block of a range may have: 96 bytes for each block, and some for each write that no flush covers.
///
/// Writes are numbered from 1 in the order in which they are submitted.
pub struct Ledger {
    run: u64,
    first: u64,
    cells: Vec<Cell>,
    sequence: u64,
    answers: u64,
    unflushed: Vec<Unflushed>,
}

impl Ledger {
    /// About `blocks` blocks from `first` on, of which nothing is known. `run` is in all stamps, and in no earlier run's.
    pub fn new(run: u64, first: u64, blocks: u32) -> Self {
        let cells = alloc::vec![Cell::UNKNOWN; blocks as usize];
        Self { run, first, cells, sequence: 0, answers: 0, unflushed: Vec::new() }
    }

    /// What all stamps say of the run.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// All its blocks.
    pub fn range(&self) -> Extent {
        Extent { first: self.first, blocks: self.cells.len() as u32 }
    }

    /// The number of the latest write.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    fn indices(&self, extent: Extent) -> Option<core::ops::Range<usize>> {
        let start = usize::try_from(extent.first.checked_sub(self.first)?).ok()?;
        let end = start.checked_add(extent.blocks as usize)?;
        (end <= self.cells.len()).then_some(start..end)
    }

    /// A write is about to be submitted. Answers with its number.
    ///
    /// # Errors
    /// [`Refusal`]: nothing has changed, and it should not be submitted.
    pub fn begin(&mut self, write: Write, extent: Extent, mode: Mode) -> Result<u64, Refusal> {
        let indices = self.indices(extent).ok_or(Refusal::OutOfRange(extent))?;
        // The last place is for a write that makes room.
        let room = match (write, mode) {
            (Write::Data, Mode::Alone) => 1,
            (Write::Data | Write::Zeroes, _) => 2,
            (Write::Deallocate, _) => 3,
        };
        for (cell, lba) in self.cells[indices.clone()].iter().zip(extent.lbas()) {
            if mode == Mode::Alone && cell.is_being_written() {
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

    /// A write is answered. What is durable by that is added to `durable`.
    ///
    /// # Panics
    /// When `extent` is none that [`Self::begin`] has accepted.
    pub fn end(
        &mut self,
        write: Write,
        extent: Extent,
        sequence: u64,
        answer: Answer,
        durable: &mut Vec<Durable>,
    ) {
        let indices = self.indices(extent).expect("it was begun");
        self.answers += 1;
        let end = match answer {
            Answer::Done | Answer::Durable => End::Done,
            Answer::Failed => End::Failed,
            Answer::Withdrawn => End::Withdrawn,
        };
        self.cells[indices].iter_mut().for_each(|cell| cell.end(write, sequence, end));
        match answer {
            Answer::Done => {
                self.unflushed.push(Unflushed { extent, sequence, answer: self.answers });
                self.prune();
            }
            Answer::Durable => self.make_durable(extent, sequence, durable),
            Answer::Failed | Answer::Withdrawn => {}
        }
    }

    /// Forgets writes that later ones, durable, have replaced in all their blocks. What is left is bounded by the values that
    /// cells have room for.
    fn prune(&mut self) {
        if self.unflushed.len() > 2 * self.cells.len().max(64) {
            let (first, cells) = (self.first, &self.cells);
            self.unflushed
                .retain(|one| one.extent.lbas().any(|lba| cells[(lba - first) as usize].keeps(one.sequence)));
        }
    }

    /// A flush is about to be submitted.
    pub fn begin_flush(&self) -> Flush {
        Flush { answers: self.answers }
    }

    /// A flush is done. What is durable by that is added to `durable`. (One that fails is no concern of the ledger's.)
    pub fn end_flush(&mut self, flush: Flush, durable: &mut Vec<Durable>) {
        let covered: Vec<Unflushed> =
            self.unflushed.extract_if(.., |one| one.answer <= flush.answers).collect();
        for Unflushed { extent, sequence, .. } in covered {
            self.make_durable(extent, sequence, durable);
        }
    }

    fn make_durable(&mut self, extent: Extent, sequence: u64, durable: &mut Vec<Durable>) {
        for lba in extent.lbas() {
            let cell = &mut self.cells[(lba - self.first) as usize];
            if !cell.is_durable(sequence) {
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

    /// A read is about to be submitted.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`].
    pub fn glimpse(&self, extent: Extent) -> Result<Glimpse, Refusal> {
        let indices = self.indices(extent).ok_or(Refusal::OutOfRange(extent))?;
        let mut allowed = Vec::with_capacity(indices.len());
        let mut blocks = Vec::with_capacity(indices.len());
        for cell in &self.cells[indices] {
            let from = allowed.len();
            allowed.extend(cell.present());
            blocks.push(((allowed.len() - from) as u8, cell.steady()));
        }
        Ok(Glimpse { extent, since: self.sequence, allowed, blocks })
    }

    /// A read is answered: `contents` is what it found, block by block. Each block that it should not have found so is handed
    /// to `wrong`. What a read finds while no write is under way is what the block holds from then on.
    ///
    /// # Panics
    /// When there are not as many contents as blocks were read.
    pub fn judge(&mut self, glimpse: &Glimpse, contents: &[Content], mut wrong: impl FnMut(Wrong)) {
        assert_eq!(contents.len(), glimpse.blocks.len(), "one content for each block");
        let indices = self.indices(glimpse.extent).expect("it was in range when it was submitted");
        let (run, last, since) = (self.run, self.sequence, glimpse.since);
        let mut rest = &glimpse.allowed[..];
        for (((cell, lba), content), &(count, steady)) in
            self.cells[indices].iter_mut().zip(glimpse.extent.lbas()).zip(contents).zip(&glimpse.blocks)
        {
            let allowed;
            (allowed, rest) = rest.split_at(usize::from(count));
            let is_newer = match content {
                Content::Stamped(stamp) => {
                    // A stamp that is whole is one that we have made: what is newer was submitted while this was under way.
                    (stamp.run, stamp.lba) == (run, lba) && (since + 1..=last).contains(&stamp.sequence)
                }
                Content::Zeroes | Content::Ones => cell.erased() > since,
                Content::Torn { .. } | Content::Foreign => false,
            };
            if is_newer {
                continue;
            }
            if allowed.iter().any(|value| value.is(content, run, lba)) {
                if steady.is_some() && steady == cell.steady() {
                    cell.settle(content);
                }
                continue;
            }
            let expected =
                allowed.iter().copied().max_by_key(|value| value.sequence()).expect("a block has a value");
            let mut found = Wrong::new(run, last, lba, *content, expected);
            let is_beside_a_write = steady.is_none() || steady != cell.steady();
            if found.kind == Kind::Torn && is_beside_a_write {
                found.kind = Kind::Mixed;
            }
            wrong(found);
        }
    }

    /// What a power loss may leave of a block, if nothing is submitted any more.
    ///
    /// # Errors
    /// [`Refusal::OutOfRange`].
    pub fn after_power_loss(&self, lba: u64) -> Result<impl Iterator<Item = Allowed> + '_, Refusal> {
        let extent = Extent { first: lba, blocks: 1 };
        let indices = self.indices(extent).ok_or(Refusal::OutOfRange(extent))?;
        Ok(self.cells[indices.start].after_power_loss())
    }
}
