//! [`Queue`]: frames that wait, in buffers that are used again.

use std::collections::VecDeque;

use crate::{Damage, Frame};

/// Up to a number of frames, in order. When it runs it allocates nothing.
#[derive(Debug)]
pub(crate) struct Queue {
    frames: VecDeque<(Vec<u8>, Option<Damage>)>,
    idle: Vec<Vec<u8>>,
    /// What [`Self::pop`] lends.
    current: Vec<u8>,
    limit: usize,
}

impl Queue {
    /// Holds up to `limit` frames.
    pub(crate) fn new(limit: usize) -> Self {
        Self { frames: VecDeque::new(), idle: Vec::new(), current: Vec::new(), limit }
    }

    /// Puts a copy behind the others, if there is room; whether there was.
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

    /// The first, until the next call.
    pub(crate) fn pop(&mut self) -> Option<Frame<'_>> {
        let (next, damage) = self.frames.pop_front()?;
        self.idle.push(std::mem::replace(&mut self.current, next));
        Some(Frame { bytes: &self.current, damage })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }
}
