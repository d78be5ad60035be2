//! [`Loopback`]: the wire's other side is its own.

use std::sync::Arc;

use crate::queue::Queue;
use crate::{End, Frame, LossCounters};

/// Gives back what it takes, in order.
#[derive(Debug)]
pub struct Loopback {
    queue: Queue,
    losses: Arc<LossCounters>,
}

impl Loopback {
    /// Holds up to `limit` frames; what comes while it is full is lost.
    pub fn new(limit: usize) -> Self {
        Self { queue: Queue::new(limit), losses: Arc::default() }
    }
}

impl End for Loopback {
    fn take(&mut self, frame: &[u8], _: u64) {
        if !self.queue.push(frame, None) {
            self.losses.end_full.add(1);
        }
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.queue.pop()
    }

    fn due_ns(&self) -> Option<u64> {
        (!self.queue.is_empty()).then_some(0)
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.losses.clone()
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.losses.abandoned.add(self.queue.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Losses;

    #[test]
    fn frames_without_room_and_frames_that_stay_behind_are_counted() {
        let mut end = Loopback::new(3);
        (0..5).for_each(|byte| end.take(&[byte; 60], 0));
        assert!(end.give(0).is_some());
        let losses = end.losses();
        assert_eq!(losses.read(), Losses { end_full: 2, ..Losses::default() });
        drop(end);
        assert_eq!(losses.read(), Losses { end_full: 2, abandoned: 2, ..Losses::default() });
    }
}
