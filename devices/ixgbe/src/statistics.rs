//! [`Statistics`]: the counter registers, which a read clears (82599 datasheet, section 8.2.3.23).

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter, by its index in [`Statistics`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counter(usize);

impl Counter {
    pub(crate) const CRC_ERRORS: Self = Self(0);
    pub(crate) const ILLEGAL_BYTES: Self = Self(1);
    pub(crate) const LENGTH_ERRORS: Self = Self(2);
    pub(crate) const MISSED: Self = Self(3);
    pub(crate) const NO_BUFFERS: Self = Self(4);
    pub(crate) const UNDERSIZED: Self = Self(5);
    pub(crate) const FRAGMENTS: Self = Self(6);
    pub(crate) const OVERSIZED: Self = Self(7);
    pub(crate) const JABBER: Self = Self(8);
    pub(crate) const GOOD_RECEIVED: Self = Self(9);
    pub(crate) const GOOD_RECEIVED_BYTES: Self = Self(10);
    pub(crate) const BROADCAST_RECEIVED: Self = Self(11);
    pub(crate) const MULTICAST_RECEIVED: Self = Self(12);
    pub(crate) const TOTAL_RECEIVED: Self = Self(13);
    pub(crate) const TOTAL_RECEIVED_BYTES: Self = Self(14);
    pub(crate) const GOOD_SENT: Self = Self(15);
    pub(crate) const GOOD_SENT_BYTES: Self = Self(16);
    pub(crate) const TOTAL_SENT: Self = Self(17);
    pub(crate) const MULTICAST_SENT: Self = Self(18);
    pub(crate) const BROADCAST_SENT: Self = Self(19);
    pub(crate) const CHECKSUM_ERRORS: Self = Self(20);
    /// Received frames by size class: 64, to 127, to 255, to 511, to 1023, more.
    pub(crate) const RECEIVED_SIZES: Self = Self(21);
    pub(crate) const SENT_SIZES: Self = Self(Self::RECEIVED_SIZES.0 + SIZES);
    /// Received frames by statistics set. The counters below are by set, too.
    pub(crate) const QUEUE_RECEIVED: Self = Self(Self::SENT_SIZES.0 + SIZES);
    pub(crate) const QUEUE_RECEIVED_BYTES: Self = Self(Self::QUEUE_RECEIVED.0 + SETS);
    pub(crate) const QUEUE_DROPPED: Self = Self(Self::QUEUE_RECEIVED_BYTES.0 + SETS);
    pub(crate) const QUEUE_SENT: Self = Self(Self::QUEUE_DROPPED.0 + SETS);
    pub(crate) const QUEUE_SENT_BYTES: Self = Self(Self::QUEUE_SENT.0 + SETS);
}

/// The number of size classes.
const SIZES: usize = 6;
/// The number of sets of per-queue counters.
pub(crate) const SETS: usize = 16;
const COUNTERS: usize = Counter::QUEUE_SENT_BYTES.0 + SETS;

/// The part of a counter that a register shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// The whole counter: 32 bits, saturating, cleared by a read.
    Whole,
    /// The low half of a wide counter. A read does not clear it.
    Low,
    /// The high half of the value that the low half was last read with. A read clears the counter.
    High,
}

/// The counters. The device's thread adds to them, and drivers' threads clear them by reading.
pub(crate) struct Statistics(Box<[Count]>);

#[derive(Default)]
struct Count {
    /// The count since power-on; only the device's thread writes it.
    total: AtomicU64,
    /// The part of the total that was cleared by reads.
    taken: AtomicU64,
    /// The total when the low half was read.
    latched: AtomicU64,
}

impl Statistics {
    pub(crate) fn new() -> Self {
        Self((0..COUNTERS).map(|_| Count::default()).collect())
    }

    /// Adds to a counter. For the device's thread.
    #[inline]
    pub(crate) fn add(&self, counter: Counter, count: u64) {
        self.add_at(counter, 0, count);
    }

    /// Adds to the `index`-th counter of a row. For the device's thread.
    #[inline]
    pub(crate) fn add_at(&self, counter: Counter, index: usize, count: u64) {
        let total = &self.0[counter.0 + index].total;
        // Only one thread writes, so this needs no locked instruction.
        total.store(total.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn reset(&self) {
        for count in &self.0 {
            count.taken.store(count.total.load(Ordering::Relaxed), Ordering::Relaxed);
            count.latched.store(count.total.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Reads the register at `offset`, if it is a counter.
    pub(crate) fn read(&self, offset: u64) -> Option<u32> {
        let (index, part) = place(offset)?;
        let count = &self.0[index];
        let total = count.total.load(Ordering::Relaxed);
        Some(match part {
            Part::Whole => {
                let since = total.wrapping_sub(count.taken.swap(total, Ordering::Relaxed));
                u32::try_from(since).unwrap_or(u32::MAX)
            }
            Part::Low => {
                count.latched.store(total, Ordering::Relaxed);
                total.wrapping_sub(count.taken.load(Ordering::Relaxed)) as u32
            }
            Part::High => {
                let latched = count.latched.load(Ordering::Relaxed);
                let since = latched.wrapping_sub(count.taken.swap(latched, Ordering::Relaxed));
                // The counters have 36 bits.
                (since >> 32) as u32 & 0xf
            }
        })
    }
}

/// Returns the size class of a frame of `bytes`, FCS included.
#[inline]
pub(crate) fn size_class(bytes: usize) -> usize {
    match bytes {
        0..=64 => 0,
        65..=127 => 1,
        128..=255 => 2,
        256..=511 => 3,
        512..=1023 => 4,
        _ => 5,
    }
}

fn place(offset: u64) -> Option<(usize, Part)> {
    let row = |first: u64, stride: u64, length: usize| {
        let index = (offset.checked_sub(first)? / stride) as usize;
        (offset == first + index as u64 * stride && index < length).then_some(index)
    };
    let whole = |counter: Counter| Some((counter.0, Part::Whole));
    let (counter, part) = match offset {
        0x4000 => return whole(Counter::CRC_ERRORS),
        0x4004 => return whole(Counter::ILLEGAL_BYTES),
        0x4040 => return whole(Counter::LENGTH_ERRORS),
        0x3fa0 => return whole(Counter::MISSED),
        0x3fc0 => return whole(Counter::NO_BUFFERS),
        0x40a4 => return whole(Counter::UNDERSIZED),
        0x40a8 => return whole(Counter::FRAGMENTS),
        0x40ac => return whole(Counter::OVERSIZED),
        0x40b0 => return whole(Counter::JABBER),
        0x4074 => return whole(Counter::GOOD_RECEIVED),
        0x4078 => return whole(Counter::BROADCAST_RECEIVED),
        0x407c => return whole(Counter::MULTICAST_RECEIVED),
        0x40d0 => return whole(Counter::TOTAL_RECEIVED),
        0x4080 => return whole(Counter::GOOD_SENT),
        0x40d4 => return whole(Counter::TOTAL_SENT),
        0x40f0 => return whole(Counter::MULTICAST_SENT),
        0x40f4 => return whole(Counter::BROADCAST_SENT),
        0x4120 => return whole(Counter::CHECKSUM_ERRORS),
        0x4088 => (Counter::GOOD_RECEIVED_BYTES, Part::Low),
        0x408c => (Counter::GOOD_RECEIVED_BYTES, Part::High),
        0x40c0 => (Counter::TOTAL_RECEIVED_BYTES, Part::Low),
        0x40c4 => (Counter::TOTAL_RECEIVED_BYTES, Part::High),
        0x4090 => (Counter::GOOD_SENT_BYTES, Part::Low),
        0x4094 => (Counter::GOOD_SENT_BYTES, Part::High),
        _ => {
            for (counter, first, stride, length, part) in [
                (Counter::RECEIVED_SIZES, 0x405c, 4, SIZES, Part::Whole),
                (Counter::SENT_SIZES, 0x40d8, 4, SIZES, Part::Whole),
                (Counter::QUEUE_RECEIVED, 0x1030, 0x40, SETS, Part::Whole),
                (Counter::QUEUE_RECEIVED_BYTES, 0x1034, 0x40, SETS, Part::Low),
                (Counter::QUEUE_RECEIVED_BYTES, 0x1038, 0x40, SETS, Part::High),
                (Counter::QUEUE_DROPPED, 0x1430, 0x40, SETS, Part::Whole),
                (Counter::QUEUE_SENT, 0x8680, 4, SETS, Part::Whole),
                // The 82598's offset, which drivers for both read.
                (Counter::QUEUE_SENT, 0x6030, 0x40, SETS, Part::Whole),
                (Counter::QUEUE_SENT_BYTES, 0x8700, 8, SETS, Part::Low),
                (Counter::QUEUE_SENT_BYTES, 0x8704, 8, SETS, Part::High),
            ] {
                if let Some(index) = row(first, stride, length) {
                    return Some((counter.0 + index, part));
                }
            }
            return None;
        }
    };
    Some((counter.0, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_clears_and_a_wide_counter_is_read_low_half_first() {
        let statistics = Statistics::new();
        statistics.add(Counter::GOOD_RECEIVED, 3);
        assert_eq!((statistics.read(0x4074), statistics.read(0x4074)), (Some(3), Some(0)));
        statistics.add(Counter::GOOD_RECEIVED, 1 << 40);
        assert_eq!(statistics.read(0x4074), Some(u32::MAX));
        statistics.add(Counter::GOOD_RECEIVED_BYTES, 0x5_0000_0007);
        assert_eq!((statistics.read(0x4088), statistics.read(0x4088)), (Some(7), Some(7)));
        statistics.add(Counter::GOOD_RECEIVED_BYTES, 1);
        assert_eq!((statistics.read(0x408c), statistics.read(0x4088)), (Some(5), Some(1)));
        statistics.add_at(Counter::QUEUE_RECEIVED, 3, 2);
        assert_eq!(
            (statistics.read(0x1030 + 3 * 0x40), statistics.read(0x1030 + 16 * 0x40)),
            (Some(2), Some(0))
        );
        assert_eq!(statistics.read(0x4044), None);
    }
}
