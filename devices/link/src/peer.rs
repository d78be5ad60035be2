//! [`Peer`]: the other side of a wire.

use std::sync::Arc;

use crate::LossCounters;

/// A frame on its way to the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The bytes from the destination address on, without FCS.
    pub bytes: &'a [u8],
    /// The damage that the receiving MAC detects; `None` if the FCS is right.
    pub damage: Option<Damage>,
}

/// Damage to a frame that the receiving MAC detects.
///
/// As wide as a register: a [`Frame`] is copied in words, and a load of a word that was stored as a byte and
/// padding waits until all stores before it are done. Those stores are the frame before it, on its way to the
/// cache of another core: measured, 20 ns for each frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Damage {
    /// The FCS does not match the bytes.
    Fcs,
    /// The line code was violated within the frame.
    Code,
}

/// Wakes the thread of the device at the wire. Any thread may call it, when there is a frame for the device
/// or the state of the link has changed.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The other side of a wire. The device's thread calls all methods, and none of them blocks.
pub trait Peer: Send {
    /// Takes a frame from the device. Its last bit arrives at `now_ns`. The frame is undamaged: a damaged one
    /// is dropped before the peer.
    fn take(&mut self, frame: &[u8], now_ns: u64);

    /// Returns the next frame for the device that can have left by `now_ns`.
    fn give(&mut self, now_ns: u64) -> Option<Frame<'_>>;

    /// The time from which [`Self::give`] can return a frame; `None` if only after a frame was taken or the
    /// waker was called.
    fn due_ns(&self) -> Option<u64>;

    /// Returns true if the peer is connected, that is, if there is light on the fibre.
    fn is_up(&self) -> bool {
        true
    }

    /// The counters of the frames that this peer loses. The default is for a peer that loses none.
    fn losses(&self) -> Arc<LossCounters> {
        Arc::default()
    }

    /// Hands over the waker, once and before all other calls. A peer with threads of its own keeps it.
    fn attach(&mut self, waker: Waker) {
        let _ = waker;
    }
}

/// No peer: the link is down, and all frames are lost.
#[derive(Clone, Debug, Default)]
pub struct NullPeer {
    losses: Arc<LossCounters>,
}

impl Peer for NullPeer {
    fn take(&mut self, _: &[u8], _: u64) {
        self.losses.not_connected.add(1);
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
    fn a_frame_without_a_peer_is_counted() {
        let mut end = NullPeer::default();
        end.take(&[1; 60], 0);
        assert_eq!(end.losses().read(), crate::Losses { not_connected: 1, ..Default::default() });
    }
}
