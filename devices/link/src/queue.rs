//! [`Queue`]: frames that wait, in buffers that are used again; and [`Mailbox`]: one that another thread fills.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Damage, Frame, Waker};

/// Up to a number of frames, in order. When it runs it allocates nothing.
#[derive(Debug)]
pub(crate) struct Queue {
    frames: VecDeque<(Vec<u8>, Option<Damage>)>,
    idle: Vec<Vec<u8>>,
    /// What [`Self::pop`] lends.
    current: Vec<u8>,
    limit: usize,
}

impl Queue {
    /// Holds up to `limit` frames.
    pub(crate) const fn new(limit: usize) -> Self {
        Self { frames: VecDeque::new(), idle: Vec::new(), current: Vec::new(), limit }
    }

    /// Puts a copy behind the others, if there is room; whether there was.
    pub(crate) fn push(&mut self, bytes: &[u8], damage: Option<Damage>) -> bool {
        if self.frames.len() >= self.limit {
            return false;
        }
        let mut copy = self.idle.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(bytes);
        self.frames.push_back((copy, damage));
        true
    }

    /// The first, until the next call.
    pub(crate) fn pop(&mut self) -> Option<Frame<'_>> {
        let (next, damage) = self.frames.pop_front()?;
        self.idle.push(std::mem::replace(&mut self.current, next));
        Some(Frame { bytes: &self.current, damage })
    }

    /// Exchanges the first for a buffer that can be used again.
    fn pop_into(&mut self, buffer: &mut Vec<u8>) -> Option<Option<Damage>> {
        let (next, damage) = self.frames.pop_front()?;
        self.idle.push(std::mem::replace(buffer, next));
        Some(damage)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.frames.len()
    }
}

/// Frames from another thread to a device's.
pub(crate) struct Mailbox {
    queue: Mutex<Queue>,
    /// Whether there may be any: what the device's thread looks at.
    has_frames: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Mailbox {
    /// Holds up to `limit` frames.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            queue: Mutex::new(Queue::new(limit)),
            has_frames: AtomicBool::new(false),
            waker: Mutex::new(None),
        }
    }

    pub(crate) fn attach(&self, waker: Waker) {
        *lock(&self.waker) = Some(waker);
    }

    /// Wakes nobody any more.
    pub(crate) fn detach(&self) {
        *lock(&self.waker) = None;
    }

    /// Puts a frame in, and wakes the device if there was none. Returns whether there was room; if not, the frame is lost, and
    /// the caller counts it.
    #[must_use = "a frame without room is lost, and counted"]
    pub(crate) fn push(&self, bytes: &[u8]) -> bool {
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

    /// The number of frames that wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.queue).len()
    }

    /// Drops the frames that wait, and returns their number.
    pub(crate) fn clear(&self) -> usize {
        let mut queue = lock(&self.queue);
        let count = queue.len();
        while queue.pop().is_some() {}
        self.has_frames.store(false, Ordering::Release);
        count
    }

    /// Has the device look.
    pub(crate) fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker();
        }
    }

    /// Lends the first frame, in `buffer`.
    pub(crate) fn pop<'a>(&self, buffer: &'a mut Vec<u8>) -> Option<Frame<'a>> {
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

    /// As [`End::due_ns`](crate::End::due_ns).
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.has_frames.load(Ordering::Acquire).then_some(0)
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
