//! [`Counters`]: what one queue has done, for whoever asks.

use core::sync::atomic::{AtomicU64, Ordering};

use coppice_interfaces::net::Statistics;

/// Written by the queue's thread only, so that counting takes no locked instruction.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) sent: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) refused: Counter,
}

/// A number with one writer.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[inline(always)]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    /// Adds what was counted to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Statistics) {
        sum.sent += self.sent.get();
        sum.sent_bytes += self.sent_bytes.get();
        sum.received += self.received.get();
        sum.received_bytes += self.received_bytes.get();
        sum.refused += self.refused.get();
    }
}
