//! [`SleepHandshake`](sleep_handshake::SleepHandshake) with the atomics of `loom`, which explores all
//! interleavings of two threads and all values that a load may return.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
}

#[path = "sleep_handshake.rs"]
#[expect(dead_code, reason = "the tests use a part of it")]
#[expect(clippy::duplicate_mod, reason = "each of the two has its own atomics")]
mod sleep_handshake;

use sleep_handshake::SleepHandshake;

/// Runs a worker that sleeps after a poll, and a notifier that announces work with `store`; the worker polls
/// with `finds`.
fn work_is_found_or_the_worker_woken(
    store: fn(&SleepHandshake, &AtomicU32),
    finds: fn(&SleepHandshake, &AtomicU32) -> bool,
) {
    loom::model(move || {
        let shared = Arc::new((SleepHandshake::default(), AtomicU32::new(0)));
        let notifier = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                let (handshake, doorbell) = &*shared;
                store(handshake, doorbell);
                handshake.must_wake()
            }
        });
        let (handshake, doorbell) = &*shared;
        handshake.begin_sleep();
        let found = finds(handshake, doorbell);
        let woken = notifier.join().expect("the notifier does not panic");
        assert!(found || woken, "the worker sleeps although there is work");
    });
}

#[test]
fn a_signal_is_found_or_the_worker_woken() {
    work_is_found_or_the_worker_woken(|handshake, _| handshake.set(1), |handshake, _| handshake.is_set(1));
}

#[test]
fn a_doorbell_is_found_or_the_worker_woken() {
    work_is_found_or_the_worker_woken(
        |_, doorbell| doorbell.store(1, Ordering::Release),
        |_, doorbell| doorbell.load(Ordering::Acquire) == 1,
    );
}
