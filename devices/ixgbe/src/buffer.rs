//! The packet buffer: holds frames until there are descriptors for them (82599 datasheet, section 7.1.1 and
//! 8.2.3.8.9).

use std::collections::VecDeque;

use crate::receive::Classified;

/// The unit of the buffer, and so the least that a frame takes.
const LINE_BYTES: usize = 64;

/// Frames in order of arrival.
pub(crate) struct PacketBuffer {
    frames: VecDeque<(Classified, Vec<u8>)>,
    /// Recycled memory, so that nothing is allocated while traffic flows.
    recycled: Vec<Vec<u8>>,
    used: usize,
    limit: usize,
}

impl PacketBuffer {
    pub(crate) fn new() -> Self {
        Self { frames: VecDeque::new(), recycled: Vec::new(), used: 0, limit: 0 }
    }

    pub(crate) fn set_limit(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Appends a copy of the frame. Returns false if there is no room.
    pub(crate) fn push(&mut self, classified: Classified, frame: &[u8]) -> bool {
        let bytes = frame.len().next_multiple_of(LINE_BYTES);
        if self.used + bytes > self.limit {
            return false;
        }
        self.used += bytes;
        let mut copy = self.recycled.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.frames.push_back((classified, copy));
        true
    }

    pub(crate) fn front(&self) -> Option<(&Classified, &[u8])> {
        self.frames.front().map(|(classified, frame)| (classified, frame.as_slice()))
    }

    pub(crate) fn pop(&mut self) {
        if let Some((_, frame)) = self.frames.pop_front() {
            self.used -= frame.len().next_multiple_of(LINE_BYTES);
            self.recycled.push(frame);
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
