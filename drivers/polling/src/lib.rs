//! How drivers wait: for a register that is about to change ([`until`]), for each other ([`lock`]), and for completions, of
//! which each driver knows how to look for one and for how long that pays ([`Patience`]). And how long they put up with a device
//! that has to be reset again and again ([`Lenience`]).
//!
//! All waits go by a device's clock and sleep by its machine's means, so nothing here knows a kernel.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod lenience;
mod patience;

use coppice_hardware::Device;
use spin::{Mutex, MutexGuard};

pub use lenience::Lenience;
pub use patience::Patience;

/// How long a change is waited for by looking again and again, before sleeping in between.
const SPIN_NS: u64 = 50_000;
/// The first sleep between two looks; each next is twice as long.
const SHORTEST_NAP_NS: u64 = 10_000;
/// The longest.
const LONGEST_NAP_NS: u64 = 1_000_000;

/// Looks until `look` has an answer; `None` if it has none for `limit_ns`. For changes of state, which are rare: it looks
/// again and again at first, and then with longer and longer sleeps in between.
pub fn until<T>(device: &Device, limit_ns: u64, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = device.now_ns();
    let mut nap_ns = SHORTEST_NAP_NS;
    loop {
        let answer = look();
        if answer.is_some() {
            return answer;
        }
        let now = device.now_ns();
        let waited_ns = now.saturating_sub(start);
        if waited_ns >= limit_ns {
            return None;
        }
        if waited_ns < SPIN_NS {
            core::hint::spin_loop();
        } else {
            device.sleep_until(now + nap_ns);
            nap_ns = (2 * nap_ns).min(LONGEST_NAP_NS);
        }
    }
}

/// Takes a lock whose holder may sleep, so whoever wants it sleeps too.
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
    fn a_wait_ends_with_the_answer_or_at_its_limit() {
        let device = Bench::memory(1).device();
        let mut looks = 0;
        let third = until(&device, 1_000_000_000, || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(third, Some(3));
        let start = device.now_ns();
        assert_eq!(until(&device, 2_000_000, || None::<()>), None);
        assert!(device.now_ns() - start >= 2_000_000);
    }

    #[test]
    fn a_lock_is_had_when_its_holder_lets_go() {
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
