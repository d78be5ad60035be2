//! [`Wire`]: two directions at a rate, and an end.

use std::sync::Arc;

use crate::trouble::Layer;
use crate::{End, Frame, LossCounters, Pace, Rate, Trouble, Waker};

/// What a device is plugged into.
pub struct Wire {
    out: Pace,
    back: Pace,
    end: Box<dyn End>,
    trouble: Option<Box<Layer>>,
    losses: Arc<LossCounters>,
}

impl Wire {
    /// A wire to `end`.
    pub fn new(rate: Rate, end: Box<dyn End>) -> Self {
        let losses = end.losses();
        Self { out: Pace::new(rate), back: Pace::new(rate), end, trouble: None, losses }
    }

    /// The same with things that happen to frames on their way.
    #[must_use]
    pub fn with_trouble(self, trouble: Arc<Trouble>) -> Self {
        let layer = Layer::new(trouble, self.losses.clone());
        Self { trouble: Some(Box::new(layer)), ..self }
    }

    /// What happens to frames on their way, if anything may.
    pub fn trouble(&self) -> Option<&Arc<Trouble>> {
        self.trouble.as_ref().map(|layer| layer.trouble())
    }

    /// The counters of frames that were not delivered. They outlive the wire.
    pub fn losses(&self) -> &Arc<LossCounters> {
        &self.losses
    }

    /// Says how to wake the device's thread.
    pub fn attach(&mut self, waker: Waker) {
        if let Some(layer) = &self.trouble {
            layer.attach(waker.clone());
        }
        self.end.attach(waker);
    }

    /// Whether there is somebody at the other side.
    pub fn is_up(&self, now_ns: u64) -> bool {
        self.end.is_up() && self.trouble.as_ref().is_none_or(|layer| layer.is_up(now_ns))
    }

    /// When a link that is down can be up by the passing of time; `None` if only after the waker was called.
    pub fn up_due_ns(&self) -> Option<u64> {
        self.trouble.as_ref().filter(|_| self.end.is_up())?.up_due_ns()
    }

    /// How fast it is.
    pub const fn rate(&self) -> Rate {
        self.out.rate()
    }

    /// Whether a frame can be sent at `now_ns`.
    #[inline]
    pub fn can_send(&self, now_ns: u64) -> bool {
        self.out.is_free(now_ns)
    }

    /// Sends a frame, from the destination address on and without FCS.
    #[inline]
    pub fn send(&mut self, frame: &[u8], now_ns: u64) {
        self.out.occupy(frame.len(), now_ns);
        match &mut self.trouble {
            None => self.end.take(frame, now_ns),
            Some(layer) => layer.send(frame, &mut *self.end, now_ns),
        }
    }

    /// The next frame that has arrived by `now_ns`.
    #[inline]
    pub fn receive(&mut self, now_ns: u64) -> Option<Frame<'_>> {
        if let Some(layer) = &mut self.trouble {
            return layer.receive(&mut self.back, &mut *self.end, now_ns);
        }
        if !self.back.is_free(now_ns) {
            return None;
        }
        let frame = self.end.give(now_ns)?;
        self.back.occupy(frame.bytes.len(), now_ns);
        Some(frame)
    }

    /// When a frame that is waiting to be sent can be.
    pub const fn send_due_ns(&self) -> u64 {
        self.out.free_ns()
    }

    /// When [`Self::receive`] is worth a try; `None` if only after a frame was sent, or the waker called.
    pub fn receive_due_ns(&self) -> Option<u64> {
        let due = self.end.due_ns().map(|due| due.max(self.back.free_ns()));
        match &self.trouble {
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
    fn what_is_sent_to_a_loopback_comes_back_in_order() {
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
        assert_eq!(wire.losses().read(), crate::Losses { end_full: 1, ..Default::default() });
    }
}
