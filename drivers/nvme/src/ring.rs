//! [`SubmissionRing`] and [`CompletionRing`]: the two halves of a queue pair in memory (Base 3.3.1).

use coppice_hardware::{DmaAddr, DmaMemory, Registers};

use crate::Status;
use crate::command::SubmissionEntry;

/// Bytes of a submission queue entry (Base 3.3.3.1).
pub(crate) const SUBMISSION_BYTES: usize = 64;
/// Bytes of a completion queue entry (Base 3.3.3.2).
pub(crate) const COMPLETION_BYTES: usize = 16;

/// A submission queue. The caller guarantees that it has room: it has fewer commands in flight than entries.
pub(crate) struct SubmissionRing {
    memory: DmaMemory,
    entries: u32,
    tail: u32,
    announced: u32,
    doorbell: usize,
}

impl SubmissionRing {
    /// Creates a ring of `entries` entries in `memory`.
    pub(crate) fn new(memory: DmaMemory, entries: u32, doorbell: usize) -> Self {
        assert!(memory.len() >= entries as usize * SUBMISSION_BYTES, "{entries} entries in {memory:?}");
        Self { memory, entries, tail: 0, announced: 0, doorbell }
    }

    /// Returns the ring's device address.
    pub(crate) fn addr(&self) -> DmaAddr {
        self.memory.addr(0)
    }

    /// Empties the ring, as the controller does when it creates the queue.
    pub(crate) fn restart(&mut self) {
        (self.tail, self.announced) = (0, 0);
    }

    #[inline]
    pub(crate) fn tail(&self) -> u32 {
        self.tail
    }

    /// Writes a command at the tail. The controller does not read it before [`Self::ring`].
    #[inline]
    pub(crate) fn push(&mut self, entry: &SubmissionEntry) {
        let at = self.tail as usize * SUBMISSION_BYTES;
        self.memory.write(at, *entry.words());
        self.tail = if self.tail + 1 == self.entries { 0 } else { self.tail + 1 };
    }

    /// Notifies the controller of all new commands, with one doorbell write.
    #[inline]
    pub(crate) fn ring(&mut self, registers: &Registers) {
        if self.tail != self.announced {
            self.announced = self.tail;
            registers.write32(self.doorbell, self.tail);
        }
    }

    /// Returns the number of entries between `head`, as reported in a completion, and the tail; `None` if
    /// `head` is not an index of this ring.
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
pub(crate) struct CompletionEntry {
    /// Double word 2.
    queue_and_head: u32,
    last: u32,
}

impl CompletionEntry {
    /// Returns SQ Identifier.
    #[inline]
    pub(crate) fn queue(self) -> u16 {
        (self.queue_and_head >> 16) as u16
    }

    /// Returns SQ Head Pointer.
    #[inline]
    pub(crate) fn head(self) -> u16 {
        self.queue_and_head as u16
    }

    /// Returns Command Identifier.
    #[inline]
    pub(crate) fn command_id(self) -> u16 {
        self.last as u16
    }

    /// Returns the status, without the phase tag.
    #[inline]
    pub(crate) fn status(self) -> Status {
        Status::from_bits((self.last >> 17) as u16)
    }
}

/// A completion queue. Only the phase tag says whether an entry is new (Base 3.3.3.2.2): the SQ head in
/// another completion says that the controller has fetched up to there, not that it has executed the
/// commands.
pub(crate) struct CompletionRing {
    memory: DmaMemory,
    entries: u32,
    head: u32,
    /// The phase tag of a new entry.
    phase: bool,
    /// The number of processed entries since the last doorbell write.
    unacknowledged: u32,
    /// The largest value of `unacknowledged` at which all outstanding completions still fit.
    slack: u32,
    doorbell: usize,
}

impl CompletionRing {
    /// Creates a ring of `entries` entries in `memory`, which is all zero, for at most `in_flight`
    /// outstanding commands.
    pub(crate) fn new(memory: DmaMemory, entries: u32, in_flight: u32, doorbell: usize) -> Self {
        assert!(memory.len() >= entries as usize * COMPLETION_BYTES, "{entries} entries in {memory:?}");
        let slack = (entries - 1).saturating_sub(in_flight);
        Self { memory, entries, head: 0, phase: true, unacknowledged: 0, slack, doorbell }
    }

    /// Returns the ring's device address.
    pub(crate) fn addr(&self) -> DmaAddr {
        self.memory.addr(0)
    }

    /// Empties the ring, before the controller creates the queue again.
    pub(crate) fn restart(&mut self) {
        self.memory.clear();
        (self.head, self.phase, self.unacknowledged) = (0, true, 0);
    }

    /// Returns true if there is a new entry.
    #[inline]
    pub(crate) fn has_new(&self) -> bool {
        let last = self.memory.read_flag(self.head as usize * COMPLETION_BYTES + 12);
        (last >> 16) & 1 == u32::from(self.phase)
    }

    /// Returns the next entry if it is new, without consuming it.
    #[inline]
    pub(crate) fn peek(&self) -> Option<CompletionEntry> {
        let at = self.head as usize * COMPLETION_BYTES;
        // Read the double word with the phase tag first: the controller has written the rest of the entry
        // before it.
        let last = self.memory.read_flag(at + 12);
        if (last >> 16) & 1 != u32::from(self.phase) {
            return None;
        }
        Some(CompletionEntry { queue_and_head: self.memory.read(at + 8), last })
    }

    /// Returns double word 0 of the next entry: the result of an admin command.
    pub(crate) fn result(&self) -> u32 {
        self.memory.read(self.head as usize * COMPLETION_BYTES)
    }

    /// Consumes the next entry.
    #[inline]
    pub(crate) fn advance(&mut self) {
        self.head += 1;
        if self.head == self.entries {
            self.head = 0;
            self.phase = !self.phase;
        }
        self.unacknowledged += 1;
    }

    /// Tells the controller which entries it may overwrite, if needed: not as long as all outstanding
    /// completions fit without it, because the doorbell write is the most expensive part of a completion.
    /// Before it sleeps, the caller uses [`Self::acknowledge_all`].
    #[inline]
    pub(crate) fn acknowledge_if_needed(&mut self, registers: &Registers) {
        if self.unacknowledged > self.slack {
            self.acknowledge_all(registers);
        }
    }

    /// Tells the controller which entries it may overwrite, with one doorbell write for all of them.
    #[inline]
    pub(crate) fn acknowledge_all(&mut self, registers: &Registers) {
        if self.unacknowledged > 0 {
            self.unacknowledged = 0;
            registers.write32(self.doorbell, self.head);
        }
    }
}
