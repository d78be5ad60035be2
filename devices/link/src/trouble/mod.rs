//! [`Trouble`]: what happens to frames on their way, on demand.

mod layer;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, PoisonError, RwLock};

use device_bus::{FaultKind, FaultRules};

use crate::Waker;
pub(crate) use layer::Layer;

/// What can happen to a frame, or to the wire while a frame is on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TroubleKind {
    /// It is lost.
    Drop,
    /// It comes later, by the rule's duration.
    Delay,
    /// It comes later, by up to the rule's duration; those that follow may come before it.
    Reorder,
    /// It comes twice.
    Duplicate,
    /// A bit of it is wrong, and so is the FCS.
    Corrupt,
    /// A bit of it is wrong and the FCS is right: it was damaged inside of some machine.
    Garble,
    /// It ends early, and the FCS is wrong.
    Truncate,
    /// It ends early and the FCS is right: some machine has cut it.
    Cut,
    /// It is longer by up to 16 KiB, and the FCS is right.
    Extend,
    /// The link goes down for the rule's duration, and all that is on the wire is lost.
    Flap,
}

impl FaultKind for TroubleKind {
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

/// One kind of trouble with its rate.
pub type TroubleRule = device_bus::Rule<TroubleKind>;

/// The switches of what happens on a wire, by direction, which any thread may turn at any time. Occasions are frames.
pub struct Trouble {
    /// Of frames to the device.
    pub inward: FaultRules<TroubleKind>,
    /// Of frames from the device. Who receives those drops what is damaged, so damage is loss here.
    pub outward: FaultRules<TroubleKind>,
    is_cut: AtomicBool,
    waker: OnceLock<RwLock<Waker>>,
}

impl Trouble {
    /// With these rules.
    pub fn new(seed: u64, inward: &[TroubleRule], outward: &[TroubleRule]) -> Self {
        Self {
            inward: FaultRules::new(seed, inward),
            // Another sequence, so that both directions do not fail together.
            outward: FaultRules::new(!seed, outward),
            is_cut: AtomicBool::new(false),
            waker: OnceLock::new(),
        }
    }

    /// Pulls the cable out, or plugs it in.
    pub fn set_cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Release);
        if let Some(waker) = self.waker.get() {
            let waker = waker.read().unwrap_or_else(PoisonError::into_inner);
            (*waker)();
        }
    }

    /// Whether the cable is out.
    pub fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Acquire)
    }

    fn attach(&self, waker: Waker) {
        let kept = self.waker.get_or_init(|| RwLock::new(waker.clone()));
        *kept.write().unwrap_or_else(PoisonError::into_inner) = waker;
    }
}

impl fmt::Debug for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (name, switches) in [("to the device", &self.inward), ("from the device", &self.outward)] {
            let acted = TroubleKind::ALL.iter().map(|kind| (kind.name(), switches.injections(*kind)));
            map.entry(&name, &acted.filter(|(_, times)| *times > 0).collect::<Vec<_>>());
        }
        map.finish()
    }
}
