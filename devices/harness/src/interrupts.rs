//! [`Interrupts`], the counters of interrupt messages and the threads that wait for them.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The interrupt messages of each vector.
pub(crate) struct Interrupts {
    counts: Mutex<Vec<Vector>>,
    arrived: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Vector {
    count: u32,
    masked: bool,
    pending: bool,
}

impl Interrupts {
    pub(crate) fn new(vectors: u16) -> Self {
        Self { counts: Mutex::new(vec![Vector::default(); vectors.into()]), arrived: Condvar::new() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<Vector>) -> T) -> T {
        act(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Delivers a message of `vector`; one of an unknown vector is dropped.
    pub(crate) fn raise(&self, vector: u16) {
        self.with(|counts| {
            let Some(vector) = counts.get_mut(usize::from(vector)) else { return };
            if vector.masked {
                vector.pending = true;
            } else {
                vector.count = vector.count.wrapping_add(1);
            }
        });
        self.arrived.notify_all();
    }

    /// Masks or unmasks a vector like MSI-X (PCI Local Bus Specification 3.0, 6.8.2.9): messages to a masked
    /// vector become one message at unmasking.
    pub(crate) fn mask(&self, vector: u16, masked: bool) {
        self.with(|counts| {
            let Some(vector) = counts.get_mut(usize::from(vector)) else { return };
            vector.masked = masked;
            if !masked && std::mem::take(&mut vector.pending) {
                vector.count = vector.count.wrapping_add(1);
            }
        });
        self.arrived.notify_all();
    }

    pub(crate) fn count(&self, vector: u16) -> u32 {
        self.with(|counts| counts.get(usize::from(vector)).map_or(0, |vector| vector.count))
    }

    /// Waits until the count of `vector` is not `seen`, for at most `timeout`. Returns the count.
    pub(crate) fn wait(&self, vector: u16, seen: u32, timeout: Duration) -> u32 {
        let at = usize::from(vector);
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |counts: &mut Vec<Vector>| counts.get(at).is_some_and(|vector| vector.count == seen);
        let (counts, _) =
            self.arrived.wait_timeout_while(counts, timeout, same).unwrap_or_else(PoisonError::into_inner);
        counts.get(at).map_or(seen, |vector| vector.count)
    }
}
