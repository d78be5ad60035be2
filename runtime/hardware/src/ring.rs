//! [`DescriptorRing`]: descriptors of 16 bytes in memory that a driver shares with its device.

use core::arch::x86_64::{__m128i, _mm_set_epi64x};
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{DmaAddr, DmaMemory, DmaSpace};

/// Bytes of a descriptor.
const DESCRIPTOR: usize = 16;

/// A ring of descriptors, each two words of 64 bits. Their number is a power of two. An index counts up
/// without end and is taken modulo that number, so every index is valid and none has to be checked: for rings
/// that are walked once per packet, where [`DmaMemory`]'s checks are a third of the cost of the walk.
///
/// # Invariants
/// - **H3** `base` is the start of `memory`, which has room for `mask + 1` descriptors; `mask + 1` is a power
///   of two.
pub struct DescriptorRing {
    memory: DmaMemory,
    base: NonNull<u8>,
    mask: usize,
}

// SAFETY: it owns its memory, into which `base` points.
unsafe impl Send for DescriptorRing {}

impl DescriptorRing {
    /// Returns the size in bytes of a ring's memory.
    pub const fn bytes(descriptors: u32) -> usize {
        descriptors as usize * DESCRIPTOR
    }

    /// Makes a ring in `memory`.
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

    /// Returns the device address of the first descriptor.
    pub fn addr(&self) -> DmaAddr {
        self.memory.addr(0)
    }

    /// Returns the address space of the device that reads the descriptors: the addresses in them belong to
    /// it.
    #[inline]
    pub fn dma_space(&self) -> &DmaSpace {
        self.memory.dma_space()
    }

    /// Returns the size in bytes of the descriptors.
    #[allow(clippy::len_without_is_empty, reason = "it has at least one descriptor")]
    pub const fn len(&self) -> usize {
        (self.mask + 1) * DESCRIPTOR
    }

    /// Zeroes all descriptors.
    pub fn clear(&mut self) {
        self.memory.clear();
    }

    /// Writes a descriptor with one store.
    #[inline(always)]
    pub fn write(&mut self, index: u32, [first, second]: [u64; 2]) {
        let place = self.place(index).cast::<__m128i>();
        // SAFETY: each x86_64 has SSE2.
        let words = unsafe { _mm_set_epi64x(second as i64, first as i64) };
        // SAFETY: H3: in the memory, and aligned to a descriptor.
        unsafe { place.write_volatile(words) };
    }

    /// Writes only the second word.
    #[inline(always)]
    pub fn write_second(&mut self, index: u32, second: u64) {
        let place = self.second(index);
        // SAFETY: as in `write`.
        unsafe { place.write_volatile(second) };
    }

    /// Reads the first word, as the device left it.
    #[inline(always)]
    pub fn read_first(&self, index: u32) -> u64 {
        let place = self.place(index).cast::<u64>();
        // SAFETY: as in `write`.
        unsafe { place.read_volatile() }
    }

    /// Reads the second word, which tells whether the device has finished with the descriptor. Later reads
    /// see everything that the device wrote before it.
    #[inline(always)]
    pub fn read_second(&self, index: u32) -> u64 {
        let place = self.second(index);
        // SAFETY: as in `write`, and all accesses to it are of the whole word.
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
