//! [`Presence`]: whether a device is in its slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A device that can be pulled out, and comes back by itself after a time or when it is plugged in.
#[derive(Debug)]
pub struct Presence {
    /// When an unplugged device comes back; 0 while it is plugged in.
    until: AtomicU64,
    clock: Instant,
}

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}

impl Presence {
    /// Plugged in.
    pub fn new() -> Self {
        Self { until: AtomicU64::new(0), clock: Instant::now() }
    }

    /// Whether it is out at this moment.
    #[inline]
    pub fn is_unplugged(&self) -> bool {
        self.until.load(Ordering::Acquire) != 0
    }

    /// Pulls it out; [`u64::MAX`] until somebody plugs it in.
    pub fn unplug(&self, duration_ns: u64) {
        self.until.store(self.now_ns().saturating_add(duration_ns), Ordering::Release);
    }

    /// Plugs it in again; whether it was out.
    pub fn replug(&self) -> bool {
        self.until.swap(0, Ordering::AcqRel) != 0
    }

    /// How long it stays out if nobody plugs it in; `None` if it is in.
    pub fn unplugged_for_ns(&self) -> Option<u64> {
        let until = self.until.load(Ordering::Acquire);
        (until != 0).then(|| until.saturating_sub(self.now_ns()))
    }

    fn now_ns(&self) -> u64 {
        // Never 0, which means plugged in.
        self.clock.elapsed().as_nanos() as u64 + 1
    }
}
