//! [`Layer`]: what stands between a wire's pace and its end while there is trouble.

use std::collections::BTreeMap;
use std::sync::Arc;

use device_bus::FaultRules;

use crate::trouble::{Trouble, TroubleKind};
use crate::{Damage, End, Frame, LossCounters, Pace, Waker};

/// Frames that are lost in one call at most, before the device gets to do something else.
const LOST_AT_ONCE: usize = 32;
/// Frames that are held back in each direction; who delays more loses some.
pub(super) const HELD_LIMIT: usize = 65_536;
const EXTENSION_LIMIT: u64 = 16 << 10;

/// Both directions.
pub(crate) struct Layer {
    trouble: Arc<Trouble>,
    losses: Arc<LossCounters>,
    inward: Held,
    outward: Held,
    /// The frame in hand, and what [`Self::receive`] lends.
    current: Vec<u8>,
    /// The device's clock, as far as it was heard of.
    now_ns: u64,
    /// Until when the link is down.
    down_until_ns: u64,
}

/// Frames that come later, by when and in which order.
#[derive(Default)]
struct Held {
    frames: BTreeMap<(u64, u64), (Vec<u8>, Option<Damage>)>,
    order: u64,
}

impl Held {
    fn push(&mut self, due_ns: u64, bytes: &[u8], damage: Option<Damage>, losses: &LossCounters) {
        if self.frames.len() < HELD_LIMIT {
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
    pub(crate) fn new(trouble: Arc<Trouble>, losses: Arc<LossCounters>) -> Self {
        let (inward, outward) = (Held::default(), Held::default());
        Self { trouble, losses, inward, outward, current: Vec::new(), now_ns: 0, down_until_ns: 0 }
    }

    pub(crate) fn trouble(&self) -> &Arc<Trouble> {
        &self.trouble
    }

    pub(crate) fn attach(&self, waker: Waker) {
        self.trouble.attach(waker);
    }

    pub(crate) fn is_up(&self, now_ns: u64) -> bool {
        !self.trouble.is_cut() && now_ns >= self.down_until_ns
    }

    /// A frame from the device.
    pub(crate) fn send(&mut self, frame: &[u8], end: &mut dyn End, now_ns: u64) {
        self.look_at(end, now_ns);
        self.current.clear();
        self.current.extend_from_slice(frame);
        match self.meet(true, None) {
            None => {}
            Some((_, Some(_))) => self.losses.damaged.add(1),
            Some((0, None)) => end.take(&self.current, now_ns),
            Some((delay_ns, None)) => {
                self.outward.push(now_ns + delay_ns, &self.current, None, &self.losses);
            }
        }
    }

    /// The next frame for the device.
    pub(crate) fn receive(&mut self, pace: &mut Pace, end: &mut dyn End, now_ns: u64) -> Option<Frame<'_>> {
        self.look_at(end, now_ns);
        if let Some((bytes, damage)) = self.inward.pop(now_ns) {
            self.current = bytes;
            return Some(Frame { bytes: &self.current, damage });
        }
        for _ in 0..LOST_AT_ONCE {
            if !pace.is_free(now_ns) {
                return None;
            }
            let frame = end.give(now_ns)?;
            // It was on the wire, whatever becomes of it.
            pace.occupy(frame.bytes.len(), now_ns);
            let damage = frame.damage;
            self.current.clear();
            self.current.extend_from_slice(frame.bytes);
            match self.meet(false, damage) {
                None => {}
                Some((0, damage)) => return Some(Frame { bytes: &self.current, damage }),
                Some((delay_ns, damage)) => {
                    self.inward.push(now_ns + delay_ns, &self.current, damage, &self.losses);
                }
            }
        }
        None
    }

    /// When the link can be up by the passing of time. Plugging a cable in wakes the device.
    pub(crate) fn up_due_ns(&self) -> Option<u64> {
        (!self.trouble.is_cut()).then_some(self.down_until_ns)
    }

    /// When the device has to look at its wire: `end` is when its end has something.
    pub(crate) fn due_ns(&self, end: Option<u64>) -> Option<u64> {
        if !self.is_up(self.now_ns) {
            return self.up_due_ns();
        }
        [end, self.inward.due_ns(), self.outward.due_ns()].into_iter().flatten().min()
    }

    /// The clock went on: frames from the device whose time has come arrive.
    fn look_at(&mut self, end: &mut dyn End, now_ns: u64) {
        self.now_ns = now_ns;
        while let Some((bytes, _)) = self.outward.pop(now_ns) {
            end.take(&bytes, now_ns);
        }
    }

    /// What becomes of the frame in hand: how much later it comes, and in which state; nothing if it is lost, and counted.
    fn meet(&mut self, is_outward: bool, mut damage: Option<Damage>) -> Option<(u64, Option<Damage>)> {
        let trouble = self.trouble.clone();
        let switches = if is_outward { &trouble.outward } else { &trouble.inward };
        if switches.fires(TroubleKind::Flap) {
            self.down_until_ns = self.now_ns.saturating_add(switches.duration_ns(TroubleKind::Flap));
            // What was on its way is lost with the light.
            self.losses.flapped.add((self.inward.frames.len() + self.outward.frames.len()) as u64);
            (self.inward, self.outward) = (Held::default(), Held::default());
        }
        if !self.is_up(self.now_ns) {
            self.losses.link_down.add(1);
            return None;
        }
        if switches.fires(TroubleKind::Drop) {
            self.losses.dropped.add(1);
            return None;
        }
        if change(switches, &mut self.current) {
            damage = Some(Damage::Fcs);
        }
        if switches.fires(TroubleKind::Duplicate) {
            let held = if is_outward { &mut self.outward } else { &mut self.inward };
            held.push(self.now_ns, &self.current, damage, &self.losses);
        }
        let mut delay_ns = 0;
        if switches.fires(TroubleKind::Delay) {
            delay_ns += switches.duration_ns(TroubleKind::Delay);
        }
        if switches.fires(TroubleKind::Reorder) {
            let most = switches.duration_ns(TroubleKind::Reorder).max(1);
            delay_ns += switches.draw(TroubleKind::Reorder) % most + 1;
        }
        Some((delay_ns, damage))
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        self.losses.abandoned.add((self.inward.frames.len() + self.outward.frames.len()) as u64);
    }
}

/// Changes a frame; whether its FCS tells.
fn change(switches: &FaultRules<TroubleKind>, frame: &mut Vec<u8>) -> bool {
    if frame.is_empty() {
        return false;
    }
    let mut tells = false;
    for (kind, is_told) in [(TroubleKind::Corrupt, true), (TroubleKind::Garble, false)] {
        if switches.fires(kind) {
            let bit = switches.draw(kind) % (8 * frame.len() as u64);
            frame[(bit / 8) as usize] ^= 1 << (bit % 8);
            tells |= is_told;
        }
    }
    for (kind, is_told) in [(TroubleKind::Truncate, true), (TroubleKind::Cut, false)] {
        if switches.fires(kind) {
            // At least a byte is left, and one less than there was unless there was only that.
            let left = 1 + switches.draw(kind) % (frame.len() as u64 - 1).max(1);
            frame.truncate(left as usize);
            tells |= is_told;
        }
    }
    if switches.fires(TroubleKind::Extend) {
        let more = 1 + switches.draw(TroubleKind::Extend) % EXTENSION_LIMIT;
        frame.resize(frame.len() + more as usize, 0xe5);
    }
    tells
}
