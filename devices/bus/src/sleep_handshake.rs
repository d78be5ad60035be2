//! [`SleepHandshake`]: no wake-up is lost between a thread that goes to sleep and threads that have work for
//! it.

use super::atomic::{AtomicBool, AtomicU32, Ordering, fence};

/// Signal bits for a worker, and a flag that it sleeps.
///
/// Each side stores first and then loads the other side's word: a notifier stores its work and loads
/// `sleeping`; the worker stores `sleeping` and looks for work. A processor may let each load overtake the
/// store before it, and then neither side sees the other. So each side has a full fence between its store and
/// its load: the fence in [`must_wake`](Self::must_wake) pairs with the one in
/// [`begin_sleep`](Self::begin_sleep). In the total order of these fences one comes first; the side with the
/// later one sees the store of the other. The work itself may be published by any atomic store and load.
#[derive(Default)]
pub(crate) struct SleepHandshake {
    signals: AtomicU32,
    sleeping: AtomicBool,
}

impl SleepHandshake {
    /// For notifiers: sets signal bits.
    pub(crate) fn set(&self, bits: u32) {
        // Release: the worker that takes the bits sees everything that was stored before.
        self.signals.fetch_or(bits, Ordering::AcqRel);
    }

    /// For notifiers that have stored work: returns true if the worker has to be woken. Of several notifiers,
    /// one gets true.
    #[inline]
    pub(crate) fn must_wake(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }

    /// For the worker: from here on a notifier wakes it. The worker then looks for work, and sleeps only if
    /// there is none.
    pub(crate) fn begin_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// For the worker: it is awake.
    pub(crate) fn end_sleep(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Returns true if any of `bits` is set and was not taken.
    #[inline]
    pub(crate) fn is_set(&self, bits: u32) -> bool {
        self.signals.load(Ordering::Acquire) & bits != 0
    }

    /// For the worker: takes all bits.
    #[inline]
    pub(crate) fn take(&self) -> u32 {
        // The swap is a locked instruction, and usually there is nothing to take. A bit that this load misses
        // is seen by the next call, or by the look for work after `begin_sleep`.
        if self.signals.load(Ordering::Relaxed) == 0 { 0 } else { self.signals.swap(0, Ordering::AcqRel) }
    }

    /// For the worker: clears `bits`.
    pub(crate) fn clear(&self, bits: u32) {
        self.signals.fetch_and(!bits, Ordering::AcqRel);
    }
}
