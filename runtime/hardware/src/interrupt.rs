//! [`Interrupt`]: one interrupt vector of a device.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::{Backend, DeviceRefusal};

/// An interrupt vector of a device. No handler runs when a message arrives: the message is counted and
/// waiting threads continue.
pub struct Interrupt {
    backend: Arc<dyn Backend>,
    vector: u16,
    /// The message count at the end of the last wait.
    seen: AtomicU32,
}

impl Interrupt {
    pub(crate) fn new(backend: Arc<dyn Backend>, vector: u16) -> Result<Self, DeviceRefusal> {
        backend.open_interrupt(vector)?;
        let seen = backend.await_interrupt(vector, 0, 0);
        Ok(Self { backend, vector, seen: seen.into() })
    }

    /// Returns the vector's number.
    pub fn vector(&self) -> u16 {
        self.vector
    }

    /// Waits for a message that arrived after the last wait (or [`Self::forget`]) ended, or until the
    /// deadline. Returns true if one arrived. To lose none, forget, check for work, and then wait.
    pub fn wait(&self, deadline_ns: u64) -> bool {
        let seen = self.seen.load(Ordering::Relaxed);
        let now = self.backend.await_interrupt(self.vector, seen, deadline_ns);
        self.seen.store(now, Ordering::Relaxed);
        now != seen
    }

    /// Masks or unmasks the vector. A driver masks it while it polls, and unmasks it before it waits, after
    /// which it checks for work once more. Messages may arrive nevertheless.
    pub fn set_masked(&self, masked: bool) {
        self.backend.mask_interrupt(self.vector, masked);
    }

    /// Discards the messages that have arrived.
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
