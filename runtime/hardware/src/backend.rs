//! [`Backend`]: the implementation of a device for a driver.

use core::ptr::NonNull;

use coppice_abi::{DeviceInfo, DeviceRefusal, StopStep};

/// The width of a register access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterWidth {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

impl RegisterWidth {
    /// Returns the width in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }
}

/// A driver's access to the registers of a BAR.
#[derive(Debug)]
pub enum RegisterWindow {
    /// By loads and stores.
    Mapped(MappedWindow),
    /// By [`Backend::read`] and [`Backend::write`].
    Called {
        /// Size of the BAR in bytes.
        len: usize,
    },
}

/// A mapped register window.
///
/// # Invariants
/// - **H1** `base..base + len` is mapped, uncached, for as long as the backend that returned it exists, and
///   an access there touches only the device. `base` is aligned to a page.
#[derive(Debug)]
pub struct MappedWindow {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: registers belong to no thread.
unsafe impl Send for MappedWindow {}
// SAFETY: each access is one load or store.
unsafe impl Sync for MappedWindow {}

impl MappedWindow {
    /// Makes a window at `base`.
    ///
    /// # Safety
    /// H1.
    pub const unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self { base, len }
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// Memory that a device and its driver share.
///
/// # Invariants
/// - **H2** Only the owner of the region and the device touch `memory..memory + len`, for as long as the
///   backend that returned it exists, and the device address of its first byte is `address`. The memory is
///   aligned to a page and zeroed.
#[derive(Debug)]
pub struct Region {
    pub(crate) memory: NonNull<u8>,
    pub(crate) address: u64,
    pub(crate) len: usize,
}

// SAFETY: it owns its memory.
unsafe impl Send for Region {}
// SAFETY: a shared region only gives out addresses, whose accesses are single loads and stores.
unsafe impl Sync for Region {}

impl Region {
    /// Makes a region of `len` bytes at `memory`.
    ///
    /// # Safety
    /// H2.
    pub const unsafe fn new(memory: NonNull<u8>, address: u64, len: usize) -> Self {
        Self { memory, address, len }
    }
}

/// The implementation of one device: the kernel's services in a domain, a device model in a driver's tests.
///
/// Drivers use a [`crate::Device`] instead.
pub trait Backend: Send + Sync {
    /// Returns the ids, BAR sizes and vectors of the device.
    fn info(&self) -> DeviceInfo;

    /// Returns the registers of a BAR.
    ///
    /// # Errors
    /// When the device has no such memory BAR, or it cannot be mapped.
    fn window(&self, bar: u8) -> Result<RegisterWindow, DeviceRefusal>;

    /// Reads a register of a window that is [`RegisterWindow::Called`]; `offset` lies in it.
    fn read(&self, bar: u8, offset: usize, width: RegisterWidth) -> u64;

    /// Writes a register of such a window.
    fn write(&self, bar: u8, offset: usize, width: RegisterWidth, value: u64);

    /// Returns `pages` adjacent pages of 4 KiB.
    ///
    /// # Errors
    /// When no such memory is left.
    fn region(&self, pages: usize) -> Result<Region, DeviceRefusal>;

    /// Lets the device reach memory and send messages. `stop` is the sequence that ends its DMA.
    ///
    /// # Errors
    /// When a step of `stop` does not access a register of the device, or the device has not finished earlier
    /// DMA.
    fn enable_dma(&self, stop: &[StopStep]) -> Result<(), DeviceRefusal>;

    /// Starts to count the interrupt messages of `vector`.
    ///
    /// # Errors
    /// When the device has no such vector.
    fn open_interrupt(&self, vector: u16) -> Result<(), DeviceRefusal>;

    /// Waits until the message count of `vector` differs from `seen`, or until the deadline, and returns the
    /// count. The count wraps.
    fn await_interrupt(&self, vector: u16, seen: u32, deadline_ns: u64) -> u32;

    /// Masks or unmasks the messages of an open vector. Messages sent while it is masked may be counted after
    /// it is unmasked, or not at all. A backend that cannot mask does nothing.
    fn mask_interrupt(&self, vector: u16, masked: bool) {
        let _ = (vector, masked);
    }

    /// Returns the monotonic time in nanoseconds since an arbitrary origin.
    fn now_ns(&self) -> u64;

    /// Blocks until the clock passes `deadline_ns`.
    fn sleep_until(&self, deadline_ns: u64);
}
