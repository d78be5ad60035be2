//! [`Losses`]: frames that the driver received or accepted and did not deliver, by cause.

use core::sync::atomic::{AtomicU64, Ordering};

/// Frames that the driver received or accepted and did not deliver, of all queues, since the device was
/// opened.
///
/// Frames that the device lost are in [`crate::Statistics`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Losses {
    /// Received with an error, and dropped.
    pub damaged: u64,
    /// Received in more packets than the caller takes at once, and dropped.
    pub too_many_parts: u64,
    /// Received, and not polled before the ring was reset or closed.
    pub unpolled: u64,
    /// Accepted for sending, and not reported as sent before the ring was reset or closed. Some may have been
    /// sent.
    pub unreported: u64,
    /// Returned to the caller unsent, with a [`crate::Refusal`]. A frame in several packets counts once.
    pub refused: u64,
}

impl Losses {
    /// Returns the sum of all causes.
    pub const fn sum(&self) -> u64 {
        let Self { damaged, too_many_parts, unpolled, unreported, refused } = *self;
        damaged + too_many_parts + unpolled + unreported + refused
    }
}

/// The counters of [`Losses`], shared by all queues of a device. The path of a good frame does not touch
/// them.
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
        // The counter orders no other access.
        self.0.fetch_add(count.into(), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
