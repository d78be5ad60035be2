//! [`SubmissionRing`] and [`CompletionRing`]: the two halves of a queue pair, in memory (Base 3.3.1).

use coppice_hardware::{DmaAddr, DmaMemory, Registers};

use crate::Status;
use crate::command::Entry;

/// Bytes of a submission queue entry (Base 3.3.3.1).
pub(crate) const SUBMISSION_BYTES: usize = 64;
/// Bytes of a completion queue entry (Base 3.3.3.2).
pub(crate) const COMPLETION_BYTES: usize = 16;

/// A submission queue. That it has room is its user's to know: less commands in flight than entries.
pub(crate) struct SubmissionRing {
    memory: DmaMemory,
    entries: u32,
    tail: u32,
    rung: u32,
    doorbell: usize,
}

impl SubmissionRing {
    /// Of `entries` entries, in `memory`.
    pub(crate) fn new(memory: DmaMemory, entries: u32, doorbell: usize) -> Self {
        assert!(memory.len() >= entries as usize * SUBMISSION_BYTES, "{entries} entries in {memory:?}");
        Self { memory, entries, tail: 0, rung: 0, doorbell }
    }

    /// Where it begins.
    pub(crate) fn addr(&self) -> DmaAddr {
        self.memory.addr(0)
    }

    /// Empties it, as the controller does when it makes the queue.
    pub(crate) fn restart(&mut self) {
        (self.tail, self.rung) = (0, 0);
    }

    #[inline]
    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Writes a command behind the last. The controller does not look at it before [`Self::ring`].
    #[inline]
    pub(crate) fn push(&mut self, entry: &Entry) {
        let at = self.tail as usize * SUBMISSION_BYTES;
        self.memory.write(at, *entry.words());
        self.tail = if self.tail + 1 == self.entries { 0 } else { self.tail + 1 };
    }

    /// Tells the controller of all commands that it was not told of: one store, however many they are.
    #[inline]
    pub(crate) fn ring(&mut self, registers: &Registers) {
        if self.tail != self.rung {
            self.rung = self.tail;
            registers.write32(self.doorbell, self.tail);
        }
    }

    /// How many entries lie between `head`, as a completion has it, and the tail; `None` if there is no such entry.
    #[inline]
    pub(crate) fn not_fetched(&self, head: u16) -> Option<u32> {
        let head = u32::from(head);
        if head >= self.entries {
            return None;
        }
        Some(if self.tail >= head { self.tail - head } else { self.tail + self.entries - head })
    }
}

/// A completion queue entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    /// Double words 2 and 3.
    queue_and_head: u32,
    last: u32,
}

impl Answer {
    /// SQ Identifier.
    #[inline]
    pub(crate) fn queue(self) -> u16 {
        (self.queue_and_head >> 16) as u16
    }

    /// SQ Head Pointer.
    #[inline]
    pub(crate) fn head(self) -> u16 {
        self.queue_and_head as u16
    }

    /// Command Identifier.
    #[inline]
    pub(crate) fn command_id(self) -> u16 {
        self.last as u16
    }

    /// Status, without the phase tag.
    #[inline]
    pub(crate) fn status(self) -> Status {
        Status::from_bits((self.last >> 17) as u16)
    }
}

/// A completion queue. Whether an entry is new, its phase tag says and nothing else (Base 3.3.3.2.2): a head in some other
/// completion says that the controller has fetched that far, not that it is done.
pub(crate) struct CompletionRing {
    memory: DmaMemory,
    entries: u32,
    head: u32,
    /// What the phase tag of a new entry is.
    phase: bool,
    /// How many entries were taken that the controller was not told of.
    taken: u32,
    /// So many may be, see [`Self::acknowledge`].
    slack: u32,
    doorbell: usize,
}

impl CompletionRing {
    /// Of `entries` entries, in `memory`, which is all zero. There are never more than `in_flight` commands whose answers
    /// could arrive.
    pub(crate) fn new(memory: DmaMemory, entries: u32, in_flight: u32, doorbell: usize) -> Self {
        assert!(memory.len() >= entries as usize * COMPLETION_BYTES, "{entries} entries in {memory:?}");
        let slack = (entries - 1).saturating_sub(in_flight);
        Self { memory, entries, head: 0, phase: true, taken: 0, slack, doorbell }
    }

    /// Where it begins.
    pub(crate) fn addr(&self) -> DmaAddr {
        self.memory.addr(0)
    }

    /// Empties it, before the controller makes the queue again.
    pub(crate) fn restart(&mut self) {
        self.memory.clear();
        (self.head, self.phase, self.taken) = (0, true, 0);
    }

    /// Whether there is a new entry.
    #[inline]
    pub(crate) fn has_new(&self) -> bool {
        let last = self.memory.read_flag(self.head as usize * COMPLETION_BYTES + 12);
        (last >> 16) & 1 == u32::from(self.phase)
    }

    /// The next entry, if it is new. It stays the next.
    #[inline]
    pub(crate) fn peek(&self) -> Option<Answer> {
        let at = self.head as usize * COMPLETION_BYTES;
        // The double word with the phase tag first: what else the entry holds was written before.
        let last = self.memory.read_flag(at + 12);
        if (last >> 16) & 1 != u32::from(self.phase) {
            return None;
        }
        Some(Answer { queue_and_head: self.memory.read(at + 8), last })
    }

    /// Double word 0 of the next entry: what an admin command answers.
    pub(crate) fn result(&self) -> u32 {
        self.memory.read(self.head as usize * COMPLETION_BYTES)
    }

    /// Goes on to the entry after the next.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.head += 1;
        if self.head == self.entries {
            self.head = 0;
            self.phase = !self.phase;
        }
        self.taken += 1;
    }

    /// Tells the controller which entries it may overwrite: one store for all of them, and none as long as all answers that
    /// could arrive find room without it, because that store is the dearest thing that a completion costs. Before its user
    /// sleeps, [`Self::settle`].
    #[inline]
    pub(crate) fn acknowledge(&mut self, registers: &Registers) {
        if self.taken > self.slack {
            self.settle(registers);
        }
    }

    /// Tells the controller which entries it may overwrite.
    #[inline]
    pub(crate) fn settle(&mut self, registers: &Registers) {
        if self.taken > 0 {
            self.taken = 0;
            registers.write32(self.doorbell, self.head);
        }
    }
}
