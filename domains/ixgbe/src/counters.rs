//! [`Counters`]: the number of frames that the domain's queues did not deliver.

use core::sync::atomic::{AtomicU64, Ordering};

/// Counts over all queues of a device.
#[derive(Default)]
pub(crate) struct Counters {
    /// Frames to send that the driver refused.
    pub(crate) refused: Counter,
    /// Received frames that the driver dropped.
    pub(crate) dropped: Counter,
    /// Packets that were in a transmit ring when the device was reset.
    pub(crate) interrupted: Counter,
}

/// A statistic that several threads add to; it orders nothing else.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
