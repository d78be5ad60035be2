//! [`IxgbeError`], [`Fault`]: what can go wrong.

use core::fmt;

use coppice_hardware::DeviceRefusal;

/// Something that the device is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// CTRL.RST clears itself.
    Reset,
    /// The device has read its EEPROM.
    Eeprom,
    /// It has initialised its DMA engine.
    DmaInit,
    /// The PHY takes an order.
    Phy,
    /// The receiver's path is empty.
    ReceivePath,
    /// A receive queue is enabled.
    ReceiveEnable,
    /// A receive queue is disabled.
    ReceiveDisable,
    /// A transmit queue is enabled.
    TransmitEnable,
    /// A transmit queue is disabled.
    TransmitDisable,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Eeprom => "reading the EEPROM",
            Self::DmaInit => "initialising DMA",
            Self::Phy => "telling the PHY to negotiate",
            Self::ReceivePath => "emptying the receive path",
            Self::ReceiveEnable => "enabling a receive queue",
            Self::ReceiveDisable => "disabling a receive queue",
            Self::TransmitEnable => "enabling a transmit queue",
            Self::TransmitDisable => "disabling a transmit queue",
        }
    }
}

/// The device does not do what it has to. Nothing that it says counts until it was reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Its registers read all ones: it is gone, or its bus is.
    Gone,
    /// It was waited for in vain.
    Stuck {
        /// For what.
        step: Step,
        /// Offset of the register that did not change as it should.
        register: u32,
        /// What it held.
        value: u32,
    },
    /// Frames are to be sent, the link is up, and none is for so long.
    TransmitHang {
        /// Which queue.
        queue: u16,
        /// For how long.
        for_ns: u64,
        /// Transmit descriptor head, as the device has it.
        head: u32,
        /// Transmit descriptor tail.
        tail: u32,
    },
    /// A received frame does not fit where it was put.
    WrongLength {
        /// Which queue.
        queue: u16,
        /// Which descriptor.
        index: u16,
        /// Bytes, as the descriptor says.
        bytes: u32,
        /// Most.
        most: u32,
        /// The descriptor's second word.
        word: u64,
    },
    /// A descriptor was written that the device had not been given.
    UnaskedDescriptor {
        /// Which queue.
        queue: u16,
        /// Which descriptor.
        index: u16,
        /// The descriptor's second word.
        word: u64,
    },
    /// A descriptor was left out: later ones are done, and it is not.
    SkippedDescriptor {
        /// Which queue.
        queue: u16,
        /// Which descriptor.
        index: u16,
    },
    /// The device says that it is at a descriptor that the ring does not have.
    WrongHead {
        /// Which queue.
        queue: u16,
        /// Offset of the register.
        register: u32,
        /// What it held.
        value: u32,
    },
    /// After a reset it is another device.
    Changed,
    /// It was reset for another queue's sake.
    WasReset,
}

impl Fault {
    /// Whether a reset is of no use. Then the device may still write to memory that it was given, and what it was given must
    /// not be used again before somebody else has stopped it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Gone | Self::Stuck { step: Step::Reset, .. } | Self::Changed)
    }

    /// Offset and content of a register, as far as one shows the fault.
    pub const fn register(self) -> (u32, u32) {
        match self {
            Self::Stuck { register, value, .. } | Self::WrongHead { register, value, .. } => {
                (register, value)
            }
            Self::TransmitHang { head, .. } => (0, head),
            Self::Gone => (crate::registers::STATUS as u32, u32::MAX),
            Self::WrongLength { word, .. } | Self::UnaskedDescriptor { word, .. } => (0, word as u32),
            Self::SkippedDescriptor { index, .. } => (0, index as u32),
            Self::Changed | Self::WasReset => (0, 0),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Gone => f.write_str("the device is gone: its registers read all ones"),
            Self::Stuck { step, register, value } => {
                let step = step.name();
                write!(f, "the device is stuck at {step}: register {register:#x} holds {value:#x}")
            }
            Self::TransmitHang { queue, for_ns, head, tail } => {
                let for_ms = for_ns / 1_000_000;
                write!(f, "queue {queue} has sent nothing for {for_ms} ms (TDH {head}, TDT {tail})")
            }
            Self::WrongLength { queue, index, bytes, most, word } if (1..=most).contains(&bytes) => write!(
                f,
                "queue {queue}: descriptor {index} goes on elsewhere after {bytes} of {most} bytes ({word:#018x})"
            ),
            Self::WrongLength { queue, index, bytes, most, word } => write!(
                f,
                "queue {queue}: descriptor {index} has {bytes} bytes where 1 to {most} fit ({word:#018x})"
            ),
            Self::UnaskedDescriptor { queue, index, word } => {
                write!(f, "queue {queue}: descriptor {index} was not the device's to write ({word:#018x})")
            }
            Self::SkippedDescriptor { queue, index } => {
                write!(f, "queue {queue}: descriptor {index} was left out")
            }
            Self::WrongHead { queue, register, value } => {
                write!(f, "queue {queue}: impossible head {value:#x} (register {register:#x})")
            }
            Self::Changed => f.write_str("after the reset it is another device"),
            Self::WasReset => f.write_str("the device was reset for another queue's sake"),
        }
    }
}

impl core::error::Error for Fault {}

/// Why a device or a queue cannot be had, or not be set up so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IxgbeError {
    /// The machine refuses something.
    Device(DeviceRefusal),
    /// The device does not do what it has to.
    Fault(Fault),
    /// No device that this driver knows.
    UnknownDevice {
        /// PCI vendor.
        vendor: u16,
        /// PCI device.
        device: u16,
    },
    /// The register window ends before a register that is needed.
    ShortWindow {
        /// Bytes that there are.
        bytes: usize,
        /// Bytes that there have to be.
        needed: usize,
    },
    /// The device has no address that a station can have, and was given none.
    NoAddress {
        /// What it has.
        mac: [u8; 6],
    },
    /// No station can have that address: it is a group's, or nobody's.
    Address {
        /// As asked for.
        mac: [u8; 6],
    },
    /// That address is no group's.
    Group {
        /// As asked for.
        mac: [u8; 6],
    },
    /// Frames cannot be that short or long.
    FrameBytes {
        /// As asked for, without FCS.
        bytes: u32,
        /// The least.
        least: u32,
        /// The most.
        most: u32,
    },
    /// A queue cannot be that deep.
    Depth {
        /// As asked for.
        depth: u32,
        /// The most.
        most: u32,
    },
    /// Buffers for receiving cannot be of that size: whole KiB, 1 to 16.
    PacketBytes {
        /// As asked for.
        bytes: u32,
    },
    /// All queues are open.
    NoQueue {
        /// How many there are.
        queues: u16,
    },
}

impl From<DeviceRefusal> for IxgbeError {
    fn from(refusal: DeviceRefusal) -> Self {
        if refusal == DeviceRefusal::Gone { Self::Fault(Fault::Gone) } else { Self::Device(refusal) }
    }
}

impl From<Fault> for IxgbeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for IxgbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Device(refusal) => refusal.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::UnknownDevice { vendor, device } => {
                write!(f, "{vendor:04x}:{device:04x} is no 82599, X540 or 82576")
            }
            Self::ShortWindow { bytes, needed } => {
                write!(f, "BAR0 has {bytes:#x} bytes; registers reach to {needed:#x}")
            }
            Self::NoAddress { mac } => write!(f, "the device's own address {mac:02x?} is none for a station"),
            Self::Address { mac } => write!(f, "{mac:02x?} is no address for a station"),
            Self::Group { mac } => write!(f, "{mac:02x?} is no group's address"),
            Self::FrameBytes { bytes, least, most } => {
                write!(f, "frames of {bytes} bytes: {least} to {most} are possible")
            }
            Self::Depth { depth, most } => write!(f, "a queue of {depth}: 1 to {most} are possible"),
            Self::PacketBytes { bytes } => {
                write!(f, "receive buffers of {bytes} bytes: 1024 to 16384 are possible, in steps of 1024")
            }
            Self::NoQueue { queues } => write!(f, "all {queues} queues are open"),
        }
    }
}

impl core::error::Error for IxgbeError {}
