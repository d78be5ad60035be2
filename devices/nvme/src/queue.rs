//! Submission and completion queues (Base, section 3.3.1), as the controller sees them.

use std::collections::VecDeque;

use crate::status::Status;

/// Size of a completion queue entry.
pub(crate) const COMPLETION_BYTES: u64 = 16;

/// A submission queue: the driver moves the tail, the controller the head.
pub(crate) struct SubmissionQueue {
    pub(crate) base: u64,
    pub(crate) entries: u32,
    pub(crate) head: u32,
    /// Where its completions go.
    pub(crate) cq: u16,
    /// Commands fetched and not yet answered.
    pub(crate) outstanding: u32,
}

/// A completion queue: the controller moves the tail, the driver the head.
pub(crate) struct CompletionQueue {
    pub(crate) base: u64,
    pub(crate) entries: u32,
    pub(crate) tail: u32,
    /// The phase tag of entries written now: inverted at each pass, and 1 in the first (Base, section 3.3.3.2).
    pub(crate) phase: bool,
    /// Whether interrupts are enabled, and which.
    pub(crate) vector: Option<u16>,
    /// Submission queues that use it.
    pub(crate) users: u32,
    /// What did not fit.
    pub(crate) waiting: VecDeque<Completion>,
    /// Entries written since the last interrupt.
    pub(crate) unsignalled: u32,
    /// When the first of them was written, in nanoseconds of the device's clock.
    pub(crate) unsignalled_since: u64,
}

/// What becomes a completion queue entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) sq: u16,
    pub(crate) cq: u16,
    pub(crate) id: u16,
    pub(crate) status: Status,
    /// Whether the error log says more.
    pub(crate) more: bool,
    /// Command specific.
    pub(crate) dword0: u32,
    /// Reported instead of the submission queue's head if there is one: a lie.
    pub(crate) false_head: Option<u16>,
}

impl SubmissionQueue {
    pub(crate) fn new(base: u64, entries: u32, cq: u16) -> Self {
        Self { base, entries, head: 0, cq, outstanding: 0 }
    }
}

impl CompletionQueue {
    pub(crate) fn new(base: u64, entries: u32, vector: Option<u16>) -> Self {
        Self {
            base,
            entries,
            tail: 0,
            phase: true,
            vector,
            users: 0,
            waiting: VecDeque::new(),
            unsignalled: 0,
            unsignalled_since: 0,
        }
    }

    /// Whether an entry fits: the queue is full with one entry fewer than it has (Base, section 3.3.1.5).
    pub(crate) fn has_room(&self, head: u32) -> bool {
        let next = self.tail + 1;
        (if next == self.entries { 0 } else { next }) != head
    }

    /// Where the next entry goes.
    pub(crate) fn place(&self) -> u64 {
        self.base + u64::from(self.tail) * COMPLETION_BYTES
    }

    pub(crate) fn advance(&mut self) {
        self.tail += 1;
        if self.tail == self.entries {
            self.tail = 0;
            self.phase = !self.phase;
        }
    }
}

impl Completion {
    /// Dwords 0 to 2.
    pub(crate) fn body(&self, head: u16) -> [u8; 12] {
        let mut body = [0; 12];
        body[..4].copy_from_slice(&self.dword0.to_le_bytes());
        body[8..10].copy_from_slice(&self.false_head.unwrap_or(head).to_le_bytes());
        body[10..].copy_from_slice(&self.sq.to_le_bytes());
        body
    }

    /// Dword 3: what makes the entry valid.
    pub(crate) fn last_dword(&self, phase: bool) -> u32 {
        let status = self.status.field(self.more) | u16::from(phase);
        u32::from(status) << 16 | u32::from(self.id)
    }
}
