//! [`Interrupt`]: the messages of one number that a device sends.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::{Backend, DeviceRefusal};

/// An interrupt vector of a device. Nothing runs when a message arrives: it is counted, and whoever waits goes on.
pub struct Interrupt {
    backend: Arc<dyn Backend>,
    vector: u16,
    /// What the count was when a wait last ended.
    seen: AtomicU32,
}

impl Interrupt {
    pub(crate) fn new(backend: Arc<dyn Backend>, vector: u16) -> Result<Self, DeviceRefusal> {
        backend.open_interrupt(vector)?;
        let seen = backend.await_interrupt(vector, 0, 0);
        Ok(Self { backend, vector, seen: seen.into() })
    }

    /// Which vector.
    pub fn vector(&self) -> u16 {
        self.vector
    }

    /// Waits for a message that arrived after the last wait (or [`Self::forget`]) ended, or until the deadline. Answers whether
    /// there was one. The way to lose none is to forget, look for work, and then wait.
    pub fn wait(&self, deadline_ns: u64) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        let now = self.backend.await_interrupt(self.vector, seen, deadline_ns);
        self.seen.store(now, Ordering::Relaxed);
        now != seen
    }

    /// Says whether messages are wanted at all. A driver that polls does without them; one that is about to wait takes this
    /// back first, and then looks once more. Messages may arrive nevertheless.
    pub fn set_masked(&self, masked: bool) {
        self.backend.mask_interrupt(self.vector, masked);
    }

    /// Forgets the messages that have arrived.
    pub fn forget(&self) {
        let seen = self.seen.load(Ordering::Relaxed);
        self.seen.store(self.backend.await_interrupt(self.vector, seen, 0), Ordering::Relaxed);
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupt vector {}", self.vector)
    }
}
