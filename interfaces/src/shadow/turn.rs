//! [`Turn`]: a lock that is waited for until a deadline, and no longer.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::services;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody waits.
const AWAITED: u32 = 2;

/// A lock around a `T`; whoever waits blocks in the kernel. It is in its domain's memory, so it ends with the instance of
/// its holder, whom nobody else of that instance survives.
///
/// # Invariants
/// `content` is touched only by whoever changed `word` from [`FREE`], until it is that again.
pub(super) struct Turn<T> {
    word: AtomicU32,
    content: UnsafeCell<T>,
}

// SAFETY: by the invariant one thread at a time gets at the content.
unsafe impl<T: Send> Sync for Turn<T> {}

/// Whose turn it is.
pub(super) struct Taken<'a, T>(&'a Turn<T>);

impl<T> Turn<T> {
    pub(super) const fn new(content: T) -> Self {
        Self { word: AtomicU32::new(FREE), content: UnsafeCell::new(content) }
    }

    /// Waits for its turn. `None` if the deadline comes first.
    pub(super) fn take(&self, deadline_ns: u64) -> Option<Taken<'_, T>> {
        if self.word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Some(Taken(self));
        }
        let mut is_late = false;
        // Looked at after the deadline too: a thread that was woken as it passed is the only one that was.
        while self.word.swap(AWAITED, Ordering::Acquire) != FREE {
            if is_late {
                return None;
            }
            // SAFETY: a live word of ours.
            is_late = !unsafe { (services().wait)(&raw const self.word, AWAITED, deadline_ns) };
        }
        Some(Taken(self))
    }
}

impl<T> Deref for Taken<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the invariant: it is our turn.
        unsafe { &*self.0.content.get() }
    }
}

impl<T> DerefMut for Taken<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { &mut *self.0.content.get() }
    }
}

impl<T> Drop for Taken<'_, T> {
    fn drop(&mut self) {
        if self.0.word.swap(FREE, Ordering::Release) == AWAITED {
            // SAFETY: a live word of ours.
            unsafe { (services().wake)(&raw const self.0.word, 1) };
        }
    }
}
