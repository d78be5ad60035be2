//! The packet buffer: where frames wait for descriptors (82599 datasheet, section 7.1.1 and 8.2.3.8.9).

use std::collections::VecDeque;

use crate::receive::Sorted;

/// Bytes that a frame takes at least: the buffer is made of lines.
const LINE_BYTES: usize = 64;

/// Frames in order of arrival.
pub(crate) struct PacketBuffer {
    frames: VecDeque<(Sorted, Vec<u8>)>,
    /// To be used again, so that nothing is allocated while traffic flows.
    idle: Vec<Vec<u8>>,
    used: usize,
    limit: usize,
}

impl PacketBuffer {
    pub(crate) fn new() -> Self {
        Self { frames: VecDeque::new(), idle: Vec::new(), used: 0, limit: 0 }
    }

    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether there was room.
    pub(crate) fn push(&mut self, sorted: Sorted, frame: &[u8]) -> bool {
        let bytes = frame.len().next_multiple_of(LINE_BYTES);
        if self.used + bytes > self.limit {
            return false;
        }
        self.used += bytes;
        let mut copy = self.idle.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.frames.push_back((sorted, copy));
        true
    }

    pub(crate) fn front(&self) -> Option<(&Sorted, &[u8])> {
        self.frames.front().map(|(sorted, frame)| (sorted, frame.as_slice()))
    }

    pub(crate) fn pop(&mut self) {
        if let Some((_, frame)) = self.frames.pop_front() {
            self.used -= frame.len().next_multiple_of(LINE_BYTES);
            self.idle.push(frame);
        }
    }

    /// Drops all frames, and returns their number.
    pub(crate) fn clear(&mut self) -> usize {
        let count = self.frames.len();
        while !self.is_empty() {
            self.pop();
        }
        count
    }
}
