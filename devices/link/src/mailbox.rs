//! [`Mailbox`]: a queue of frames that another thread fills, for peers with threads of their own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::queue::Queue;
use crate::{Frame, Waker};

/// A bounded queue of frames from any thread to the thread of a device, or back.
pub struct Mailbox {
    queue: Mutex<Queue>,
    /// True if the queue may have frames: the device's thread reads it without taking the lock.
    has_frames: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Mailbox {
    /// An empty mailbox for up to `limit` frames.
    pub const fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::new(Queue::new(limit)),
            has_frames: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    /// Sets the waker of the thread that takes the frames.
    pub fn attach(&self, waker: Waker) {
        *lock(&self.waker) = Some(waker);
    }

    /// Drops the waker.
    pub fn detach(&self) {
        *lock(&self.waker) = None;
    }

    /// Appends a frame, and wakes the device if the queue was empty. Returns false if there was no room: the
    /// frame is lost, and the caller counts it.
    #[must_use = "a frame without room is lost, and the caller counts it"]
    pub fn push(&self, bytes: &[u8]) -> bool {
        let (has_room, is_first) = {
            let mut queue = lock(&self.queue);
            let has_room = queue.push(bytes, None);
            (has_room, !self.has_frames.swap(true, Ordering::AcqRel))
        };
        if is_first {
            self.wake();
        }
        has_room
    }

    /// The number of queued frames.
    pub fn queued(&self) -> usize {
        lock(&self.queue).len()
    }

    /// Drops all queued frames, and returns their number.
    pub fn clear(&self) -> usize {
        let mut queue = lock(&self.queue);
        let count = queue.len();
        while queue.pop().is_some() {}
        self.has_frames.store(false, Ordering::Release);
        count
    }

    /// Wakes the device.
    pub fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker();
        }
    }

    /// Removes the first frame and lends it, in `buffer`.
    pub fn pop<'a>(&self, buffer: &'a mut Vec<u8>) -> Option<Frame<'a>> {
        if !self.has_frames.load(Ordering::Acquire) {
            return None;
        }
        let mut queue = lock(&self.queue);
        let damage = queue.pop_into(buffer);
        if queue.is_empty() {
            self.has_frames.store(false, Ordering::Release);
        }
        Some(Frame { bytes: buffer, damage: damage? })
    }

    /// The time of the next frame, as [`Peer::due_ns`](crate::Peer::due_ns): 0 if there may be one.
    pub fn due_ns(&self) -> Option<u64> {
        self.has_frames.load(Ordering::Acquire).then_some(0)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
