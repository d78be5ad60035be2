//! [`ThreadBound`]: data for one thread only, without a lock.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A `T` for the first thread that enters it. An uncontended [`super::Mutex`] takes two locked instructions,
/// about 40 cycles; this takes none.
///
/// A thread is identified by its control block, which it keeps while it crosses domains: so an exported
/// object can be bound to a *client's* thread. If the client's domain dies during the call, the call still
/// completes and leaves here as always; if this domain dies, so does the content. When a bound thread has
/// ended, no thread can enter, or a later one to which the kernel gave the same control block: both are
/// harmless, and neither is something to rely on.
///
/// Rejected: binding it again when another thread comes. That thread would have to know that the first is not
/// inside, which without a locked instruction on the way in takes a fence on the other thread's CPU.
///
/// # Invariants
/// - **B1** `thread` changes once, from 0 to the control block of a thread that runs.
/// - **B2** `inside` is touched by that thread only, and is true while a [`Bound`] of it exists.
pub struct ThreadBound<T> {
    thread: AtomicUsize,
    inside: AtomicBool,
    content: UnsafeCell<T>,
}

/// The content is bound to another thread, or this thread has entered it already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WrongThread;

impl core::fmt::Display for WrongThread {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("bound to another thread, or in use by this one")
    }
}

impl core::error::Error for WrongThread {}

/// The bound thread's access to the content. It does not leave the thread.
pub struct Bound<'a, T> {
    owner: &'a ThreadBound<T>,
    stays: PhantomData<*mut ()>,
}

// SAFETY: by B1 and B2 one thread at a time reaches the content, once at a time. That thread may be another
// than the content's maker, which takes `Send`, as for a lock.
unsafe impl<T: Send> Sync for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    /// Makes unbound content.
    pub const fn new(content: T) -> Self {
        Self {
            thread: AtomicUsize::new(0),
            inside: AtomicBool::new(false),
            content: UnsafeCell::new(content),
        }
    }

    /// Returns the content to the thread that it is bound to; binds it to this thread if it is unbound.
    ///
    /// # Errors
    /// [`WrongThread`] when it is bound to another thread, or this thread has entered it already.
    #[inline(always)]
    pub fn enter(&self) -> Result<Bound<'_, T>, WrongThread> {
        if self.thread.load(Ordering::Relaxed) != this_thread() {
            self.bind()?;
        }
        if self.inside.load(Ordering::Relaxed) {
            return Err(WrongThread);
        }
        self.inside.store(true, Ordering::Relaxed);
        Ok(Bound { owner: self, stays: PhantomData })
    }

    #[cold]
    #[inline(never)]
    fn bind(&self) -> Result<(), WrongThread> {
        // Acquire: the content may have been made on another thread.
        self.thread
            .compare_exchange(0, this_thread(), Ordering::AcqRel, Ordering::Relaxed)
            .map_or(Err(WrongThread), |_| Ok(()))
    }
}

impl<T> Deref for Bound<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: B2: this is the only `Bound`, on the bound thread.
        unsafe { &*self.owner.content.get() }
    }
}

impl<T> DerefMut for Bound<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `self` is borrowed mutably.
        unsafe { &mut *self.owner.content.get() }
    }
}

impl<T> Drop for Bound<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.owner.inside.store(false, Ordering::Relaxed);
    }
}

/// Returns a number that identifies the running thread among all running threads. Not 0.
#[cfg(not(test))]
#[inline(always)]
fn this_thread() -> usize {
    coppice_abi::crossing::thread().addr()
}

#[cfg(test)]
fn this_thread() -> usize {
    extern crate std;
    std::thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| core::ptr::from_ref(place).addr())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn only_the_first_thread_may_enter() {
        let bound = ThreadBound::new(1);
        *bound.enter().expect("bound to us") += 1;
        assert_eq!(bound.enter().map(|content| *content), Ok(2));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(bound.enter().map(|_| ()), Err(WrongThread)));
        });
        assert_eq!(bound.enter().map(|content| *content), Ok(2));
    }

    #[test]
    fn content_is_not_entered_twice_at_a_time() {
        let bound = ThreadBound::new(());
        let first = bound.enter().expect("bound to us");
        assert_eq!(bound.enter().map(|_| ()), Err(WrongThread));
        drop(first);
        assert!(bound.enter().is_ok());
    }

    #[test]
    fn one_of_several_racing_threads_is_bound() {
        for _ in 0..200 {
            let bound = ThreadBound::new(0);
            let gate = std::sync::Barrier::new(4);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        gate.wait();
                        for _ in 0..100 {
                            if let Ok(mut content) = bound.enter() {
                                *content += 1;
                            }
                        }
                        // Otherwise a thread that starts could reuse the control block of one that ended.
                        gate.wait();
                    });
                }
            });
            assert_eq!(bound.content.into_inner(), 100);
        }
    }
}
