//! [`Registers`]: the memory-mapped registers of one BAR.

use alloc::sync::Arc;
use core::fmt;
use core::ptr::NonNull;

use crate::{Backend, DeviceRefusal, RegisterWidth, RegisterWindow};

/// A register window. Every access reaches the device, once, in the order of the program.
///
/// A device that is gone answers all ones. Offsets are in bytes, aligned to the access, and inside the window: anything else is
/// a mistake in the driver and panics.
pub struct Registers {
    backend: Arc<dyn Backend>,
    bar: u8,
    /// `None` if each access is a call.
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

    /// Bytes in the window.
    #[allow(clippy::len_without_is_empty, reason = "a BAR without registers does not exist")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Reads 32 bits.
    #[inline]
    pub fn read32(&self, offset: usize) -> u32 {
        self.check(offset, RegisterWidth::Bits32);
        match self.memory {
            // SAFETY: H1, and the offset is in the window and aligned, as checked.
            Some(base) => unsafe { base.add(offset).cast::<u32>().read_volatile() },
            None => self.backend.read(self.bar, offset, RegisterWidth::Bits32) as u32,
        }
    }

    /// Writes 32 bits. What was written to memory before is seen by a device that reads memory because of this.
    #[inline]
    pub fn write32(&self, offset: usize, value: u32) {
        self.check(offset, RegisterWidth::Bits32);
        match self.memory {
            Some(base) => {
                // x86 keeps stores in order, also those to uncached memory; only the compiler has to be told.
                core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
                // SAFETY: as in `read32`.
                unsafe { base.add(offset).cast::<u32>().write_volatile(value) };
            }
            None => self.backend.write(self.bar, offset, RegisterWidth::Bits32, value.into()),
        }
    }

    /// Reads 64 bits.
    #[inline]
    pub fn read64(&self, offset: usize) -> u64 {
        self.check(offset, RegisterWidth::Bits64);
        match self.memory {
            // SAFETY: as in `read32`.
            Some(base) => unsafe { base.add(offset).cast::<u64>().read_volatile() },
            None => self.backend.read(self.bar, offset, RegisterWidth::Bits64),
        }
    }

    /// Writes 64 bits; as [`Self::write32`].
    #[inline]
    pub fn write64(&self, offset: usize, value: u64) {
        self.check(offset, RegisterWidth::Bits64);
        match self.memory {
            Some(base) => {
                core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
                // SAFETY: as in `read32`.
                unsafe { base.add(offset).cast::<u64>().write_volatile(value) };
            }
            None => self.backend.write(self.bar, offset, RegisterWidth::Bits64, value),
        }
    }

    #[inline(always)]
    fn check(&self, offset: usize, width: RegisterWidth) {
        let bytes = width.bytes();
        if offset % bytes != 0 || self.len < bytes || offset > self.len - bytes {
            self.outside(offset, bytes);
        }
    }

    #[cold]
    fn outside(&self, offset: usize, bytes: usize) -> ! {
        panic!(
            "no register of {bytes} bytes at {offset:#x} of BAR{}, which has {:#x} bytes",
            self.bar, self.len
        );
    }
}

impl fmt::Debug for Registers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BAR{} ({:#x} bytes)", self.bar, self.len)
    }
}
