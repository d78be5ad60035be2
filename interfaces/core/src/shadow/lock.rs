//! [`DeadlineLock`]: a lock that a thread waits for until a deadline at most.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::services;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, with at least one waiting thread.
const CONTENDED: u32 = 2;

/// A lock around a `T`; waiting threads block in the kernel. The lock is in the private memory of its domain,
/// so it ends together with its holder's instance.
///
/// # Invariants
/// Only the thread that changed `word` from [`FREE`] touches `content`, until it sets `word` to [`FREE`]
/// again.
pub(super) struct DeadlineLock<T> {
    word: AtomicU32,
    content: UnsafeCell<T>,
}

// SAFETY: by the invariant one thread at a time accesses the content.
unsafe impl<T: Send> Sync for DeadlineLock<T> {}

/// Access to the content; unlocks when dropped.
pub(super) struct Guard<'a, T>(&'a DeadlineLock<T>);

impl<T> DeadlineLock<T> {
    pub(super) const fn new(content: T) -> Self {
        Self { word: AtomicU32::new(FREE), content: UnsafeCell::new(content) }
    }

    /// Takes the lock. Returns `None` if the clock passes `deadline_ns` first.
    pub(super) fn lock(&self, deadline_ns: u64) -> Option<Guard<'_, T>> {
        if self.word.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok() {
            return Some(Guard(self));
        }
        let mut is_late = false;
        // Tries once more after the deadline: a thread that was woken just as it passed is the only one that
        // was.
        while self.word.swap(CONTENDED, Ordering::Acquire) != FREE {
            if is_late {
                return None;
            }
            // SAFETY: a word of this domain, borrowed for the length of the call.
            is_late = !unsafe { (services().wait)(&raw const self.word, CONTENDED, deadline_ns) };
        }
        Some(Guard(self))
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the invariant: this thread holds the lock.
        unsafe { &*self.0.content.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { &mut *self.0.content.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        if self.0.word.swap(FREE, Ordering::Release) == CONTENDED {
            // SAFETY: a word of this domain, borrowed for the length of the call.
            unsafe { (services().wake)(&raw const self.0.word, 1) };
        }
    }
}
