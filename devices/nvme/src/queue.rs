//! Submission and completion queues (Base, section 3.3.1), as the controller sees them.

use std::collections::VecDeque;

use crate::spec::COMPLETION_BYTES;
use crate::status::Status;

/// A submission queue. The driver moves its tail, the controller its head.
pub(crate) struct SubmissionQueue {
    pub(crate) base: u64,
    pub(crate) entries: u32,
    pub(crate) head: u32,
    /// The id of its completion queue.
    pub(crate) cq: u16,
    /// The number of commands that were fetched and not yet executed.
    pub(crate) outstanding: u32,
}

/// A completion queue. The controller moves its tail, the driver its head.
pub(crate) struct CompletionQueue {
    pub(crate) base: u64,
    pub(crate) entries: u32,
    pub(crate) tail: u32,
    /// The phase tag of the next entry: 1 in the first pass, inverted at each further pass (Base, section
    /// 3.3.3.2).
    pub(crate) phase: bool,
    /// The interrupt vector; `None` if interrupts are disabled.
    pub(crate) vector: Option<u16>,
    /// The number of submission queues that use it.
    pub(crate) users: u32,
    /// Completions for which the queue has no room.
    pub(crate) waiting: VecDeque<Completion>,
    /// The number of entries written since the last interrupt.
    pub(crate) unsignalled: u32,
    /// The time at which the first of them was written, on the device's clock.
    pub(crate) unsignalled_since_ns: u64,
}

/// The content of a completion queue entry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) sq: u16,
    pub(crate) cq: u16,
    pub(crate) id: u16,
    pub(crate) status: Status,
    /// More: the error log has an entry about the command.
    pub(crate) more: bool,
    /// Command-specific result.
    pub(crate) dword0: u32,
    /// A wrong submission queue head to report, for fault injection.
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
            unsignalled_since_ns: 0,
        }
    }

    /// Returns true if an entry fits. One entry of the queue stays free (Base, section 3.3.1.5).
    pub(crate) fn has_room(&self, head: u32) -> bool {
        let next = self.tail + 1;
        (if next == self.entries { 0 } else { next }) != head
    }

    /// The address of the next entry.
    pub(crate) fn next_address(&self) -> u64 {
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

    /// Dword 3, which makes the entry valid.
    pub(crate) fn last_dword(&self, phase: bool) -> u32 {
        let status = self.status.field(self.more) | u16::from(phase);
        u32::from(status) << 16 | u32::from(self.id)
    }
}
