//! Locks and signals between the threads of one domain. A thread that has to wait blocks in the kernel.
//! [`ThreadBound`] is for data that one thread uses and that needs no lock.

mod thread_bound;

use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use coppice_abi::services;
use lock_api::GuardSend;
pub use thread_bound::{Bound, ThreadBound, WrongThread};

/// A lock that blocks.
///
/// A call into another domain with a lock held is allowed, but then all threads that wait for the lock wait
/// for that domain.
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;

/// A held [`Mutex`].
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;

/// The mechanism of [`Mutex`]: 0 free, 1 held, 2 held with waiting threads.
pub struct RawMutex(AtomicU32);

// SAFETY: `lock` returns only to the one thread that changed the word from free to held.
unsafe impl lock_api::RawMutex for RawMutex {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait wants a constant to make locks of")]
    const INIT: Self = Self(AtomicU32::new(0));
    type GuardMarker = GuardSend;

    fn lock(&self) {
        if self.try_lock() {
            return;
        }
        // A thread that finds the lock held marks it as contended, and keeps the mark when it gets the lock,
        // because other threads may still wait.
        while self.0.swap(2, Ordering::Acquire) != 0 {
            wait(&self.0, 2, None);
        }
    }

    fn try_lock(&self) -> bool {
        self.0.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    unsafe fn unlock(&self) {
        if self.0.swap(0, Ordering::Release) == 2 {
            wake(&self.0, 1);
        }
    }
}

/// An event count: wakes threads that wait for a change.
///
/// Take a [`Ticket`], check for work, and wait with the ticket if there is none: a notification after the
/// ticket was taken is not missed.
#[derive(Debug, Default)]
pub struct Event(AtomicU32);

/// A snapshot of an [`Event`]'s count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ticket(u32);

impl Event {
    /// Makes an event without notifications.
    pub const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Returns a snapshot, to be taken before the check for work.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.0.load(Ordering::Acquire))
    }

    /// Waits for a notification that is later than `ticket`.
    pub fn wait(&self, ticket: Ticket) {
        wait(&self.0, ticket.0, None);
    }

    /// As [`Self::wait`], until the clock passes `deadline`. Returns false if no notification came before.
    pub fn wait_until(&self, ticket: Ticket, deadline: Duration) -> bool {
        wait(&self.0, ticket.0, Some(deadline))
    }

    /// Wakes one thread.
    pub fn notify_one(&self) {
        self.0.fetch_add(1, Ordering::Release);
        wake(&self.0, 1);
    }

    /// Wakes all threads.
    pub fn notify_all(&self) {
        self.0.fetch_add(1, Ordering::Release);
        wake(&self.0, u32::MAX);
    }
}

fn wait(word: &AtomicU32, expected: u32, deadline: Option<Duration>) -> bool {
    let deadline_ns = deadline.map_or(u64::MAX, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    // SAFETY: a live word of this domain.
    unsafe { (services().wait)(word, expected, deadline_ns) }
}

fn wake(word: &AtomicU32, count: u32) {
    // SAFETY: a live word of this domain.
    unsafe { (services().wake)(word, count) };
}
