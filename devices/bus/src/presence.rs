//! [`Presence`]: whether a device is in its slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A device that can be pulled out, and comes back after a time or when it is plugged in.
///
/// Its thread makes it visible again by [`replug`](Self::replug) and by no other way, so a device is never visible before its
/// reset is complete.
#[derive(Debug)]
pub struct Presence {
    /// When an unplugged device comes back; 0 while it is plugged in.
    until: AtomicU64,
    /// See [`insertions`](Self::insertions).
    insertions: AtomicU64,
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
        Self { until: AtomicU64::new(0), insertions: AtomicU64::new(0), clock: Instant::now() }
    }

    /// Whether it is out at this moment.
    #[inline]
    pub fn is_unplugged(&self) -> bool {
        self.until.load(Ordering::Acquire) != 0
    }

    /// Pulls it out, for a time or, with [`u64::MAX`], until it is plugged in.
    pub fn unplug(&self, duration_ns: u64) {
        self.until.store(self.now_ns().saturating_add(duration_ns), Ordering::Release);
    }

    /// Plugs it in again if it is out: calls `reset`, which brings the device to its state after power-on, and then makes the
    /// device visible. Returns whether the device is back.
    ///
    /// A device that was pulled out once more during `reset` stays out.
    pub fn replug(&self, reset: impl FnOnce()) -> bool {
        let until = self.until.load(Ordering::Acquire);
        if until == 0 {
            return false;
        }
        reset();
        self.insertions.fetch_add(1, Ordering::Relaxed);
        // The last step: a driver uses the device from here on. Release, so that a driver that sees the device also sees the
        // reset and the new count.
        self.until.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// How often it was plugged in again: another number means that it was out, and reset, since the last look.
    pub fn insertions(&self) -> u64 {
        self.insertions.load(Ordering::Acquire)
    }

    /// How long it stays out unless it is plugged in; `None` if it is in.
    pub fn unplugged_for_ns(&self) -> Option<u64> {
        let until = self.until.load(Ordering::Acquire);
        (until != 0).then(|| until.saturating_sub(self.now_ns()))
    }

    fn now_ns(&self) -> u64 {
        // Never 0, which means plugged in.
        self.clock.elapsed().as_nanos() as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_visible_only_after_its_reset() {
        let presence = Presence::new();
        assert!(!presence.replug(|| panic!("a device in its slot is not reset")));
        presence.unplug(u64::MAX);
        let mut was_reset = false;
        let is_back = presence.replug(|| {
            assert!(presence.is_unplugged(), "it is visible during its reset");
            was_reset = true;
        });
        assert!(is_back && was_reset && !presence.is_unplugged());
        assert_eq!((presence.insertions(), presence.unplugged_for_ns()), (1, None));
    }

    #[test]
    fn a_device_that_is_pulled_out_during_its_reset_stays_out() {
        let presence = Presence::new();
        presence.unplug(0);
        assert_eq!(presence.unplugged_for_ns(), Some(0));
        assert!(!presence.replug(|| presence.unplug(u64::MAX)));
        assert!(presence.is_unplugged());
        assert!(presence.replug(|| ()));
        assert!(!presence.is_unplugged());
    }
}
