//! [`ThreadBound`]: what one thread uses, and no other.

use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A `T` for the thread that gets at it first after it was made. An uncontended [`super::Mutex`] takes two locked
/// instructions, some 40 cycles; this takes none.
///
/// A thread is told by its control block, which stays while it crosses domains: so what a domain exports can be bound to a
/// *client's* thread. If that one's domain dies during the call, the call goes on to its end and leaves here as always; if
/// this domain dies, so does the content. A thread that has ended leaves what was bound to it to nobody, or to a later thread
/// that the kernel has given the same block: both are harmless, and neither is something to rely on.
///
/// Rejected: binding it anew when another thread comes. It would have to know that the first is not inside, which without
/// a locked instruction on the way in takes a fence on the other thread's CPU.
///
/// # Invariants
/// - **B1** `thread` changes once, from 0 to the control block of a thread that runs.
/// - **B2** `inside` is touched by that thread only, and is true while a [`Bound`] of it exists.
pub struct ThreadBound<T> {
    thread: AtomicUsize,
    inside: AtomicBool,
    content: UnsafeCell<T>,
}

/// The content is bound to another thread, or this thread has it already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elsewhere;

impl core::fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("bound to another thread, or in use by this one")
    }
}

impl core::error::Error for Elsewhere {}

/// The thread's own use of the content. It does not leave the thread.
pub struct Bound<'a, T> {
    owner: &'a ThreadBound<T>,
    stays: PhantomData<*mut ()>,
}

// SAFETY: by B1 and B2 one thread at a time gets at the content, once at a time. That it is another than the one that made it
// takes `Send`, as for a lock.
unsafe impl<T: Send> Sync for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    /// Bound to nobody yet.
    pub const fn new(content: T) -> Self {
        Self {
            thread: AtomicUsize::new(0),
            inside: AtomicBool::new(false),
            content: UnsafeCell::new(content),
        }
    }

    /// The content, for the thread that it is bound to.
    ///
    /// # Errors
    /// [`Elsewhere`].
    #[inline(always)]
    pub fn enter(&self) -> Result<Bound<'_, T>, Elsewhere> {
        if self.thread.load(Ordering::Relaxed) != this_thread() {
            self.bind()?;
        }
        if self.inside.load(Ordering::Relaxed) {
            return Err(Elsewhere);
        }
        self.inside.store(true, Ordering::Relaxed);
        Ok(Bound { owner: self, stays: PhantomData })
    }

    #[cold]
    #[inline(never)]
    fn bind(&self) -> Result<(), Elsewhere> {
        // Acquire: whoever made the content did so on another thread, perhaps.
        self.thread
            .compare_exchange(0, this_thread(), Ordering::AcqRel, Ordering::Relaxed)
            .map_or(Err(Elsewhere), |_| Ok(()))
    }
}

impl<T> Deref for Bound<'_, T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: B2: this is the only `Bound`, on the only thread that has one.
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

/// What tells the running thread from all others that run. Not 0.
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
    fn the_first_thread_has_it_and_no_other() {
        let bound = ThreadBound::new(1);
        *bound.enter().expect("bound to us") += 1;
        assert_eq!(bound.enter().map(|content| *content), Ok(2));
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(bound.enter().map(|_| ()), Err(Elsewhere)));
        });
        assert_eq!(bound.enter().map(|content| *content), Ok(2));
    }

    #[test]
    fn it_is_not_had_twice_at_a_time() {
        let bound = ThreadBound::new(());
        let first = bound.enter().expect("bound to us");
        assert_eq!(bound.enter().map(|_| ()), Err(Elsewhere));
        drop(first);
        assert!(bound.enter().is_ok());
    }

    #[test]
    fn of_threads_that_come_at_once_one_gets_it() {
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
                        // Else one that ends might leave its place to one that begins.
                        gate.wait();
                    });
                }
            });
            assert_eq!(bound.content.into_inner(), 100);
        }
    }
}
