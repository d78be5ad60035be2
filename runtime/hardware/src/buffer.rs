//! [`DmaAddr`], [`DmaSpace`] and [`DmaBuffer`]: device addresses, and the memory that has them.

use core::fmt;
use core::sync::atomic::{AtomicUsize, Ordering};

use coppice_rref::{AnyBits, Buffer, Lent, RRef};

/// A device address. Only live memory that a device may reach has one, so descriptors take nothing else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct DmaAddr(u64);

impl DmaAddr {
    /// Makes an address of memory that is live and held by the driver.
    pub(crate) const fn new(address: u64) -> Self {
        Self(address)
    }

    /// Returns the address as a descriptor holds it.
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

    /// Returns the length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns true if the range has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the address of the byte at `offset`.
    ///
    /// # Panics
    /// When `offset` is not inside the range.
    #[inline]
    pub fn addr(&self, offset: usize) -> DmaAddr {
        assert!(offset < self.len, "byte {offset} of a DMA range of {} bytes", self.len);
        DmaAddr::new(self.address + offset as u64)
    }

    /// Returns the range of the first `len` bytes; `None` if there are fewer.
    pub const fn first(&self, len: usize) -> Option<Self> {
        if len <= self.len { Some(Self { address: self.address, len }) } else { None }
    }
}

/// The device address space of one device: a buffer's address is requested for it.
///
/// All devices have the same addresses today: an address is physical, and a space holds nothing. With an
/// IOMMU each device has its own addresses; then the space maps the buffer, and its callers do not change.
#[derive(Debug)]
pub struct DmaSpace {
    _private: (),
}

impl DmaSpace {
    pub(crate) const fn new() -> Self {
        Self { _private: () }
    }
}

/// A buffer that a device may read and write for as long as the driver holds it.
///
/// # Safety
/// The range lies in memory that belongs to the value, does not move with it, and is not freed or read as
/// anything but plain bytes before the value is dropped. Any bytes that the device leaves there are a valid
/// content of that memory.
pub unsafe trait DmaBuffer: Send {
    /// Returns the addresses of the buffer in `space`, that of the device which will access it.
    fn dma_range(&self, space: &DmaSpace) -> DmaRange;
}

/// Subtracted from an address of this program to get its device address.
static PHYSICAL_OFFSET: AtomicUsize = AtomicUsize::new(0);

/// Sets the number that is subtracted from an address of this program to get its device address. One number
/// serves for all shared objects, because all memory is mapped in one piece.
///
/// # Safety
/// The number is correct for all memory that shared objects lie in, until this is called again.
pub unsafe fn set_physical_offset(offset: usize) {
    PHYSICAL_OFFSET.store(offset, Ordering::Relaxed);
}

/// Returns the addresses in the device's space of adjacent bytes of the shared heap.
#[inline]
fn shared_range(_: &DmaSpace, address: usize, len: usize) -> DmaRange {
    DmaRange::new((address - PHYSICAL_OFFSET.load(Ordering::Relaxed)) as u64, len)
}

// SAFETY: the bytes behind the head lie in the object, which does not move and is freed when its last
// reference is dropped. Their number is the one in the header, which neither side of a domain boundary can
// write. They may have any values (`AnyBits`).
unsafe impl<H: AnyBits> DmaBuffer for RRef<Buffer<H>> {
    #[inline]
    fn dma_range(&self, space: &DmaSpace) -> DmaRange {
        shared_range(space, self.bytes_address(), self.capacity())
    }
}

// SAFETY: as above. While this half of the loan exists, the holder of the other half neither frees nor reads
// the object.
unsafe impl<H: AnyBits> DmaBuffer for Lent<Buffer<H>> {
    #[inline]
    fn dma_range(&self, space: &DmaSpace) -> DmaRange {
        shared_range(space, self.bytes_address(), self.capacity())
    }
}
