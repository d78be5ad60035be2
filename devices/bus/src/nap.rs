//! [`Nap`]: how a thread that is about to sleep and one that has work for it do not miss each other.

use super::atomic::{AtomicBool, AtomicU32, Ordering, fence};

/// Calls for a worker, and whether it sleeps.
///
/// Either side stores first and then looks at the other's word: the caller stores its work and looks at `sleeping`; the worker
/// stores `sleeping` and looks for work. A processor may let each look overtake the store before it, and then neither sees the
/// other. So each side has a full fence between the two: the one in [`wants_waking`](Self::wants_waking) pairs with the one in
/// [`begin`](Self::begin). Whichever comes first in the order of all such fences, the side with the other one sees the store.
/// This needs no more of the work itself than any atomic store and load.
#[derive(Default)]
pub(crate) struct Nap {
    calls: AtomicU32,
    sleeping: AtomicBool,
}

impl Nap {
    /// For callers: notes work.
    pub(crate) fn note(&self, what: u32) {
        // Release: what was stored before the call is seen by the worker that takes it.
        self.calls.fetch_or(what, Ordering::AcqRel);
    }

    /// For callers that have stored work: whether the worker has to be woken. One caller of several is told so.
    #[inline]
    pub(crate) fn wants_waking(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }

    /// For the worker: from here on callers are told to wake it. It looks for work afterwards, and sleeps only if there is none.
    pub(crate) fn begin(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// For the worker: it is awake.
    pub(crate) fn end(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether any of `what` was called for and not taken yet.
    #[inline]
    pub(crate) fn is_called(&self, what: u32) -> bool {
        self.calls.load(Ordering::Acquire) & what != 0
    }

    /// For the worker: what it was called for since the last time.
    #[inline]
    pub(crate) fn take(&self) -> u32 {
        // The swap is a locked instruction, and mostly there is nothing to take. A call that this look misses is seen by the next
        // one, or by the look after `begin`.
        if self.calls.load(Ordering::Relaxed) == 0 { 0 } else { self.calls.swap(0, Ordering::AcqRel) }
    }

    /// For the worker: forgets calls for `what`.
    pub(crate) fn cancel(&self, what: u32) {
        self.calls.fetch_and(!what, Ordering::AcqRel);
    }
}
