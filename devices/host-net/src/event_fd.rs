//! [`EventFd`]: wakes a thread that waits for files, and stops it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, Timespec, eventfd, poll};

/// An event counter of Linux's. Any thread notifies it; its thread waits for it together with files.
pub(crate) struct EventFd {
    event: OwnedFd,
    is_stopping: AtomicBool,
}

impl EventFd {
    pub(crate) fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, is_stopping: AtomicBool::new(false) })
    }

    pub(crate) fn notify(&self) {
        // A write fails only if the counter is full, and then the file is ready already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Makes the file not ready again, until the next [`notify`](Self::notify).
    pub(crate) fn clear(&self) {
        // A read fails if nothing has notified it.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }

    /// Requests that the thread stops.
    pub(crate) fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.notify();
    }

    /// Returns true if the thread is to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Waits until one of the files is ready, or for `limit`.
pub(crate) fn wait(files: &mut [PollFd<'_>], limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    // A signal ends the wait early, which callers allow for.
    let _ = poll(files, limit.as_ref());
}
