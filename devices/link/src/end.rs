//! [`End`]: who is at the other side of a wire.

use std::sync::Arc;

use crate::LossCounters;

/// A frame on its way to the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// From the destination address on, without FCS.
    pub bytes: &'a [u8],
    /// What happened to it on the way.
    pub damage: Option<Damage>,
}

/// What a receiver's MAC notices of a frame.
///
/// As wide as a register: a [`Frame`] is copied in words, and a word that was stored as a byte and padding has to wait until all stores
/// before it are done. Those are the frame before it, on its way to another core's cache: measured, 20 ns for each frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Damage {
    /// The FCS does not fit the bytes.
    Fcs,
    /// The line code was broken within the frame.
    Code,
}

/// Wakes the thread of the device that a wire is plugged into, from any other: there is something to be had.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Who is at the other side of a wire. All methods are called by the device's thread, and wait for nothing.
pub trait End: Send {
    /// A frame from the device, whose last bit has arrived at `now_ns`. It is right: who makes damaged frames is between.
    fn take(&mut self, frame: &[u8], now_ns: u64);

    /// The next frame for the device that can be on its way by `now_ns`.
    fn give(&mut self, now_ns: u64) -> Option<Frame<'_>>;

    /// When [`Self::give`] is worth a try; `None` if only after a frame has been taken, or after the waker was called.
    fn due_ns(&self) -> Option<u64>;

    /// Whether there is light on the fibre.
    fn is_up(&self) -> bool {
        true
    }

    /// The counters of the frames that this end loses. An end without any loses none.
    fn losses(&self) -> Arc<LossCounters> {
        Arc::default()
    }

    /// Called once, before everything else. An end with threads of its own keeps it.
    fn attach(&mut self, waker: Waker) {
        let _ = waker;
    }
}

/// Nobody is there, and the fibre is dark.
#[derive(Clone, Debug, Default)]
pub struct Nobody {
    losses: Arc<LossCounters>,
}

impl End for Nobody {
    fn take(&mut self, _: &[u8], _: u64) {
        self.losses.no_peer.add(1);
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        None
    }

    fn due_ns(&self) -> Option<u64> {
        None
    }

    fn is_up(&self) -> bool {
        false
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.losses.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_to_nobody_is_counted() {
        let mut end = Nobody::default();
        end.take(&[1; 60], 0);
        assert_eq!(end.losses().read(), crate::Losses { no_peer: 1, ..Default::default() });
    }
}
