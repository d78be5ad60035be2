//! [`Loopback`]: the wire's other side is its own.

use crate::queue::Queue;
use crate::{End, Frame};

/// Gives back what it takes, in order.
#[derive(Debug)]
pub struct Loopback(Queue);

impl Loopback {
    /// Holds up to `limit` frames; what comes while it is full is lost.
    pub fn new(limit: usize) -> Self {
        Self(Queue::new(limit))
    }
}

impl End for Loopback {
    fn take(&mut self, frame: &[u8], _: u64) {
        // What has no room is lost, as the limit says.
        let _ = self.0.push(frame, None);
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.0.pop()
    }

    fn due_ns(&self) -> Option<u64> {
        (!self.0.is_empty()).then_some(0)
    }
}
