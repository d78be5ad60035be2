//! [`Registers`]: the memory-mapped registers of one BAR.

use alloc::sync::Arc;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use crate::{Backend, DeviceRefusal, RegisterWidth, RegisterWindow};

/// A register window. Every access reaches the device, once, in program order.
///
/// A device that is gone reads as all ones. Offsets are in bytes, aligned to the access, and inside the
/// window: anything else is a defect of the driver and panics.
pub struct Registers {
    backend: Arc<dyn Backend>,
    bar: u8,
    /// `None` if each access is a call of the backend.
    memory: Option<NonNull<u8>>,
    len: usize,
}

// SAFETY: H1: registers belong to no thread.
unsafe impl Send for Registers {}
// SAFETY: each access is one load or store.
unsafe impl Sync for Registers {}

impl Registers {
    pub(crate) fn new(backend: Arc<dyn Backend>, bar: u8) -> Result<Self, DeviceRefusal> {
        let (memory, len) = match backend.window(bar)? {
            RegisterWindow::Mapped(window) => (Some(window.base()), window.len()),
            RegisterWindow::Called { len } => (None, len),
        };
        Ok(Self { backend, bar, memory, len })
    }

    /// Returns the size of the window in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a BAR without registers does not exist")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reads 32 bits.
    #[inline]
    pub fn read32(&self, offset: usize) -> u32 {
        match self.place::<u32>(offset, RegisterWidth::Bits32) {
            // SAFETY: H1, and the window has a register of that width there, as `place` checked.
            Some(place) => unsafe { place.read_volatile() },
            None => self.backend.read(self.bar, offset, RegisterWidth::Bits32) as u32,
        }
    }

    /// Writes 32 bits. A device that reads memory because of this write sees all earlier writes to memory.
    #[inline]
    pub fn write32(&self, offset: usize, value: u32) {
        match self.place::<u32>(offset, RegisterWidth::Bits32) {
            Some(place) => {
                settle();
                // SAFETY: as in `read32`.
                unsafe { place.write_volatile(value) };
            }
            None => self.backend.write(self.bar, offset, RegisterWidth::Bits32, value.into()),
        }
    }

    /// Reads 64 bits.
    #[inline]
    pub fn read64(&self, offset: usize) -> u64 {
        match self.place::<u64>(offset, RegisterWidth::Bits64) {
            // SAFETY: as in `read32`.
            Some(place) => unsafe { place.read_volatile() },
            None => self.backend.read(self.bar, offset, RegisterWidth::Bits64),
        }
    }

    /// Writes 64 bits, ordered like [`Self::write32`].
    #[inline]
    pub fn write64(&self, offset: usize, value: u64) {
        match self.place::<u64>(offset, RegisterWidth::Bits64) {
            Some(place) => {
                settle();
                // SAFETY: as in `read32`.
                unsafe { place.write_volatile(value) };
            }
            None => self.backend.write(self.bar, offset, RegisterWidth::Bits64, value),
        }
    }

    /// Returns the address of the register at `offset` if the window is mapped.
    #[inline(always)]
    fn place<T>(&self, offset: usize, width: RegisterWidth) -> Option<NonNull<T>> {
        let bytes = width.bytes();
        if !offset.is_multiple_of(bytes) || self.len < bytes || offset > self.len - bytes {
            self.outside(offset, bytes);
        }
        // SAFETY: H1: inside the window, as checked.
        self.memory.map(|base| unsafe { base.add(offset) }.cast())
    }

    #[cold]
    fn outside(&self, offset: usize, bytes: usize) -> ! {
        panic!(
            "no register of {bytes} bytes at {offset:#x} of BAR{}, which has {:#x} bytes",
            self.bar, self.len
        );
    }
}

/// Keeps earlier writes to memory before a register write. x86 keeps stores in order, also those to uncached
/// memory, so this only constrains the compiler.
#[inline(always)]
fn settle() {
    fence(Ordering::Release);
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BAR{} ({:#x} bytes)", self.bar, self.len)
    }
}
