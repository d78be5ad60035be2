//! [`DescriptorRing`]: descriptors of 16 bytes in memory that a driver shares with its device.

use core::arch::x86_64::{__m128i, _mm_set_epi64x};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{DmaAddr, DmaMemory};

/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;

/// A power of two of descriptors, each two words of 64 bits. An index counts on for ever and means the descriptor that it is
/// modulo their number, so no index is outside and none has to be checked: for rings that are walked once per packet, where
/// [`DmaMemory`]'s checks are a third of what the walk costs.
///
/// # Invariants
/// - **H3** `base` is the start of `memory`, which has room for `mask + 1` descriptors; `mask + 1` is a power of two.
pub struct DescriptorRing {
    memory: DmaMemory,
    base: NonNull<u8>,
    mask: usize,
}

// SAFETY: it owns its memory, which `base` leads into.
unsafe impl Send for DescriptorRing {}

impl DescriptorRing {
    /// Bytes of memory for a ring.
    pub const fn bytes(descriptors: u32) -> usize {
        descriptors as usize * DESCRIPTOR
    }

    /// A ring in `memory`.
    ///
    /// # Panics
    /// When `descriptors` is not a power of two, or the memory has no room for them.
    pub fn new(memory: DmaMemory, descriptors: u32) -> Self {
        assert!(
            descriptors.is_power_of_two() && memory.len() >= Self::bytes(descriptors),
            "a ring of {descriptors} descriptors in {memory:?}"
        );
        let base = memory.start();
        Self { memory, base, mask: descriptors as usize - 1 }
    }

    /// Where it begins.
    pub fn addr(&self) -> DmaAddr {
        self.memory.addr(0)
    }

    /// Bytes of its descriptors.
    #[allow(clippy::len_without_is_empty, reason = "it has at least one descriptor")]
    pub const fn len(&self) -> usize {
        (self.mask + 1) * DESCRIPTOR
    }

    /// Makes all descriptors zero.
    pub fn clear(&mut self) {
        self.memory.clear();
    }

    /// Writes a descriptor, by one store.
    #[inline(always)]
    pub fn write(&mut self, index: u32, [first, second]: [u64; 2]) {
        let place = self.place(index).cast::<__m128i>();
        // SAFETY: each x86_64 has SSE2.
        let words = unsafe { _mm_set_epi64x(second as i64, first as i64) };
        // SAFETY: H3: in the memory, and aligned to a descriptor.
        unsafe { place.write_volatile(words) };
    }

    /// Writes the second word alone.
    #[inline(always)]
    pub fn write_second(&mut self, index: u32, second: u64) {
        let place = self.second(index);
        // SAFETY: as in `write`.
        unsafe { place.write_volatile(second) };
    }

    /// The first word, as the device left it.
    #[inline(always)]
    pub fn read_first(&self, index: u32) -> u64 {
        let place = self.place(index).cast::<u64>();
        // SAFETY: as in `write`.
        unsafe { place.read_volatile() }
    }

    /// The second word, which says whether the descriptor is the driver's again. What the device wrote before it is seen by what
    /// is read after this.
    #[inline(always)]
    pub fn read_second(&self, index: u32) -> u64 {
        let place = self.second(index);
        // SAFETY: as in `write`, and everybody accesses it whole.
        unsafe { AtomicU64::from_ptr(place.as_ptr()) }.load(Ordering::Acquire)
    }

    #[inline(always)]
    fn place(&self, index: u32) -> NonNull<u8> {
        // SAFETY: H3: at most `mask` descriptors behind the base.
        unsafe { self.base.add((index as usize & self.mask) * DESCRIPTOR) }
    }

    #[inline(always)]
    fn second(&self, index: u32) -> NonNull<u64> {
        // SAFETY: H3: the second half of a descriptor.
        unsafe { self.place(index).add(DESCRIPTOR / 2) }.cast()
    }
}

impl fmt::Debug for DescriptorRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} descriptors in {:?}", self.mask + 1, self.memory)
    }
}
