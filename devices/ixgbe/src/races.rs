//! Tests of [`Interrupts`](interrupts::Interrupts) with the atomics of `loom`, which tries all orders of two
//! threads and all values that a load may see.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU32, Ordering};

use crate::map::{EICR, EIMS, GPIE, GPIE_MSIX, GPIE_OCD};
use crate::registers::Image;

mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
}

#[path = "interrupts.rs"]
#[expect(dead_code, reason = "the scenarios use a part of it")]
#[expect(clippy::duplicate_mod, reason = "each of the two has atomics of its own")]
mod interrupts;

use interrupts::{CAUSE_LINK, Interrupts};

const VECTOR: u32 = 1 << 2;

/// Runs `signal`, as the first event or after an earlier one, in parallel with `clear`, which clears pending
/// events. `clear` returns true if the driver knows of an event and looks.
fn the_driver_sees_the_event_or_it_stays_pending(
    signal: fn(&Interrupts),
    clear: fn(&Interrupts, &Image) -> bool,
    is_first: bool,
) {
    loom::model(move || {
        // The data of the event: a descriptor, or LINKS.
        let shared = Arc::new((Interrupts::default(), AtomicU32::new(0)));
        let image = Image::new();
        image.set(GPIE, GPIE_MSIX | GPIE_OCD);
        if !is_first {
            signal(&shared.0);
        }
        let device = loom::thread::spawn({
            let shared = shared.clone();
            move || {
                shared.1.store(1, Ordering::Release);
                signal(&shared.0);
            }
        });
        let looks = clear(&shared.0, &image);
        let sees = looks && shared.1.load(Ordering::Acquire) == 1;
        device.join().expect("a device");
        // The device's thread sends the message: it looks after the event, and a write of the mask signals
        // it.
        assert!(sees || shared.0.has_ready(), "the event is lost");
    });
}

#[test]
fn a_first_or_repeated_queue_event_is_seen_or_pending() {
    for is_first in [true, false] {
        the_driver_sees_the_event_or_it_stays_pending(
            |interrupts| interrupts.queue_events(VECTOR.into()),
            |interrupts, _| {
                interrupts.write(EICR, VECTOR);
                interrupts.write(EIMS, VECTOR);
                true
            },
            is_first,
        );
    }
}

#[test]
fn a_change_of_the_link_is_read_or_pending() {
    for is_first in [true, false] {
        the_driver_sees_the_event_or_it_stays_pending(
            |interrupts| interrupts.other_event(CAUSE_LINK),
            |interrupts, image| {
                interrupts.write(EIMS, CAUSE_LINK);
                interrupts.read(EICR, image).is_some_and(|causes| causes & CAUSE_LINK != 0)
            },
            is_first,
        );
    }
}
