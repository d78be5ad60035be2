//! [`Bell`]: what a thread that waits for files hears of others.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, Timespec, eventfd, poll};

/// Rung by any thread, and waited for together with files.
pub(crate) struct Bell {
    event: OwnedFd,
    is_over: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> std::io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, is_over: AtomicBool::new(false) })
    }

    pub(crate) fn ring(&self) {
        // It can only fail if it was rung 2^64 times and nobody listened, and then it rings.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }

    /// Is heard.
    pub(crate) fn hush(&self) {
        // It may not have been rung.
        let _ = rustix::io::read(&self.event, &mut [0; 8]);
    }

    /// Has the thread end.
    pub(crate) fn end(&self) {
        self.is_over.store(true, Ordering::Release);
        self.ring();
    }

    /// Whether the thread is to end.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Waits until one of these is ready, or for so long.
pub(crate) fn wait(files: &mut [PollFd<'_>], limit: Option<Duration>) {
    let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
    // Interrupted, it comes back early, which is allowed.
    let _ = poll(files, limit.as_ref());
}
