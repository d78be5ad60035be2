//! [`Impairment`]: injected faults of a link, as Linux's `netem` has them.

mod layer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use device_bus::{FaultKind, FaultRules};

use crate::Waker;
pub(crate) use layer::Layer;

/// A way to impair a frame, or the link while a frame is on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImpairmentKind {
    /// The frame is lost.
    Drop,
    /// The frame is delayed by the rule's duration.
    Delay,
    /// The frame is delayed by up to the rule's duration; frames behind it may overtake it.
    Reorder,
    /// The frame arrives twice.
    Duplicate,
    /// One bit is wrong, and so is the FCS.
    Corrupt,
    /// One bit is wrong and the FCS is right: a machine on the way has damaged the frame.
    Garble,
    /// The frame ends early, and the FCS is wrong.
    Truncate,
    /// The frame ends early and the FCS is right: a machine on the way has cut it.
    Cut,
    /// The frame is longer by up to 16 KiB, and the FCS is right.
    Extend,
    /// The link goes down for the rule's duration, and all frames on it are lost.
    Flap,
}

impl FaultKind for ImpairmentKind {
    const ALL: &'static [Self] = &[
        Self::Drop,
        Self::Delay,
        Self::Reorder,
        Self::Duplicate,
        Self::Corrupt,
        Self::Garble,
        Self::Truncate,
        Self::Cut,
        Self::Extend,
        Self::Flap,
    ];

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Delay => "delay",
            Self::Reorder => "reorder",
            Self::Duplicate => "duplicate",
            Self::Corrupt => "corrupt",
            Self::Garble => "garble",
            Self::Truncate => "truncate",
            Self::Cut => "cut",
            Self::Extend => "extend",
            Self::Flap => "flap",
        }
    }

    fn default_duration_ns(self) -> Option<u64> {
        match self {
            Self::Delay => Some(1_000_000),
            Self::Reorder => Some(100_000),
            Self::Flap => Some(10_000_000),
            _ => None,
        }
    }
}

/// One kind of impairment with its rate.
pub type ImpairmentRule = device_bus::Rule<ImpairmentKind>;

/// The impairment of a wire, by direction. Any thread may change it at any time. Occasions are frames.
pub struct Impairment {
    /// The impairment of frames to the device.
    pub inward: FaultRules<ImpairmentKind>,
    /// The impairment of frames from the device. The receiver drops frames with a wrong FCS, so such damage
    /// is loss here.
    pub outward: FaultRules<ImpairmentKind>,
    is_cut: AtomicBool,
    waker: OnceLock<RwLock<Waker>>,
}

impl Impairment {
    /// An impairment with these rules, reproducible by `seed`.
    pub fn new(seed: u64, inward: &[ImpairmentRule], outward: &[ImpairmentRule]) -> Self {
        Self {
            inward: FaultRules::new(seed, inward),
            // Another random sequence, so that both directions do not fail together.
            outward: FaultRules::new(!seed, outward),
            is_cut: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// Cuts the cable, or connects it again, and wakes the device.
    pub fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Release);
        if let Some(waker) = self.waker.get() {
            let waker = waker.read().unwrap_or_else(PoisonError::into_inner);
            (*waker)();
        }
    }

    /// Returns true while the cable is cut.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    fn attach(&self, waker: Waker) {
        let kept = self.waker.get_or_init(|| RwLock::new(waker.clone()));
        *kept.write().unwrap_or_else(PoisonError::into_inner) = waker;
    }
}

impl fmt::Debug for Impairment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, switches) in [("to the device", &self.inward), ("from the device", &self.outward)] {
            let acted = ImpairmentKind::ALL.iter().map(|kind| (kind.name(), switches.injections(*kind)));
            map.entry(&name, &acted.filter(|(_, times)| *times > 0).collect::<Vec<_>>());
        }
        map.finish()
    }
}
