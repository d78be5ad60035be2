//! [`Queue`]: a queue of frames in recycled buffers.

use std::collections::VecDeque;

use crate::{Damage, Frame};

/// A bounded queue of frames. In steady state it allocates nothing.
#[derive(Debug)]
pub(crate) struct Queue {
    frames: VecDeque<(Vec<u8>, Option<Damage>)>,
    idle: Vec<Vec<u8>>,
    /// The frame that [`Self::pop`] lends.
    current: Vec<u8>,
    limit: usize,
}

impl Queue {
    /// An empty queue for up to `limit` frames.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { frames: VecDeque::new(), idle: Vec::new(), current: Vec::new(), limit }
    }

    /// Appends a copy of the frame. Returns false if the queue is full.
    pub(crate) fn push(&mut self, bytes: &[u8], damage: Option<Damage>) -> bool {
        if self.frames.len() >= self.limit {
            return false;
        }
        let mut copy = self.idle.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        self.frames.push_back((copy, damage));
        true
    }

    /// Removes the first frame and lends it until the next call.
    pub(crate) fn pop(&mut self) -> Option<Frame<'_>> {
        let (next, damage) = self.frames.pop_front()?;
        self.idle.push(std::mem::replace(&mut self.current, next));
        Some(Frame { bytes: &self.current, damage })
    }

    /// Removes the first frame into `buffer`, whose old memory is recycled.
    pub(crate) fn pop_into(&mut self, buffer: &mut Vec<u8>) -> Option<Option<Damage>> {
        let (next, damage) = self.frames.pop_front()?;
        self.idle.push(std::mem::replace(buffer, next));
        Some(damage)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }
}
