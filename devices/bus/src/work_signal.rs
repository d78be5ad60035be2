//! [`WorkSignal`] and [`Inbox`], which tell a model's thread of work and let it sleep while there is none.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::sleep_handshake::SleepHandshake;

/// Signal bits for a model's thread, set by the threads that access its registers. The model defines the
/// bits.
///
/// Notifying costs one store, and a wake-up if the thread sleeps.
#[derive(Default)]
pub struct WorkSignal {
    handshake: SleepHandshake,
    worker: OnceLock<Thread>,
}

impl WorkSignal {
    /// No bit set, and no thread bound yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `bits` and wakes the model's thread.
    pub fn notify(&self, bits: u32) {
        self.set(bits);
        self.wake();
    }

    /// Sets `bits` without a wake-up, for callers that hold a lock: [`wake`](Self::wake) has to follow.
    pub fn set(&self, bits: u32) {
        self.handshake.set(bits);
    }

    /// Wakes the model's thread if it sleeps. The work was stored before, by any atomic store: either the
    /// thread sees it before it sleeps, or this call sees that the thread sleeps.
    #[inline]
    pub fn wake(&self) {
        if self.handshake.must_wake()
            && let Some(worker) = self.worker.get()
        {
            worker.unpark();
        }
    }

    /// Returns true if any of `bits` is set and was not taken.
    #[inline]
    pub fn is_set(&self, bits: u32) -> bool {
        self.handshake.is_set(bits)
    }

    /// For the model's thread: clears `bits` that were not taken, because a reset makes them void.
    pub fn clear(&self, bits: u32) {
        self.handshake.clear(bits);
    }

    /// For the model's thread: binds the signal to the calling thread.
    pub fn set_worker(&self) {
        // Set once, by the only thread that a model starts.
        let _ = self.worker.set(std::thread::current());
    }

    /// For the model's thread: takes all bits.
    #[inline]
    pub fn take(&self) -> u32 {
        self.handshake.take()
    }

    /// For the model's thread: sleeps for the time that `sleep_time` returns, or until it is woken.
    /// `sleep_time` is called when every register write already wakes the thread, so no write is missed
    /// between that call and the sleep.
    pub fn sleep(&self, sleep_time: impl FnOnce() -> SleepTime) {
        self.handshake.begin_sleep();
        if !self.is_set(u32::MAX) {
            match sleep_time() {
                SleepTime::HasWork => {}
                SleepTime::For(ns) => std::thread::park_timeout(Duration::from_nanos(ns)),
                SleepTime::UntilNotified => std::thread::park(),
            }
        }
        self.handshake.end_sleep();
    }
}

/// The time for which a model's thread has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SleepTime {
    /// There is work: no sleep.
    HasWork,
    /// This number of nanoseconds, unless it is notified.
    For(u64),
    /// Until it is notified.
    UntilNotified,
}

/// Requests to a model's thread that come from its host or a test instead of a register write. The requester
/// waits until its request is done.
pub struct Inbox<R>(Mutex<VecDeque<(R, SyncSender<()>)>>);

impl<R> Default for Inbox<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R> Inbox<R> {
    /// Queues `request`, notifies the thread with `bit`, and waits until the request is done.
    pub fn send_and_wait(&self, signal: &WorkSignal, bit: u32, request: R) {
        let (done, wait) = sync_channel(1);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((request, done));
        signal.notify(bit);
        // An error means that the thread has stopped, which only dropping the device brings about.
        let _ = wait.recv();
    }

    /// For the model's thread: takes the next request, and the channel on which to report it done. The
    /// requester may have gone by then.
    pub fn pop(&self) -> Option<(R, SyncSender<()>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
