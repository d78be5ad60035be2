//! [`Layer`]: applies an [`Impairment`] between the pace of a wire and its peer.

use std::collections::BTreeMap;
use std::sync::Arc;

use device_bus::FaultRules;

use crate::impairment::{Impairment, ImpairmentKind};
use crate::{Damage, Frame, LossCounters, Pace, Peer, Waker};

/// The most frames that one call loses, before the device can do other work.
const MOST_LOST_PER_CALL: usize = 32;
/// The most frames that are delayed in each direction; more are lost.
pub(super) const DELAY_LIMIT: usize = 65_536;
const EXTENSION_LIMIT: u64 = 16 << 10;

/// The impairment of both directions of one wire.
pub(crate) struct Layer {
    impairment: Arc<Impairment>,
    losses: Arc<LossCounters>,
    inward: DelayQueue,
    outward: DelayQueue,
    /// The frame that is being impaired, and that [`Self::receive`] lends.
    current: Vec<u8>,
    /// The device's clock at the last call.
    now_ns: u64,
    /// The time at which a flap ends.
    down_until_ns: u64,
}

/// Delayed frames, by their time and then in the order of arrival.
#[derive(Default)]
struct DelayQueue {
    frames: BTreeMap<(u64, u64), (Vec<u8>, Option<Damage>)>,
    order: u64,
}

impl DelayQueue {
    fn push(&mut self, due_ns: u64, bytes: &[u8], damage: Option<Damage>, losses: &LossCounters) {
        if self.frames.len() < DELAY_LIMIT {
            self.order += 1;
            self.frames.insert((due_ns, self.order), (bytes.to_vec(), damage));
        } else {
            losses.delay_full.add(1);
        }
    }

    fn pop(&mut self, now_ns: u64) -> Option<(Vec<u8>, Option<Damage>)> {
        let first = self.frames.first_entry()?;
        (first.key().0 <= now_ns).then(|| first.remove())
    }

    fn due_ns(&self) -> Option<u64> {
        self.frames.keys().next().map(|(due, _)| *due)
    }
}

impl Layer {
    pub(crate) fn new(impairment: Arc<Impairment>, losses: Arc<LossCounters>) -> Self {
        let (inward, outward) = (DelayQueue::default(), DelayQueue::default());
        Self { impairment, losses, inward, outward, current: Vec::new(), now_ns: 0, down_until_ns: 0 }
    }

    pub(crate) fn impairment(&self) -> &Arc<Impairment> {
        &self.impairment
    }

    pub(crate) fn attach(&self, waker: Waker) {
        self.impairment.attach(waker);
    }

    pub(crate) fn is_up(&self, now_ns: u64) -> bool {
        !self.impairment.is_cut() && now_ns >= self.down_until_ns
    }

    /// Takes a frame from the device.
    pub(crate) fn send(&mut self, frame: &[u8], peer: &mut dyn Peer, now_ns: u64) {
        self.advance_to(peer, now_ns);
        self.current.clear();
        self.current.extend_from_slice(frame);
        match self.impair(true, None) {
            None => {}
            Some((_, Some(_))) => self.losses.damaged.add(1),
            Some((0, None)) => peer.take(&self.current, now_ns),
            Some((delay_ns, None)) => {
                self.outward.push(now_ns + delay_ns, &self.current, None, &self.losses);
            }
        }
    }

    /// Returns the next frame for the device.
    pub(crate) fn receive(&mut self, pace: &mut Pace, peer: &mut dyn Peer, now_ns: u64) -> Option<Frame<'_>> {
        self.advance_to(peer, now_ns);
        if let Some((bytes, damage)) = self.inward.pop(now_ns) {
            self.current = bytes;
            return Some(Frame { bytes: &self.current, damage });
        }
        for _ in 0..MOST_LOST_PER_CALL {
            if !pace.is_free(now_ns) {
                return None;
            }
            let frame = peer.give(now_ns)?;
            // Lost frames take their time on the wire, too.
            pace.occupy(frame.bytes.len(), now_ns);
            let damage = frame.damage;
            self.current.clear();
            self.current.extend_from_slice(frame.bytes);
            match self.impair(false, damage) {
                None => {}
                Some((0, damage)) => return Some(Frame { bytes: &self.current, damage }),
                Some((delay_ns, damage)) => {
                    self.inward.push(now_ns + delay_ns, &self.current, damage, &self.losses);
                }
            }
        }
        None
    }

    /// The time at which a flap ends; `None` while the cable is cut. Connecting the cable wakes the device.
    pub(crate) fn up_due_ns(&self) -> Option<u64> {
        (!self.impairment.is_cut()).then_some(self.down_until_ns)
    }

    /// The time at which the device has to look at its wire. `peer` is the time at which its peer has a
    /// frame.
    pub(crate) fn due_ns(&self, peer: Option<u64>) -> Option<u64> {
        if !self.is_up(self.now_ns) {
            return self.up_due_ns();
        }
        [peer, self.inward.due_ns(), self.outward.due_ns()].into_iter().flatten().min()
    }

    /// Advances the clock: delivers delayed frames from the device whose time has come.
    fn advance_to(&mut self, peer: &mut dyn Peer, now_ns: u64) {
        self.now_ns = now_ns;
        while let Some((bytes, _)) = self.outward.pop(now_ns) {
            peer.take(&bytes, now_ns);
        }
    }

    /// Applies the impairment to the current frame. Returns its delay and its damage, or `None` if it is lost
    /// and counted.
    fn impair(&mut self, is_outward: bool, mut damage: Option<Damage>) -> Option<(u64, Option<Damage>)> {
        let impairment = self.impairment.clone();
        let switches = if is_outward { &impairment.outward } else { &impairment.inward };
        if switches.fires(ImpairmentKind::Flap) {
            self.down_until_ns = self.now_ns.saturating_add(switches.duration_ns(ImpairmentKind::Flap));
            // Delayed frames are lost with the link.
            self.losses.flapped.add((self.inward.frames.len() + self.outward.frames.len()) as u64);
            (self.inward, self.outward) = (DelayQueue::default(), DelayQueue::default());
        }
        if !self.is_up(self.now_ns) {
            self.losses.link_down.add(1);
            return None;
        }
        if switches.fires(ImpairmentKind::Drop) {
            self.losses.dropped.add(1);
            return None;
        }
        if damage_frame(switches, &mut self.current) {
            damage = Some(Damage::Fcs);
        }
        if switches.fires(ImpairmentKind::Duplicate) {
            let queue = if is_outward { &mut self.outward } else { &mut self.inward };
            queue.push(self.now_ns, &self.current, damage, &self.losses);
        }
        let mut delay_ns = 0;
        if switches.fires(ImpairmentKind::Delay) {
            delay_ns += switches.duration_ns(ImpairmentKind::Delay);
        }
        if switches.fires(ImpairmentKind::Reorder) {
            let most = switches.duration_ns(ImpairmentKind::Reorder).max(1);
            delay_ns += switches.draw(ImpairmentKind::Reorder) % most + 1;
        }
        Some((delay_ns, damage))
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.losses.abandoned.add((self.inward.frames.len() + self.outward.frames.len()) as u64);
    }
}

/// Damages a frame. Returns true if its FCS shows the damage.
fn damage_frame(switches: &FaultRules<ImpairmentKind>, frame: &mut Vec<u8>) -> bool {
    if frame.is_empty() {
        return false;
    }
    let mut shows = false;
    for (kind, fcs_shows) in [(ImpairmentKind::Corrupt, true), (ImpairmentKind::Garble, false)] {
        if switches.fires(kind) {
            let bit = switches.draw(kind) % (8 * frame.len() as u64);
            frame[(bit / 8) as usize] ^= 1 << (bit % 8);
            shows |= fcs_shows;
        }
    }
    for (kind, fcs_shows) in [(ImpairmentKind::Truncate, true), (ImpairmentKind::Cut, false)] {
        if switches.fires(kind) {
            // At least one byte is left, and one byte is cut unless there was only one.
            let left = 1 + switches.draw(kind) % (frame.len() as u64 - 1).max(1);
            frame.truncate(left as usize);
            shows |= fcs_shows;
        }
    }
    if switches.fires(ImpairmentKind::Extend) {
        let more = 1 + switches.draw(ImpairmentKind::Extend) % EXTENSION_LIMIT;
        frame.resize(frame.len() + more as usize, 0xe5);
    }
    shows
}
