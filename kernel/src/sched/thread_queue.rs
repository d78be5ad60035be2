//! [`ThreadQueue`]: threads that wait for a CPU or for an event, first in first out.

use core::ptr::NonNull;

use crate::sched::thread::Thread;

/// A queue of threads, linked through the threads: a thread is in one queue at most, and queueing takes no
/// memory.
///
/// The caller of each method holds the lock that T2 names for the queue's threads; a thread in the queue is
/// alive (T4).
pub(crate) struct ThreadQueue {
    first: Option<NonNull<Thread>>,
    last: Option<NonNull<Thread>>,
}

// SAFETY: the queue's threads are shared by T2.
unsafe impl Send for ThreadQueue {}

impl ThreadQueue {
    /// A queue without threads.
    pub(crate) const fn new() -> Self {
        Self { first: None, last: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Visits each thread of the queue.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Thread)) {
        let mut at = self.first;
        while let Some(link) = at {
            // SAFETY: T4.
            visit(unsafe { link.as_ref() });
            // SAFETY: T2: the caller holds this queue's lock.
            at = unsafe { Thread::fields_of(link) }.next;
        }
    }

    /// Appends `thread`, which is in no queue.
    pub(crate) fn push(&mut self, thread: &Thread) {
        let link = Some(NonNull::from(thread));
        // SAFETY: T2: the caller holds this queue's lock.
        unsafe { thread.fields() }.next = None;
        match self.last {
            // SAFETY: as above.
            Some(last) => unsafe { Thread::fields_of(last) }.next = link,
            None => self.first = link,
        }
        self.last = link;
    }

    /// Takes the first thread that `choose` selects.
    pub(crate) fn take_first(&mut self, mut choose: impl FnMut(&Thread) -> bool) -> Option<&'static Thread> {
        let mut previous: Option<NonNull<Thread>> = None;
        let mut at = self.first;
        while let Some(link) = at {
            // SAFETY: T4.
            let thread = unsafe { link.as_ref() };
            // SAFETY: T2: the caller holds this queue's lock.
            let next = unsafe { thread.fields() }.next;
            if choose(thread) {
                match previous {
                    // SAFETY: as above.
                    Some(previous) => unsafe { Thread::fields_of(previous) }.next = next,
                    None => self.first = next,
                }
                if self.last == at {
                    self.last = previous;
                }
                return Some(thread);
            }
            previous = at;
            at = next;
        }
        None
    }
}
