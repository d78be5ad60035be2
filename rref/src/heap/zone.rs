//! [`DmaZone`]: the spans that devices reach, in regions of their own.
//!
//! A region is a naturally aligned piece of memory of [`REGION_BYTES`], one large page of an IOMMU. It holds
//! objects that were allocated for devices, and nothing else: an IOMMU that maps the regions lets a device
//! reach no other object, with one entry for each.

use core::ptr::NonNull;

use super::span::{List, SPAN_BYTES, Span, SpanList};
use super::{Mutex, SpanSource};

/// Size and alignment of a region.
pub const REGION_BYTES: usize = 2 << 20;

/// Number of spans of a region.
pub(super) const REGION_SPANS: usize = REGION_BYTES / SPAN_BYTES;

const _: () = assert!(REGION_SPANS == u32::BITS as usize);

/// The zone. An object of more than one region has regions of its own, which are not counted here.
pub(super) struct DmaZone(Mutex<Regions>);

struct Regions {
    /// The regions with free spans, by their first spans.
    partial: SpanList,
    /// The number of regions, those without a free span included.
    count: usize,
}

impl DmaZone {
    pub(super) const fn new() -> Self {
        Self(Mutex::new(Regions { partial: SpanList::new(List::Regions), count: 0 }))
    }

    /// Returns the number of spans that an object of `count` spans takes.
    pub(super) const fn round(count: usize) -> usize {
        if count <= REGION_SPANS { count } else { count.next_multiple_of(REGION_SPANS) }
    }

    /// Returns memory of `count` spans ([`Self::round`]), aligned to [`SPAN_BYTES`].
    pub(super) fn take(&self, source: &impl SpanSource, count: usize) -> Option<NonNull<u8>> {
        if count > REGION_SPANS {
            return source.take(count);
        }
        let mut regions = self.0.lock();
        let fits = |region: Span| Some((region, free_run(region.region_used(), count)?));
        let found = regions.partial.iter().find_map(fits);
        let (region, start) = match found {
            Some(found) => found,
            None => {
                let memory = source.take(REGION_SPANS)?;
                // SAFETY: fresh memory from the source, aligned to its size.
                let region = unsafe { Span::new_region(memory) };
                regions.partial.push(region);
                regions.count += 1;
                (region, 0)
            }
        };
        region.set_region_used(region.region_used() | run(count) << start);
        if region.region_used() == u32::MAX {
            regions.partial.remove(region);
        }
        // SAFETY: inside the region.
        Some(unsafe { region.memory().add(start * SPAN_BYTES) })
    }

    /// Takes back memory of `count` spans from [`Self::take`].
    pub(super) fn give(&self, source: &impl SpanSource, memory: NonNull<u8>, count: usize) {
        if count > REGION_SPANS {
            return source.give(memory, count);
        }
        let offset = memory.as_ptr() as usize % REGION_BYTES;
        // SAFETY: a region is aligned to its size, so this is its start.
        let start = unsafe { memory.sub(offset) };
        // SAFETY: a live region: a span of it is in use.
        let region = unsafe { Span::of(start) };
        let mut regions = self.0.lock();
        if region.region_used() == u32::MAX {
            regions.partial.push(region);
        }
        region.set_region_used(region.region_used() & !(run(count) << (offset / SPAN_BYTES)));
        if region.region_used() == 0 {
            regions.partial.remove(region);
            regions.count -= 1;
            source.give(start, REGION_SPANS);
        }
    }

    /// Returns the number of regions.
    pub(super) fn regions(&self) -> usize {
        self.0.lock().count
    }
}

/// Returns true if `span` lies in a region of several spans.
pub(super) fn shares_region(span: Span) -> bool {
    span.is_dma() && span.count() <= REGION_SPANS
}

/// The lowest `count` bits.
fn run(count: usize) -> u32 {
    u32::MAX >> (u32::BITS as usize - count)
}

/// Returns the first of `count` adjacent spans that are not in `used`.
fn free_run(used: u32, count: usize) -> Option<usize> {
    (0..=REGION_SPANS - count).find(|&start| used & run(count) << start == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_run_is_found_at_either_end_and_in_between() {
        assert_eq!(free_run(0, 32), Some(0));
        assert_eq!(free_run(1, 32), None);
        assert_eq!(free_run(0x7fff_ffff, 1), Some(31));
        assert_eq!(free_run(0xffff_00ff, 8), Some(8));
        assert_eq!(free_run(0xffff_01ff, 8), None);
        assert_eq!(free_run(u32::MAX, 1), None);
    }
}
