//! Devices, as kernel and images speak of them: what a device is, and how it is stopped.
//!
//! A domain names a device by its place in the manifest's `devices` of that domain, so it can speak of its own only.

/// Most devices that one domain is granted.
pub const DEVICE_LIMIT: usize = 16;

/// Most base address registers that a PCI function has.
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
    /// Where it is: segment in bits 31 to 16, bus in 15 to 8, device in 7 to 3, function in 2 to 0.
    pub address: u32,
    /// Bytes of each memory BAR; 0 where there is none, and for the upper half of a 64-bit one.
    pub bars: [u64; BAR_LIMIT],
    /// How many interrupt messages it can send apart from each other.
    pub vectors: u16,
}

/// Why something was refused that a driver asked for its device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceRefusal {
    /// The manifest grants the domain no device of that number.
    NotGranted {
        /// As asked for.
        device: u32,
    },
    /// The device has no memory BAR of that number.
    NoBar {
        /// As asked for.
        bar: u8,
    },
    /// The BAR cannot be mapped: it lies in memory, or no tables are left for it.
    NotMapped {
        /// As asked for.
        bar: u8,
    },
    /// The device has fewer interrupt vectors, or the machine has none left.
    NoVector {
        /// As asked for.
        vector: u16,
    },
    /// No memory is left, in one piece, by the domain's quota or the machine's.
    NoMemory {
        /// As asked for.
        bytes: usize,
    },
    /// A step of a stop order touches what is no register of the device.
    BadStep {
        /// Its place in the order.
        step: usize,
    },
    /// It was not seen to finish what an earlier driver had begun, so it may not reach memory yet. It may be asked again.
    Restless,
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
                write!(f, "step {step} of the stop order is outside the device's registers")
            }
            Self::Restless => f.write_str("the device has not finished yet what an earlier driver began"),
            Self::Gone => f.write_str("the device is gone"),
        }
    }
}

impl core::error::Error for DeviceRefusal {}

/// Where a register window is.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its first byte, or null if each access is a call of [`crate::Services::device_read`] or its twin.
    pub memory: *mut u8,
    /// Bytes.
    pub len: usize,
}

/// Memory for DMA.
#[derive(Clone, Copy, Debug)]
pub struct DmaBlock {
    /// Its first byte, at the start of a page.
    pub memory: *mut u8,
    /// What the device calls that byte.
    pub address: u64,
}

/// Most steps in a stop order.
pub const STOP_LIMIT: usize = 8;

/// One step of what makes a device leave memory alone. All are accesses of 32 bits to registers of the device itself.
///
/// A driver gives them to the kernel before its device may do DMA, because the kernel takes them when the driver is dead
/// and knows no device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StopStep {
    /// Reads the register, clears and sets bits, writes it.
    Update {
        /// BAR of the register.
        bar: u8,
        /// Offset in it.
        offset: u32,
        /// Bits to clear.
        clear: u32,
        /// Bits to set.
        set: u32,
    },
    /// Waits until the bits of `mask` are those of `value`.
    Await {
        /// BAR of the register.
        bar: u8,
        /// Offset in it.
        offset: u32,
        /// Which bits are looked at.
        mask: u32,
        /// What they are to be.
        value: u32,
        /// How long that may take.
        timeout_ns: u64,
    },
}
