//! [`Cell`]: what the ledger knows of one block.

use crate::ledger::Allowed;
use crate::stamp::Content;

/// How many values of one block are kept. A write that would be one more is refused until some are known to be gone for good,
/// which a flush and a write that is alone see to.
pub const VALUES: usize = 8;

/// A place holds a value.
const USED: u8 = 1;
/// The write of it is not answered.
const UNDER_WAY: u8 = 1 << 1;
/// A read may find it. One that is not present may still come back with the power.
const PRESENT: u8 = 1 << 2;
/// It was written, for certain, in place of whatever had been answered before.
const SURE: u8 = 1 << 3;
/// What the value looks like.
const LOOK: u8 = 3 << 4;
const STAMPED: u8 = 0;
const ZEROES: u8 = 1 << 4;
const ONES: u8 = 2 << 4;
/// Whatever was there at the beginning.
const ANYTHING: u8 = 3 << 4;

/// What a write does to a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Write {
    /// Writes stamped blocks.
    Data,
    /// Writes zeroes.
    Zeroes,
    /// Lets go of what the blocks hold: afterwards they hold what they did, zeroes or ones (NVM Command Set Specification 1.0,
    /// Dataset Management: the device may also do nothing).
    Deallocate,
}

impl Write {
    fn looks(self) -> &'static [u8] {
        match self {
            Self::Data => &[STAMPED],
            Self::Zeroes => &[ZEROES],
            Self::Deallocate => &[ZEROES, ONES],
        }
    }
}

/// How a write ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Done,
    Failed,
    Withdrawn,
}

/// One block: at most [`VALUES`] values, each with what is known of its write.
///
/// # Invariants
/// 1. A write that is done replaced each value whose write had been answered when it was submitted: these are in its `before`,
///    and from its answer on no read finds them. When it is durable, no power loss brings them back.
/// 2. Nothing else is ruled out: of writes under way at the same time either may have been the last.
/// 3. A place that is given up is in nobody's `before`.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    sequences: [u64; VALUES],
    /// By place: which places held answered values when its write was submitted.
    before: [u8; VALUES],
    flags: [u8; VALUES],
    /// The latest write that may have left zeroes or ones, which do not say which write they are of.
    erased: u64,
    /// Counts what changes the set.
    changes: u32,
}

impl Cell {
    /// A block of which nothing is known.
    pub(crate) const UNKNOWN: Self = Self {
        sequences: [0; VALUES],
        before: [0; VALUES],
        flags: [USED | PRESENT | SURE | ANYTHING, 0, 0, 0, 0, 0, 0, 0],
        erased: 0,
        changes: 0,
    };

    fn places(&self, wanted: u8) -> impl Iterator<Item = usize> + '_ {
        (0..VALUES).filter(move |&place| self.flags[place] & wanted == wanted)
    }

    fn place_of(&self, sequence: u64) -> impl Iterator<Item = usize> + '_ {
        self.places(USED).filter(move |&place| self.sequences[place] == sequence)
    }

    /// How many values more there is room for.
    pub(crate) fn room(&self) -> usize {
        VALUES - self.places(USED).count()
    }

    /// Whether a write is under way.
    pub(crate) fn is_being_written(&self) -> bool {
        self.places(UNDER_WAY).next().is_some()
    }

    /// Changes when a value comes or goes; `None` while a write is under way.
    pub(crate) fn steady(&self) -> Option<u32> {
        (!self.is_being_written()).then_some(self.changes)
    }

    /// The latest write that may have left zeroes or ones.
    pub(crate) fn erased(&self) -> u64 {
        self.erased
    }

    /// A write is submitted. There is room for it.
    pub(crate) fn begin(&mut self, write: Write, sequence: u64) {
        let answered = self
            .places(USED)
            .filter(|&place| self.flags[place] & UNDER_WAY == 0)
            .fold(0, |set, place| set | 1 << place);
        for &look in write.looks() {
            let place =
                (0..VALUES).find(|&place| self.flags[place] == 0).expect("the caller looked for room");
            self.sequences[place] = sequence;
            self.before[place] = answered;
            self.flags[place] = USED | UNDER_WAY | PRESENT | look;
        }
        if write != Write::Data {
            self.erased = sequence;
        }
        self.changes = self.changes.wrapping_add(1);
    }

    /// A write is answered.
    pub(crate) fn end(&mut self, write: Write, sequence: u64, end: End) {
        self.changes = self.changes.wrapping_add(1);
        for place in 0..VALUES {
            if self.flags[place] & UNDER_WAY == 0 || self.sequences[place] != sequence {
                continue;
            }
            match end {
                End::Withdrawn => self.give_up(1 << place),
                End::Failed => self.flags[place] &= !UNDER_WAY,
                End::Done => {
                    self.flags[place] &= !UNDER_WAY;
                    // A device may leave alone what it is asked to let go of.
                    if write != Write::Deallocate {
                        self.flags[place] |= SURE;
                        for old in bits(self.before[place]) {
                            self.flags[old] &= !PRESENT;
                        }
                    }
                }
            }
        }
    }

    /// A write that is done will outlast the power. Answers whether it is still among the values.
    pub(crate) fn is_durable(&mut self, sequence: u64) -> bool {
        let Some(place) = self.place_of(sequence).find(|&place| self.flags[place] & SURE != 0) else {
            return false;
        };
        self.give_up(self.before[place]);
        true
    }

    /// Whether the value of that write is still kept.
    pub(crate) fn keeps(&self, sequence: u64) -> bool {
        self.place_of(sequence).next().is_some()
    }

    /// A read that nothing interfered with found `content`, one of the present values: nothing will change it.
    pub(crate) fn settle(&mut self, content: &Content) {
        for place in 0..VALUES {
            let is_it = match (self.flags[place] & LOOK, content) {
                (STAMPED, Content::Stamped(stamp)) => stamp.sequence == self.sequences[place],
                (ZEROES, Content::Zeroes) | (ONES, Content::Ones) | (ANYTHING, _) => true,
                _ => false,
            };
            if !is_it {
                self.flags[place] &= !PRESENT;
            }
        }
    }

    /// What a read may find.
    pub(crate) fn present(&self) -> impl Iterator<Item = Allowed> + '_ {
        self.places(USED | PRESENT).map(|place| self.value(place))
    }

    /// What a power loss may leave, if nothing is submitted any more.
    pub(crate) fn after_power_loss(&self) -> impl Iterator<Item = Allowed> + '_ {
        self.places(USED).map(|place| self.value(place))
    }

    fn value(&self, place: usize) -> Allowed {
        let sequence = self.sequences[place];
        match self.flags[place] & LOOK {
            STAMPED => Allowed::Stamped(sequence),
            ZEROES => Allowed::Zeroes(sequence),
            ONES => Allowed::Ones(sequence),
            _ => Allowed::Anything,
        }
    }

    fn give_up(&mut self, set: u8) {
        for place in bits(set) {
            self.flags[place] = 0;
            self.before[place] = 0;
        }
        for before in &mut self.before {
            *before &= !set;
        }
    }
}

fn bits(set: u8) -> impl Iterator<Item = usize> {
    (0..VALUES).filter(move |place| set & 1 << place != 0)
}
