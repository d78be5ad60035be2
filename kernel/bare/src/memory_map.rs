//! [`MemoryMap`]: the physical memory that is available.

use core::ops::Range;

use arrayvec::ArrayVec;

/// Maximum number of separate ranges of a map. Firmware reports far more entries, but adjacent ones are
/// merged.
const RANGE_LIMIT: usize = 128;

const PAGE: u64 = coppice_kernel::machine::PAGE_SIZE as u64;

/// Usable memory: ranges of whole pages.
///
/// # Invariants
/// The ranges are page-aligned, not empty, ascending, and neither overlap nor touch.
#[derive(Clone, Default)]
pub struct MemoryMap {
    ranges: ArrayVec<Range<u64>, RANGE_LIMIT>,
    lost: u64,
}

impl MemoryMap {
    /// Adds the whole pages in `range`. A range for which there is no room is not used and is counted in
    /// [`Self::lost`].
    pub fn add(&mut self, range: Range<u64>) {
        let mut new = range.start.next_multiple_of(PAGE)..range.end / PAGE * PAGE;
        if new.is_empty() {
            return;
        }
        self.ranges.retain(|old| {
            let apart = old.end < new.start || new.end < old.start;
            if !apart {
                new = new.start.min(old.start)..new.end.max(old.end);
            }
            apart
        });
        self.insert(new);
    }

    /// Removes all pages that overlap `range`.
    pub fn carve(&mut self, range: &Range<u64>) {
        let hole = range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE);
        if hole.is_empty() {
            return;
        }
        let mut behind = None;
        self.ranges.retain(|old| {
            if old.end <= hole.start || hole.end <= old.start {
                return true;
            }
            if hole.end < old.end {
                // At most one range reaches past the hole's end, as ranges do not overlap.
                behind = Some(hole.end..old.end);
            }
            old.end = hole.start;
            old.start < old.end
        });
        if let Some(rest) = behind {
            self.insert(rest);
        }
    }

    /// Removes `len` bytes of whole pages, at the start of the lowest range in `within` that has room for
    /// them, and returns their address.
    pub fn take(&mut self, len: u64, within: Range<u64>) -> Option<u64> {
        let len = len.next_multiple_of(PAGE);
        let start = self.ranges.iter().find_map(|range| {
            let start = range.start.max(within.start.next_multiple_of(PAGE));
            let end = range.end.min(within.end);
            (start <= end && end - start >= len).then_some(start)
        })?;
        self.carve(&(start..start + len));
        Some(start)
    }

    /// Returns the ranges, ascending.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Returns the bytes in all ranges.
    pub fn total(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Returns the bytes that were left out because the map was full.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn insert(&mut self, new: Range<u64>) {
        if self.ranges.is_full() {
            self.lost += new.end - new.start;
            return;
        }
        let at = self.ranges.partition_point(|old| old.start < new.start);
        self.ranges.insert(at, new);
    }
}

#[cfg(test)]
#[expect(clippy::single_range_in_vec_init, reason = "a map of one range is what these tests are about")]
mod tests {
    use super::*;

    fn map(ranges: &[Range<u64>]) -> MemoryMap {
        let mut map = MemoryMap::default();
        for range in ranges {
            map.add(range.clone());
        }
        map
    }

    #[test]
    fn neighbours_and_overlaps_merge_in_any_order() {
        let map = map(&[0x5000..0x7000, 0x1000..0x3000, 0x9000..0xa000, 0x2000..0x5000]);
        assert_eq!(map.ranges(), [0x1000..0x7000, 0x9000..0xa000]);
        assert_eq!(map.total(), 0x7000);
    }

    #[test]
    fn a_page_that_is_only_partly_usable_is_not_used() {
        assert_eq!(map(&[0x1001..0x3fff, 0x8001..0x8fff]).ranges(), [0x2000..0x3000]);
    }

    #[test]
    fn a_hole_takes_every_page_that_it_touches() {
        let mut map = map(&[0x1000..0x9000]);
        map.carve(&(0x2fff..0x4001));
        assert_eq!(map.ranges(), [0x1000..0x2000, 0x5000..0x9000]);
        map.carve(&(0..0x6000));
        assert_eq!(map.ranges(), [0x6000..0x9000]);
        map.carve(&(0x8000..0x2_0000));
        assert_eq!(map.ranges(), [0x6000..0x8000]);
        map.carve(&(0x7000..0x7000));
        assert_eq!(map.ranges(), [0x6000..0x8000]);
    }

    #[test]
    fn memory_is_taken_in_the_requested_range_or_not_at_all() {
        let mut map = map(&[0x1000..0x3000, 0x10_0000..0x20_0000]);
        assert_eq!(map.take(0x2001, 0..u64::MAX / 2), Some(0x10_0000));
        assert_eq!(map.take(0x1000, 0x18_0800..0x20_0000), Some(0x18_1000));
        assert_eq!(map.take(0x1000, 0x3000..0x10_0000), None);
        assert_eq!(map.take(0x20_0000, 0..u64::MAX / 2), None);
        assert_eq!(map.ranges(), [0x1000..0x3000, 0x10_3000..0x18_1000, 0x18_2000..0x20_0000]);
    }

    #[test]
    fn ranges_past_the_limit_are_counted_as_lost() {
        let mut map = MemoryMap::default();
        for i in 0..RANGE_LIMIT as u64 + 3 {
            map.add(i * 0x2000..i * 0x2000 + 0x1000);
        }
        assert_eq!(map.ranges().len(), RANGE_LIMIT);
        assert_eq!(map.lost(), 0x3000);
    }
}
