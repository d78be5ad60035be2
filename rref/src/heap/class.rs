//! Size classes, and the zone that a class belongs to.

use super::span::{SPAN_BYTES, SPAN_HEADER};
use crate::Header;

/// Bytes of one slot (header and value) in each size. Multiples of 64, so that all values have cache-line
/// alignment. The steps are about 1.4, with one size for each power of two of bytes behind a head of 64 and
/// the object's header, the sizes of block device requests.
const SLOT_BYTES: [usize; SIZES] =
    [128, 192, 256, 320, 448, 640, 832, 1152, 1600, 2176, 3072, 4224, 5888, 8320, 10816, 16192, 32448];

/// Number of sizes.
const SIZES: usize = 17;

/// Number of size classes. Each size has two: plain memory, and memory that devices reach.
pub const CLASSES: usize = 2 * SIZES;

/// The class of values that get spans of their own, and the first one of these.
pub const LARGE: usize = CLASSES;

/// Added to a size class (or [`LARGE`]) for memory that devices reach.
const DMA: usize = SIZES;
/// As [`LARGE`], for memory that devices reach.
const LARGE_DMA: usize = LARGE + 1;

/// Alignment of every value that is not large.
pub(super) const VALUE_ALIGN: usize = 64;

/// Returns the size class for a value of `size` bytes at `align`.
///
/// # Panics
/// When `align` is more than a page (while the domain is compiled).
pub const fn class_of(size: usize, align: usize) -> usize {
    assert!(align <= 4096, "a shared object is aligned to a page at most");
    if align > VALUE_ALIGN {
        return LARGE;
    }
    let mut class = 0;
    while class < SIZES {
        if size + Header::SIZE <= SLOT_BYTES[class] {
            return class;
        }
        class += 1;
    }
    LARGE
}

/// Returns the class for a value that devices read and write, as [`class_of`].
///
/// # Panics
/// As [`class_of`].
pub const fn dma_class_of(size: usize, align: usize) -> usize {
    match class_of(size, align) {
        LARGE => LARGE_DMA,
        class => class + DMA,
    }
}

/// Returns true if devices reach the spans of `class`.
pub(super) const fn is_dma(class: usize) -> bool {
    class == LARGE_DMA || class >= DMA && class < LARGE
}

/// Returns the bytes of one slot in `class`.
pub(super) const fn slot_size(class: usize) -> usize {
    SLOT_BYTES[class % SIZES]
}

/// Returns the offset of the value of a large object in its span.
pub(super) const fn large_offset(align: usize) -> usize {
    let align = if align > VALUE_ALIGN { align } else { VALUE_ALIGN };
    (SPAN_HEADER + Header::SIZE).next_multiple_of(align)
}

const _: () = {
    let mut class = 0;
    while class < SIZES {
        assert!(SLOT_BYTES[class].is_multiple_of(VALUE_ALIGN));
        assert!(SLOT_BYTES[class] <= SPAN_BYTES / 2);
        class += 1;
    }
};
