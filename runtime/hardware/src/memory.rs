//! [`DmaMemory`]: memory that a driver shares with its device.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering, fence};

use coppice_rref::AnyBits;
use spin::Mutex;

use crate::{Backend, DeviceRefusal, DmaAddr, DmaBuffer, DmaRange, DmaSpace, Region};

const PAGE: usize = 4096;

/// The idle DMA memory of one device.
///
/// Regions are not returned while the driver runs: the device may still hold their addresses.
pub(crate) struct Pool {
    backend: Arc<dyn Backend>,
    space: DmaSpace,
    idle: Mutex<Vec<Region>>,
}

impl Pool {
    pub(crate) const fn new(backend: Arc<dyn Backend>) -> Self {
        Self { backend, space: DmaSpace::new(), idle: Mutex::new(Vec::new()) }
    }

    pub(crate) const fn space(&self) -> &DmaSpace {
        &self.space
    }

    /// Returns a zeroed region of at least `bytes`: the smallest idle one that fits, else a new one.
    pub(crate) fn take(pool: &Arc<Self>, bytes: usize) -> Result<DmaMemory, DeviceRefusal> {
        let pages = bytes.div_ceil(PAGE).max(1);
        let idle = {
            let mut idle = pool.idle.lock();
            let fits = idle.iter().enumerate().filter(|(_, region)| region.len >= pages * PAGE);
            let best = fits.min_by_key(|(_, region)| region.len).map(|(index, _)| index);
            best.map(|index| idle.swap_remove(index))
        };
        let memory = |region| DmaMemory { region: Some(region), pool: pool.clone() };
        match idle {
            Some(region) => {
                let mut memory = memory(region);
                memory.clear();
                Ok(memory)
            }
            None => pool.backend.region(pages).map(memory),
        }
    }
}

/// Whole pages, zeroed at first, adjacent for the device too. The device may change them at any time, so no
/// references lead into them: values are copied in and out.
///
/// Offsets are in bytes and aligned to the access; an offset outside the memory is a defect of the driver and
/// panics.
pub struct DmaMemory {
    /// `None` only during drop.
    region: Option<Region>,
    pool: Arc<Pool>,
}

impl DmaMemory {
    fn region(&self) -> &Region {
        self.region.as_ref().expect("taken only by drop")
    }

    /// Returns the size in bytes.
    #[allow(clippy::len_without_is_empty, reason = "it has at least one page")]
    pub fn len(&self) -> usize {
        self.region().len
    }

    /// Returns the first byte's address, which is fixed until the memory is dropped.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.region().memory
    }

    /// Returns the device address of the byte at `offset`.
    #[inline]
    pub fn addr(&self, offset: usize) -> DmaAddr {
        self.range().addr(offset)
    }

    /// Returns the address space of the device that reaches this memory.
    #[inline]
    pub fn dma_space(&self) -> &DmaSpace {
        self.pool.space()
    }

    #[inline]
    fn range(&self) -> DmaRange {
        let region = self.region();
        DmaRange::new(region.address, region.len)
    }

    /// Reads the value at `offset`, as the device left it.
    #[inline]
    pub fn read<T: AnyBits + Copy>(&self, offset: usize) -> T {
        let place = self.place::<T>(offset);
        // SAFETY: H2: in the region and aligned, as `place` checked; any bytes are a `T`.
        unsafe { place.read_volatile() }
    }

    /// Writes `value` at `offset`.
    #[inline]
    pub fn write<T: AnyBits + Copy>(&mut self, offset: usize, value: T) {
        let place = self.place::<T>(offset);
        // SAFETY: as in `read`.
        unsafe { place.write_volatile(value) };
    }

    /// Reads the word at `offset`. Later reads see everything that the device wrote before it wrote that
    /// word.
    #[inline]
    pub fn read_flag(&self, offset: usize) -> u32 {
        let place = self.place::<u32>(offset);
        // SAFETY: H2: in the region, aligned, and all accesses to it are of the whole word.
        unsafe { AtomicU32::from_ptr(place) }.load(Ordering::Acquire)
    }

    /// Copies `bytes` to `offset`.
    pub fn write_bytes(&mut self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len(), 1);
        // SAFETY: H2: in the region, as checked.
        let place = unsafe { self.region().memory.as_ptr().add(offset) };
        // SAFETY: as above, and no reference leads into the region.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        fence(Ordering::Release);
    }

    /// Copies from `offset` to `bytes`.
    pub fn read_bytes(&self, offset: usize, bytes: &mut [u8]) {
        self.check(offset, bytes.len(), 1);
        fence(Ordering::Acquire);
        // SAFETY: H2: in the region, as checked.
        let place = unsafe { self.region().memory.as_ptr().add(offset) };
        // SAFETY: as above, and no reference leads into the region.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(place, bytes.len()) };
    }

    /// Fills the memory with zeroes.
    pub fn clear(&mut self) {
        let region = self.region();
        // SAFETY: H2: the whole region.
        unsafe { region.memory.as_ptr().write_bytes(0, region.len) };
        fence(Ordering::Release);
    }

    #[inline(always)]
    fn place<T>(&self, offset: usize) -> *mut T {
        self.check(offset, size_of::<T>(), align_of::<T>());
        // SAFETY: H2: in the region, as checked.
        unsafe { self.region().memory.as_ptr().add(offset) }.cast()
    }

    #[inline(always)]
    fn check(&self, offset: usize, len: usize, align: usize) {
        let have = self.len();
        assert!(
            len <= have && offset <= have - len && offset.is_multiple_of(align),
            "{len} bytes at {offset:#x} of {have:#x} bytes of DMA memory"
        );
    }
}

// SAFETY: H2: the region is this value's, and is plain bytes.
unsafe impl DmaBuffer for DmaMemory {
    #[inline]
    fn dma_range(&self, _: &DmaSpace) -> DmaRange {
        self.range()
    }
}

impl Drop for DmaMemory {
    fn drop(&mut self) {
        self.pool.idle.lock().extend(self.region.take());
    }
}

impl fmt::Debug for DmaMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x} bytes of DMA memory at {:#x}", self.region().len, self.region().address)
    }
}
