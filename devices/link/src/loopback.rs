//! [`Loopback`]: a peer that returns all frames to the device.

use std::sync::Arc;

use crate::queue::Queue;
use crate::{Frame, LossCounters, Peer};

/// Returns each frame that it takes, in order.
#[derive(Debug)]
pub struct Loopback {
    queue: Queue,
    losses: Arc<LossCounters>,
}

impl Loopback {
    /// A loopback for up to `limit` frames; more are lost.
    pub fn new(limit: usize) -> Self {
        Self { queue: Queue::new(limit), losses: Arc::default() }
    }
}

impl Peer for Loopback {
    fn take(&mut self, frame: &[u8], _: u64) {
        if !self.queue.push(frame, None) {
            self.losses.peer_full.add(1);
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
    fn frames_without_room_and_frames_never_delivered_are_counted() {
        let mut peer = Loopback::new(3);
        (0..5).for_each(|byte| peer.take(&[byte; 60], 0));
        assert!(peer.give(0).is_some());
        let losses = peer.losses();
        assert_eq!(losses.read(), Losses { peer_full: 2, ..Losses::default() });
        drop(peer);
        assert_eq!(losses.read(), Losses { peer_full: 2, abandoned: 2, ..Losses::default() });
    }
}
