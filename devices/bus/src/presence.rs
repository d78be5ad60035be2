//! [`Presence`], the state of a device that can be unplugged.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The presence of a device in its slot. An unplugged device comes back after a time, or when it is plugged
/// in.
///
/// The device's thread makes it visible again with [`replug`](Self::replug) and in no other way, so a device
/// is never visible before its reset is complete.
#[derive(Debug)]
pub struct Presence {
    /// The time on `clock` at which an unplugged device comes back; 0 while it is plugged in.
    absent_until_ns: AtomicU64,
    insertions: AtomicU64,
    clock: Instant,
}

impl Default for Presence {
    fn default() -> Self {
        Self::new()
    }
}

impl Presence {
    /// A device in its slot.
    pub fn new() -> Self {
        Self { absent_until_ns: AtomicU64::new(0), insertions: AtomicU64::new(0), clock: Instant::now() }
    }

    /// Returns true while the device is out of its slot.
    #[inline]
    pub fn is_unplugged(&self) -> bool {
        self.absent_until_ns.load(Ordering::Acquire) != 0
    }

    /// Unplugs the device, for a time or, with [`u64::MAX`], until it is plugged in.
    pub fn unplug(&self, duration_ns: u64) {
        self.absent_until_ns.store(self.now_ns().saturating_add(duration_ns), Ordering::Release);
    }

    /// Plugs an unplugged device in: calls `reset`, which brings the device to its state after power-on, and
    /// then makes the device visible. Returns true if the device is back.
    ///
    /// A device that is unplugged again during `reset` stays out.
    pub fn replug(&self, reset: impl FnOnce()) -> bool {
        let until = self.absent_until_ns.load(Ordering::Acquire);
        if until == 0 {
            return false;
        }
        reset();
        self.insertions.fetch_add(1, Ordering::Relaxed);
        // The last step: a driver uses the device from here on. Release, so that a driver that sees the
        // device also sees the reset and the new count.
        self.absent_until_ns.compare_exchange(until, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The number of times that the device was plugged in again. A changed number means that it was unplugged
    /// and reset.
    pub fn insertions(&self) -> u64 {
        self.insertions.load(Ordering::Acquire)
    }

    /// The time for which the device stays out unless it is plugged in; `None` if it is in its slot.
    pub fn unplugged_for_ns(&self) -> Option<u64> {
        let until = self.absent_until_ns.load(Ordering::Acquire);
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
            assert!(presence.is_unplugged(), "the device is visible during its reset");
            was_reset = true;
        });
        assert!(is_back && was_reset && !presence.is_unplugged());
        assert_eq!((presence.insertions(), presence.unplugged_for_ns()), (1, None));
    }

    #[test]
    fn a_device_that_is_unplugged_during_its_reset_stays_out() {
        let presence = Presence::new();
        presence.unplug(0);
        assert_eq!(presence.unplugged_for_ns(), Some(0));
        assert!(!presence.replug(|| presence.unplug(u64::MAX)));
        assert!(presence.is_unplugged());
        assert!(presence.replug(|| ()));
        assert!(!presence.is_unplugged());
    }
}
