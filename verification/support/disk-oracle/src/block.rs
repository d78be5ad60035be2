//! [`Cell`]: the oracle's record of one block.

use crate::oracle::Allowed;
use crate::stamp::Content;

/// The maximum number of values kept for one block. Another write is refused until a flush or a
/// non-overlapping write rules some of them out.
pub const VALUES: usize = 8;

/// The slot holds a value.
const USED: u8 = 1;
/// The write has not completed.
const IN_FLIGHT: u8 = 1 << 1;
/// A read may return it. A value that is not present may still reappear after a power loss.
const PRESENT: u8 = 1 << 2;
/// The write certainly took effect after all values in its `before` set.
const CONFIRMED: u8 = 1 << 3;
/// The mask of the value's pattern.
const PATTERN: u8 = 3 << 4;
const STAMPED: u8 = 0;
const ZEROES: u8 = 1 << 4;
const ONES: u8 = 2 << 4;
/// The unknown content of the block at the start.
const ANYTHING: u8 = 3 << 4;

/// The effect of a write on a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Writes stamped blocks.
    Data,
    /// Writes zeroes.
    Zeroes,
    /// Deallocates the blocks: afterwards each reads as its old data, zeroes or ones (NVM Command Set
    /// Specification 1.0, Dataset Management: the device may also do nothing).
    Deallocate,
}

impl Write {
    fn patterns(self) -> &'static [u8] {
        match self {
            Self::Data => &[STAMPED],
            Self::Zeroes => &[ZEROES],
            Self::Deallocate => &[ZEROES, ONES],
        }
    }
}

/// The completion of a write, as far as one cell is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Done,
    Failed,
    Withdrawn,
}

/// One block: at most [`VALUES`] values with the state of their writes.
///
/// # Invariants
/// 1. A completed write replaces each value whose write had completed when it was submitted: these slots are
///    in its `before` set, and no read returns them after its completion. Once it is durable, no power loss
///    brings them back.
/// 2. No other value is ruled out: either of two concurrent writes may have been the last.
/// 3. No `before` set contains a free slot.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    sequences: [u64; VALUES],
    /// By slot: the slots of completed writes when this write was submitted.
    before: [u8; VALUES],
    flags: [u8; VALUES],
    /// The latest write that may have left zeroes or ones, which carry no sequence number.
    erased: u64,
    /// Incremented by each change of the set.
    changes: u32,
}

impl Cell {
    /// A block with unknown content.
    pub(crate) const UNKNOWN: Self = Self {
        sequences: [0; VALUES],
        before: [0; VALUES],
        flags: [USED | PRESENT | CONFIRMED | ANYTHING, 0, 0, 0, 0, 0, 0, 0],
        erased: 0,
        changes: 0,
    };

    fn slots_with(&self, wanted: u8) -> impl Iterator<Item = usize> + '_ {
        (0..VALUES).filter(move |&slot| self.flags[slot] & wanted == wanted)
    }

    fn slots_of(&self, sequence: u64) -> impl Iterator<Item = usize> + '_ {
        self.slots_with(USED).filter(move |&slot| self.sequences[slot] == sequence)
    }

    /// Returns the number of free slots.
    pub(crate) fn room(&self) -> usize {
        VALUES - self.slots_with(USED).count()
    }

    /// Returns true while a write is in flight.
    pub(crate) fn is_being_written(&self) -> bool {
        self.slots_with(IN_FLIGHT).next().is_some()
    }

    /// Returns a number that changes with the set; `None` while a write is in flight.
    pub(crate) fn revision(&self) -> Option<u32> {
        (!self.is_being_written()).then_some(self.changes)
    }

    /// Returns the latest write that may have left zeroes or ones.
    pub(crate) fn erased(&self) -> u64 {
        self.erased
    }

    /// Records the submission of a write. The caller has checked that there is room.
    pub(crate) fn begin(&mut self, write: Write, sequence: u64) {
        let completed = self
            .slots_with(USED)
            .filter(|&slot| self.flags[slot] & IN_FLIGHT == 0)
            .fold(0, |set, slot| set | 1 << slot);
        for &pattern in write.patterns() {
            let slot =
                (0..VALUES).find(|&slot| self.flags[slot] == 0).expect("the caller checked for a free slot");
            self.sequences[slot] = sequence;
            self.before[slot] = completed;
            self.flags[slot] = USED | IN_FLIGHT | PRESENT | pattern;
        }
        if write != Write::Data {
            self.erased = sequence;
        }
        self.changes = self.changes.wrapping_add(1);
    }

    /// Records the completion of a write.
    pub(crate) fn end(&mut self, write: Write, sequence: u64, end: End) {
        self.changes = self.changes.wrapping_add(1);
        for slot in 0..VALUES {
            if self.flags[slot] & IN_FLIGHT == 0 || self.sequences[slot] != sequence {
                continue;
            }
            match end {
                End::Withdrawn => self.free(1 << slot),
                End::Failed => self.flags[slot] &= !IN_FLIGHT,
                End::Done => {
                    self.flags[slot] &= !IN_FLIGHT;
                    // A device may ignore a deallocation.
                    if write != Write::Deallocate {
                        self.flags[slot] |= CONFIRMED;
                        for old in bits(self.before[slot]) {
                            self.flags[old] &= !PRESENT;
                        }
                    }
                }
            }
        }
    }

    /// Rules out the values that a completed, now durable write replaced. Returns whether its value is still
    /// kept.
    pub(crate) fn confirm_durable(&mut self, sequence: u64) -> bool {
        let Some(slot) = self.slots_of(sequence).find(|&slot| self.flags[slot] & CONFIRMED != 0) else {
            return false;
        };
        self.free(self.before[slot]);
        true
    }

    /// Returns true if the value of that write is still kept.
    pub(crate) fn keeps(&self, sequence: u64) -> bool {
        self.slots_of(sequence).next().is_some()
    }

    /// Records that a read with no concurrent write returned `content`, one of the present values: no other
    /// value is current.
    pub(crate) fn settle(&mut self, content: &Content) {
        for slot in 0..VALUES {
            let is_match = match (self.flags[slot] & PATTERN, content) {
                (STAMPED, Content::Stamped(stamp)) => stamp.sequence == self.sequences[slot],
                (ZEROES, Content::Zeroes) | (ONES, Content::Ones) | (ANYTHING, _) => true,
                _ => false,
            };
            if !is_match {
                self.flags[slot] &= !PRESENT;
            }
        }
    }

    /// Returns the values that a read may return.
    pub(crate) fn present(&self) -> impl Iterator<Item = Allowed> + '_ {
        self.slots_with(USED | PRESENT).map(|slot| self.value(slot))
    }

    /// Returns the values that a power loss may leave if no further request is submitted.
    pub(crate) fn after_power_loss(&self) -> impl Iterator<Item = Allowed> + '_ {
        self.slots_with(USED).map(|slot| self.value(slot))
    }

    fn value(&self, slot: usize) -> Allowed {
        let sequence = self.sequences[slot];
        match self.flags[slot] & PATTERN {
            STAMPED => Allowed::Stamped(sequence),
            ZEROES => Allowed::Zeroes(sequence),
            ONES => Allowed::Ones(sequence),
            _ => Allowed::Anything,
        }
    }

    fn free(&mut self, set: u8) {
        for slot in bits(set) {
            self.flags[slot] = 0;
            self.before[slot] = 0;
        }
        for before in &mut self.before {
            *before &= !set;
        }
    }
}

fn bits(set: u8) -> impl Iterator<Item = usize> {
    (0..VALUES).filter(move |slot| set & 1 << slot != 0)
}
