//! Descriptions of devices, and the steps that stop their DMA.
//!
//! A domain names a device by its index in the `devices` of its own manifest entry, so it can only name its
//! own.

/// Maximum number of devices that one domain is granted.
pub const DEVICE_LIMIT: usize = 16;

/// Maximum number of base address registers of a PCI function.
pub const BAR_LIMIT: usize = 6;

/// A PCI function that was granted to a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DeviceInfo {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Base class, subclass and programming interface, in bits 23 to 0.
    pub class: u32,
    /// Revision id.
    pub revision: u8,
    /// PCI address: segment in bits 31 to 16, bus in 15 to 8, device in 7 to 3, function in 2 to 0.
    pub address: u32,
    /// Bytes of each memory BAR; 0 for an absent one and for the upper half of a 64-bit one.
    pub bars: [u64; BAR_LIMIT],
    /// Number of distinct interrupt messages that the function can send.
    pub vectors: u16,
}

/// The reason why a driver's request for its device was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceRefusal {
    /// The manifest grants the domain no device of that index.
    NotGranted {
        /// The requested index.
        device: u32,
    },
    /// The device has no memory BAR of that number.
    NoBar {
        /// The requested BAR.
        bar: u8,
    },
    /// The BAR cannot be mapped: it overlaps memory, or no page tables are left for it.
    NotMapped {
        /// The requested BAR.
        bar: u8,
    },
    /// The device has fewer interrupt vectors, or the machine has none left.
    NoVector {
        /// The requested vector.
        vector: u16,
    },
    /// No contiguous memory of that size is left in the domain's quota or in the machine.
    NoMemory {
        /// The requested size.
        bytes: usize,
    },
    /// A step of a stop sequence accesses something other than a register of the device.
    BadStep {
        /// Its index in the sequence.
        step: usize,
    },
    /// The device has not been seen to finish the DMA of an earlier driver instance, so it may not reach
    /// memory yet. The driver may try again.
    NotQuiesced,
    /// The device is gone.
    Gone,
}

impl core::fmt::Display for DeviceRefusal {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match *self {
            Self::NotGranted { device } => write!(f, "the manifest grants no device {device}"),
            Self::NoBar { bar } => write!(f, "the device has no memory BAR{bar}"),
            Self::NotMapped { bar } => write!(f, "BAR{bar} cannot be mapped"),
            Self::NoVector { vector } => write!(f, "there is no interrupt vector {vector}"),
            Self::NoMemory { bytes } => write!(f, "there are no {bytes} adjacent bytes for DMA"),
            Self::BadStep { step } => {
                write!(f, "step {step} of the stop sequence is outside the device's registers")
            }
            Self::NotQuiesced => f.write_str("the device has not finished the DMA of an earlier driver"),
            Self::Gone => f.write_str("the device is gone"),
        }
    }
}

impl core::error::Error for DeviceRefusal {}

/// A register window.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its first byte, or null if each access is a call of [`crate::Services::device_read`] or
    /// [`crate::Services::device_write`].
    memory: *mut u8,
    /// Its size in bytes.
    len: usize,
}

impl Window {
    /// Makes a window whose registers are accessed by calls.
    pub const fn called(len: usize) -> Self {
        Self { memory: core::ptr::null_mut(), len }
    }

    /// Makes a window of `len` bytes at `memory`, or one whose registers are accessed by calls if that is
    /// null.
    ///
    /// # Safety
    /// The bytes are mapped, uncached, until the domain that the window is for has ended, and an access there
    /// touches only the device.
    pub const unsafe fn mapped(memory: *mut u8, len: usize) -> Self {
        Self { memory, len }
    }

    /// Its first byte, or null if each access is a call.
    pub const fn memory(self) -> *mut u8 {
        self.memory
    }

    /// Its size in bytes.
    #[allow(clippy::len_without_is_empty, reason = "a BAR without registers does not exist")]
    pub const fn len(self) -> usize {
        self.len
    }
}

/// Memory for DMA.
#[derive(Clone, Copy, Debug)]
pub struct DmaBlock {
    /// Its first byte, aligned to a page.
    memory: *mut u8,
    /// The device address of that byte.
    address: u64,
}

impl DmaBlock {
    /// Describes memory for DMA.
    ///
    /// # Safety
    /// The memory is zeroed, aligned to a page, and the domain's that the block is for. `address` is its
    /// device address.
    pub const unsafe fn new(memory: *mut u8, address: u64) -> Self {
        Self { memory, address }
    }

    /// Its first byte.
    pub const fn memory(self) -> *mut u8 {
        self.memory
    }

    /// The device address of that byte.
    pub const fn address(self) -> u64 {
        self.address
    }
}

/// Maximum number of steps in a stop sequence.
pub const STOP_LIMIT: usize = 8;

/// One step of the sequence that stops a device's DMA. Each step is a 32-bit access to registers of the
/// device itself.
///
/// A driver gives the sequence to the kernel before its device may do DMA: the kernel knows no device, and
/// runs the steps after the driver has died.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopStep {
    /// Reads the register, clears and sets bits, and writes it back.
    Update {
        /// BAR of the register.
        bar: u8,
        /// Offset in the BAR, in bytes.
        offset: u32,
        /// Bits to clear.
        clear: u32,
        /// Bits to set.
        set: u32,
    },
    /// Waits until the bits in `mask` equal `value`.
    Await {
        /// BAR of the register.
        bar: u8,
        /// Offset in the BAR, in bytes.
        offset: u32,
        /// The bits to compare.
        mask: u32,
        /// Their expected value.
        value: u32,
        /// Time limit of this step.
        timeout_ns: u64,
    },
}
