//! [`Losses`]: frames that the driver had and did not deliver, by cause.

use core::sync::atomic::{AtomicU64, Ordering};

/// Frames that the driver had and did not deliver, of all queues, since the device was opened.
///
/// Frames that the device lost are in [`crate::Statistics`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// Received with an error, and dropped.
    pub damaged: u64,
    /// Received in more buffers than the caller takes at once, and dropped.
    pub too_many_parts: u64,
    /// Received, and not handed over before the ring was reset or closed.
    pub unpolled: u64,
    /// Taken to be sent, and not reported before the ring was reset or closed. Some of them may have been sent.
    pub unreported: u64,
    /// Given back to the caller unsent, with a [`crate::Refusal`]. A frame in several buffers is one.
    pub refused: u64,
}

impl Losses {
    /// All of them.
    pub const fn sum(&self) -> u64 {
        let Self { damaged, too_many_parts, unpolled, unreported, refused } = *self;
        damaged + too_many_parts + unpolled + unreported + refused
    }
}

/// The counters behind [`Losses`], which all queues of a device add to. Nothing on the path of a good frame does.
#[derive(Debug, Default)]
pub(crate) struct LossCounters {
    pub(crate) damaged: Counter,
    pub(crate) too_many_parts: Counter,
    pub(crate) unpolled: Counter,
    pub(crate) unreported: Counter,
    pub(crate) refused: Counter,
}

impl LossCounters {
    pub(crate) fn read(&self) -> Losses {
        let Self { damaged, too_many_parts, unpolled, unreported, refused } = self;
        Losses {
            damaged: damaged.get(),
            too_many_parts: too_many_parts.get(),
            unpolled: unpolled.get(),
            unreported: unreported.get(),
            refused: refused.get(),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    #[cold]
    pub(crate) fn add(&self, count: u32) {
        // Nothing is ordered by it.
        self.0.fetch_add(count.into(), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
