//! [`DmaAddr`] and [`DmaBuffer`]: what a descriptor may hold, and what has one.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use coppice_rref::{AnyBits, Buffer, Lent, RRef};

/// What a device calls a byte of memory. Only live memory that a device may reach has one, so descriptors take nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct DmaAddr(u64);

impl DmaAddr {
    /// An address for memory that lives and that the driver holds.
    pub(crate) const fn new(address: u64) -> Self {
        Self(address)
    }

    /// As a descriptor holds it.
    pub const fn to_bits(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for DmaAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Adjacent bytes that a device may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DmaRange {
    address: u64,
    len: usize,
}

impl DmaRange {
    pub(crate) const fn new(address: u64, len: usize) -> Self {
        Self { address, len }
    }

    /// Bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The address of the byte at `offset`.
    ///
    /// # Panics
    /// When the range ends before it.
    #[inline]
    pub fn addr(&self, offset: usize) -> DmaAddr {
        assert!(offset < self.len, "byte {offset} of a DMA range of {} bytes", self.len);
        DmaAddr::new(self.address + offset as u64)
    }

    /// The first `len` bytes; `None` if there are fewer.
    pub const fn first(&self, len: usize) -> Option<Self> {
        if len <= self.len { Some(Self { address: self.address, len }) } else { None }
    }
}

/// A buffer that a device may read and write for as long as the driver holds it.
///
/// # Safety
/// The range lies in memory that belongs to the value, does not move with it, and is not freed or read as anything but plain
/// bytes before the value is dropped. Whatever bytes the device leaves there are a value of what lies there.
pub unsafe trait DmaBuffer: Send {
    /// Where it is.
    fn dma_range(&self) -> DmaRange;
}

/// What to take from an address of this program to get what devices call it.
static PHYSICAL_OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Says what to take from an address of this program to get what devices call it. Of a shared object that is all there is to
/// it, because all memory is mapped in one piece.
///
/// # Safety
/// It is true, for all memory that shared objects lie in, until this is called again.
pub unsafe fn set_physical_offset(offset: usize) {
    PHYSICAL_OFFSET.store(offset, Ordering::Relaxed);
}

/// Adjacent bytes of the shared heap, as devices see them.
#[inline]
fn shared_range(address: usize, len: usize) -> DmaRange {
    DmaRange::new((address - PHYSICAL_OFFSET.load(Ordering::Relaxed)) as u64, len)
}

// SAFETY: the bytes behind the head lie in the object, whose place does not change and which is freed when its last reference is
// dropped; as many as the header says, which neither side of a domain boundary can write. They may be any (`AnyBits`).
unsafe impl<H: AnyBits> DmaBuffer for RRef<Buffer<H>> {
    #[inline]
    fn dma_range(&self) -> DmaRange {
        shared_range(self.bytes_address(), self.capacity())
    }
}

// SAFETY: as above. While this half of the loan lives, the object is neither freed nor read by whoever has the other.
unsafe impl<H: AnyBits> DmaBuffer for Lent<Buffer<H>> {
    #[inline]
    fn dma_range(&self) -> DmaRange {
        shared_range(self.bytes_address(), self.capacity())
    }
}
