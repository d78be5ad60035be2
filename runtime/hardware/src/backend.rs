//! [`Backend`]: what a device is to whoever hands it to a driver.

use core::ptr::NonNull;

use coppice_abi::{DeviceInfo, DeviceRefusal, StopStep};

/// How wide an access to a register is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegisterWidth {
    /// 32 bits.
    Bits32,
    /// 64 bits.
    Bits64,
}

impl RegisterWidth {
    /// In bytes.
    pub const fn bytes(self) -> usize {
        match self {
            Self::Bits32 => 4,
            Self::Bits64 => 8,
        }
    }
}

/// Where a driver reaches the registers of a BAR.
#[derive(Debug)]
pub enum RegisterWindow {
    /// By plain loads and stores.
    Mapped(MappedWindow),
    /// By [`Backend::read`] and [`Backend::write`].
    Called {
        /// Bytes.
        len: usize,
    },
}

/// A mapped register window.
///
/// # Invariants
/// - **H1** `base..base + len` is mapped, uncached, for as long as the backend lives that gave it, and an access there touches
///   nothing but the device. `base` is aligned to a page.
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
    /// A window at `base`.
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
/// - **H2** `memory..memory + len` is memory that nobody else touches but the device, for as long as the backend lives that gave
///   it, and the device calls its first byte `address`. It is aligned to a page and zeroed.
#[derive(Debug)]
pub struct Region {
    pub(crate) memory: NonNull<u8>,
    pub(crate) address: u64,
    pub(crate) len: usize,
}

// SAFETY: it owns its memory.
unsafe impl Send for Region {}
// SAFETY: a shared region gives its places only, whose accesses are single loads and stores.
unsafe impl Sync for Region {}

impl Region {
    /// A region of `len` bytes at `memory`.
    ///
    /// # Safety
    /// H2.
    pub const unsafe fn new(memory: NonNull<u8>, address: u64, len: usize) -> Self {
        Self { memory, address, len }
    }
}

/// A device, to whoever stands between it and its driver.
///
/// Not for drivers, which have a [`crate::Device`].
pub trait Backend: Send + Sync {
    /// What the device says that it is.
    fn info(&self) -> DeviceInfo;

    /// The registers of a BAR.
    ///
    /// # Errors
    /// When there is no such memory BAR, or it cannot be mapped.
    fn window(&self, bar: u8) -> Result<RegisterWindow, DeviceRefusal>;

    /// Reads a register of a window that is [`RegisterWindow::Called`]; `offset` lies in it.
    fn read(&self, bar: u8, offset: usize, width: RegisterWidth) -> u64;

    /// Writes a register of such a window.
    fn write(&self, bar: u8, offset: usize, width: RegisterWidth, value: u64);

    /// `pages` adjacent pages of 4 KiB.
    ///
    /// # Errors
    /// When there are none.
    fn region(&self, pages: usize) -> Result<Region, DeviceRefusal>;

    /// Lets the device reach memory and send messages. `stop` is what makes it leave memory alone again.
    ///
    /// # Errors
    /// When a step of `stop` is no access to a register of the device.
    fn enable_dma(&self, stop: &[StopStep]) -> Result<(), DeviceRefusal>;

    /// Has interrupt messages of that number counted.
    ///
    /// # Errors
    /// When there is no such vector.
    fn open_interrupt(&self, vector: u16) -> Result<(), DeviceRefusal>;

    /// Waits until that many messages of `vector` have been counted that it is no longer `seen`, or the deadline, and answers
    /// how many there are. The count wraps.
    fn await_interrupt(&self, vector: u16, seen: u32, deadline_ns: u64) -> u32;

    /// Says whether messages of an open vector are wanted. What is sent meanwhile may be counted when they are wanted again,
    /// or not at all. A backend that can't mask does nothing.
    fn mask_interrupt(&self, vector: u16, masked: bool) {
        let _ = (vector, masked);
    }

    /// Nanoseconds since some moment.
    fn now_ns(&self) -> u64;

    /// Blocks until the clock passes `deadline_ns`.
    fn sleep_until(&self, deadline_ns: u64);
}
