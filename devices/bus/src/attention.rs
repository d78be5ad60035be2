//! How a device's own thread learns that there is something to do, and sleeps while there is not.

use std::collections::VecDeque;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::Duration;

use crate::nap::Nap;

/// What threads that access registers tell the device's thread: some bits, which the model names, and to wake up.
///
/// Telling is one store, and a wake-up if the thread sleeps.
#[derive(Default)]
pub struct Attention {
    nap: Nap,
    worker: OnceLock<Thread>,
}

impl Attention {
    /// Nothing to do, and no thread to do it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has the device's thread look at `what`.
    pub fn call(&self, what: u32) {
        self.note(what);
        self.wake();
    }

    /// The same without waking it, for callers that hold a lock: [`wake`](Self::wake) follows.
    pub fn note(&self, what: u32) {
        self.nap.note(what);
    }

    /// Wakes the device's thread if it sleeps. What it is to find was stored before, by any atomic store: either it sees that
    /// before it sleeps, or this sees that it sleeps.
    #[inline]
    pub fn wake(&self) {
        if self.nap.wants_waking()
            && let Some(worker) = self.worker.get()
        {
            worker.unpark();
        }
    }

    /// Whether any of `what` was called for and not taken yet.
    #[inline]
    pub fn is_called(&self, what: u32) -> bool {
        self.nap.is_called(what)
    }

    /// For the device's thread: forgets calls for `what` that were not taken yet, since a reset leaves nothing of what they asked
    /// for.
    pub fn cancel(&self, what: u32) {
        self.nap.cancel(what);
    }

    /// For the device's thread: that it is the one.
    pub fn set_worker(&self) {
        // Set once, by the one thread that is started.
        let _ = self.worker.set(std::thread::current());
    }

    /// For the device's thread: what it was called for since the last time.
    #[inline]
    pub fn take(&self) -> u32 {
        self.nap.take()
    }

    /// For the device's thread: sleeps for as long as `rest` says, or until it is woken. `rest` is asked at a time when every
    /// write of a register already wakes the thread, so no write comes between its answer and the sleep.
    pub fn sleep(&self, rest: impl FnOnce() -> Rest) {
        self.nap.begin();
        if !self.is_called(u32::MAX) {
            match rest() {
                Rest::Work => {}
                Rest::For(nap_ns) => std::thread::park_timeout(Duration::from_nanos(nap_ns)),
                Rest::UntilCalled => std::thread::park(),
            }
        }
        self.nap.end();
    }
}

/// How long a device's thread has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    /// Not at all: a look would find work.
    Work,
    /// For so many nanoseconds, unless it is called.
    For(u64),
    /// Until it is called.
    UntilCalled,
}

impl Rest {
    /// Until `due_ns`, if anything is due, `now_ns` being the time.
    pub fn until(due_ns: Option<u64>, now_ns: u64) -> Self {
        due_ns.map_or(Self::UntilCalled, |due| Self::For(due.saturating_sub(now_ns)))
    }
}

/// What is asked of a device's thread by other means than registers. Each request is answered when it is done.
pub struct Inbox<R>(Mutex<VecDeque<(R, SyncSender<()>)>>);

impl<R> Default for Inbox<R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<R> Inbox<R> {
    /// Calls the thread for `what`, and waits until it has done `request`.
    pub fn ask(&self, attention: &Attention, what: u32, request: R) {
        let (done, wait) = sync_channel(1);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back((request, done));
        attention.call(what);
        // An error means that the thread has stopped, which only dropping the device brings about.
        let _ = wait.recv();
    }

    /// For the device's thread: the next request, and whom to tell when it is done; who asked may have gone.
    pub fn pop(&self) -> Option<(R, SyncSender<()>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
