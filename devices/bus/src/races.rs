//! [`Nap`](nap::Nap) with the atomics of `loom`, which tries all orders of two threads and all values that a load may see.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
}

#[path = "nap.rs"]
#[expect(dead_code, reason = "the scenarios use a part of it")]
#[expect(clippy::duplicate_mod, reason = "each of the two has atomics of its own")]
mod nap;

/// A worker that sleeps after a look, and a caller that has `store` give it work, which `finds` finds.
fn work_is_found_or_the_worker_woken(
    store: fn(&nap::Nap, &AtomicU32),
    finds: fn(&nap::Nap, &AtomicU32) -> bool,
) {
    loom::model(move || {
        let shared = Arc::new((nap::Nap::default(), AtomicU32::new(0)));
        let caller = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                let (nap, doorbell) = &*shared;
                store(nap, doorbell);
                nap.wants_waking()
            }
        });
        let (nap, doorbell) = &*shared;
        nap.begin();
        let found = finds(nap, doorbell);
        let woken = caller.join().expect("a caller");
        assert!(found || woken, "the worker sleeps beside its work");
    });
}

#[test]
fn a_call_is_found_or_the_worker_woken() {
    work_is_found_or_the_worker_woken(|nap, _| nap.note(1), |nap, _| nap.is_called(1));
}

#[test]
fn a_doorbell_is_found_or_the_worker_woken() {
    work_is_found_or_the_worker_woken(
        |_, doorbell| doorbell.store(1, Ordering::Release),
        |_, doorbell| doorbell.load(Ordering::Acquire) == 1,
    );
}
