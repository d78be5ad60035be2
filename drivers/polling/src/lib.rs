//! Waiting in drivers: for a register that is about to change ([`until`]), for a lock ([`lock`]), and for
//! completions, where [`AdaptiveSpin`] decides for how long spinning pays. [`ResetBudget`] counts the resets
//! that a faulty device needs.
//!
//! All waits use the device's clock and sleep through its machine, so this crate depends on no kernel.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod adaptive_spin;
mod reset_budget;

use coppice_hardware::Device;
use crossbeam_utils::Backoff;
use spin::{Mutex, MutexGuard};

pub use adaptive_spin::AdaptiveSpin;
pub use reset_budget::ResetBudget;

/// The time that [`until`] polls without sleeping.
const SPIN_NS: u64 = 50_000;
/// The first sleep between two polls. Each later one is twice as long, up to [`MAX_POLL_INTERVAL_NS`].
const MIN_POLL_INTERVAL_NS: u64 = 10_000;
/// The longest sleep between two polls.
const MAX_POLL_INTERVAL_NS: u64 = 1_000_000;

/// Polls until `poll` returns a value; returns `None` if it has returned none for `limit_ns`.
///
/// Meant for rare changes of state: polls with a spinning back-off first, then sleeps between polls with
/// growing intervals.
pub fn until<T>(device: &Device, limit_ns: u64, mut poll: impl FnMut() -> Option<T>) -> Option<T> {
    let start = device.now_ns();
    let backoff = Backoff::new();
    let mut interval_ns = MIN_POLL_INTERVAL_NS;
    loop {
        let found = poll();
        if found.is_some() {
            return found;
        }
        let now = device.now_ns();
        let waited_ns = now.saturating_sub(start);
        if waited_ns >= limit_ns {
            return None;
        }
        if waited_ns < SPIN_NS {
            backoff.spin();
        } else {
            device.sleep_until(now + interval_ns);
            interval_ns = (2 * interval_ns).min(MAX_POLL_INTERVAL_NS);
        }
    }
}

/// Takes a lock whose holder may sleep. A waiter sleeps too.
pub fn lock<'a, T>(device: &Device, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
    loop {
        if let Some(guard) = until(device, u64::MAX, || mutex.try_lock()) {
            return guard;
        }
    }
}

#[cfg(test)]
mod tests {
    use device_harness::Bench;

    use super::*;

    #[test]
    fn a_wait_ends_with_the_result_or_at_its_limit() {
        let device = Bench::memory(1).device();
        let mut polls = 0;
        let third = until(&device, 1_000_000_000, || {
            polls += 1;
            (polls == 3).then_some(polls)
        });
        assert_eq!(third, Some(3));
        let start = device.now_ns();
        assert_eq!(until(&device, 2_000_000, || None::<()>), None);
        assert!(device.now_ns() - start >= 2_000_000);
    }

    #[test]
    fn a_lock_is_acquired_when_its_holder_releases_it() {
        let bench = Bench::memory(1);
        let mutex = Mutex::new(0);
        std::thread::scope(|scope| {
            let mut held = lock(&bench.device(), &mutex);
            let waiter = scope.spawn(|| *lock(&bench.device(), &mutex));
            std::thread::sleep(std::time::Duration::from_millis(2));
            *held = 7;
            drop(held);
            assert_eq!(waiter.join().ok(), Some(7));
        });
    }
}
