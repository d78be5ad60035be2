//! [`Wire`]: two directions with a rate, and a peer.

use std::sync::Arc;

use crate::impairment::Layer;
use crate::{Frame, Impairment, LossCounters, Pace, Peer, Rate, Waker};

/// A full-duplex Ethernet link between a device and a peer.
pub struct Wire {
    outbound: Pace,
    inbound: Pace,
    peer: Box<dyn Peer>,
    impairment: Option<Box<Layer>>,
    losses: Arc<LossCounters>,
}

impl Wire {
    /// A wire to `peer`, with `rate` in each direction.
    pub fn new(rate: Rate, peer: Box<dyn Peer>) -> Self {
        let losses = peer.losses();
        Self { outbound: Pace::new(rate), inbound: Pace::new(rate), peer, impairment: None, losses }
    }

    /// Adds an impairment of the frames on their way.
    #[must_use]
    pub fn with_impairment(self, impairment: Arc<Impairment>) -> Self {
        let layer = Layer::new(impairment, self.losses.clone());
        Self { impairment: Some(Box::new(layer)), ..self }
    }

    /// The impairment of the wire, if it has one.
    pub fn impairment(&self) -> Option<&Arc<Impairment>> {
        self.impairment.as_ref().map(|layer| layer.impairment())
    }

    /// The counters of frames that were not delivered. They stay valid after the wire is dropped.
    pub fn losses(&self) -> &Arc<LossCounters> {
        &self.losses
    }

    /// Passes the waker of the device's thread on to the peer.
    pub fn attach(&mut self, waker: Waker) {
        if let Some(layer) = &self.impairment {
            layer.attach(waker.clone());
        }
        self.peer.attach(waker);
    }

    /// Returns true if the link is up at `now_ns`.
    pub fn is_up(&self, now_ns: u64) -> bool {
        self.peer.is_up() && self.impairment.as_ref().is_none_or(|layer| layer.is_up(now_ns))
    }

    /// The time at which a link that is down comes up by itself; `None` if only after the waker was called.
    pub fn up_due_ns(&self) -> Option<u64> {
        self.impairment.as_ref().filter(|_| self.peer.is_up())?.up_due_ns()
    }

    /// The rate of each direction.
    pub const fn rate(&self) -> Rate {
        self.outbound.rate()
    }

    /// Returns true if a frame can be sent at `now_ns`.
    #[inline]
    pub fn can_send(&self, now_ns: u64) -> bool {
        self.outbound.is_free(now_ns)
    }

    /// Sends a frame: the bytes from the destination address on, without FCS.
    #[inline]
    pub fn send(&mut self, frame: &[u8], now_ns: u64) {
        self.outbound.occupy(frame.len(), now_ns);
        match &mut self.impairment {
            None => self.peer.take(frame, now_ns),
            Some(layer) => layer.send(frame, &mut *self.peer, now_ns),
        }
    }

    /// Returns the next frame that has arrived by `now_ns`.
    #[inline]
    pub fn receive(&mut self, now_ns: u64) -> Option<Frame<'_>> {
        if let Some(layer) = &mut self.impairment {
            return layer.receive(&mut self.inbound, &mut *self.peer, now_ns);
        }
        if !self.inbound.is_free(now_ns) {
            return None;
        }
        let frame = self.peer.give(now_ns)?;
        self.inbound.occupy(frame.bytes.len(), now_ns);
        Some(frame)
    }

    /// The time from which the next frame can be sent.
    pub const fn send_due_ns(&self) -> u64 {
        self.outbound.free_ns()
    }

    /// The time from which [`Self::receive`] can return a frame; `None` if only after a frame was sent or the
    /// waker was called.
    pub fn receive_due_ns(&self) -> Option<u64> {
        let due = self.peer.due_ns().map(|due| due.max(self.inbound.free_ns()));
        match &self.impairment {
            None => due,
            Some(layer) => layer.due_ns(due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Loopback;

    #[test]
    fn frames_to_a_loopback_return_in_order() {
        let mut wire = Wire::new(Rate::Unlimited, Box::new(Loopback::new(2)));
        assert_eq!(wire.receive_due_ns(), None);
        for byte in 0..3 {
            wire.send(&[byte; 60], 5);
        }
        assert_eq!(wire.receive_due_ns(), Some(0));
        for byte in 0..2 {
            assert_eq!(wire.receive(5).map(|frame| frame.bytes.to_vec()), Some(vec![byte; 60]));
        }
        assert_eq!(wire.receive(5), None);
        assert_eq!(wire.losses().read(), crate::Losses { peer_full: 1, ..Default::default() });
    }
}
