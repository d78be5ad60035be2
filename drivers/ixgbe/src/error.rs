//! [`IxgbeError`] and [`Fault`]: errors of the driver.

use core::fmt;

use coppice_hardware::DeviceRefusal;

/// A step of the device that the driver waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// CTRL.RST clears itself.
    Reset,
    /// The device reads its EEPROM.
    Eeprom,
    /// The device initialises its DMA engine.
    DmaInit,
    /// The PHY accepts a command.
    Phy,
    /// The receive path drains.
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
            Self::Phy => "commanding the PHY to negotiate",
            Self::ReceivePath => "emptying the receive path",
            Self::ReceiveEnable => "enabling a receive queue",
            Self::ReceiveDisable => "disabling a receive queue",
            Self::TransmitEnable => "enabling a transmit queue",
            Self::TransmitDisable => "disabling a transmit queue",
        }
    }
}

/// A violation of the datasheet by the device. The driver ignores the device until it has been reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// All registers read as ones: the device or its bus is gone.
    Gone,
    /// A step exceeded its time limit.
    Stuck {
        /// The step.
        step: Step,
        /// The offset of the register that was polled.
        register: u32,
        /// The content of the register.
        value: u32,
    },
    /// Frames are pending, the link is up, and none has been sent for too long.
    TransmitHang {
        /// The queue.
        queue: u16,
        /// The time without a sent frame.
        for_ns: u64,
        /// Transmit descriptor head.
        head: u32,
        /// Transmit descriptor tail.
        tail: u32,
    },
    /// A received frame has an impossible length.
    WrongLength {
        /// The queue.
        queue: u16,
        /// The index of the descriptor.
        index: u16,
        /// The length in the descriptor, in bytes.
        bytes: u32,
        /// The largest possible length.
        most: u32,
        /// The descriptor's second word.
        word: u64,
    },
    /// The device wrote a descriptor that it had not been given.
    UnexpectedDescriptor {
        /// The queue.
        queue: u16,
        /// The index of the descriptor.
        index: u16,
        /// The descriptor's second word.
        word: u64,
    },
    /// The device skipped a descriptor: later ones are done, and this one is not.
    SkippedDescriptor {
        /// The queue.
        queue: u16,
        /// The index of the descriptor.
        index: u16,
    },
    /// The head register is not an index of the ring.
    WrongHead {
        /// The queue.
        queue: u16,
        /// The offset of the register.
        register: u32,
        /// The content of the register.
        value: u32,
    },
    /// After a reset the device is a different one.
    Changed,
    /// The device was reset on behalf of another queue.
    WasReset,
}

impl Fault {
    /// Returns true if a reset does not help. The device may then still write to memory that it was given,
    /// which must not be reused before the kernel has stopped the device.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Gone | Self::Stuck { step: Step::Reset, .. } | Self::Changed)
    }

    /// Returns the offset and content of the register that shows the fault, or zero and a related value.
    pub const fn register(self) -> (u32, u32) {
        match self {
            Self::Stuck { register, value, .. } | Self::WrongHead { register, value, .. } => {
                (register, value)
            }
            Self::TransmitHang { head, .. } => (0, head),
            Self::Gone => (crate::registers::STATUS as u32, u32::MAX),
            Self::WrongLength { word, .. } | Self::UnexpectedDescriptor { word, .. } => (0, word as u32),
            Self::SkippedDescriptor { index, .. } => (0, index as u32),
            Self::Changed | Self::WasReset => (0, 0),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Gone => f.write_str("the device is gone: its registers read as all ones"),
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
                "queue {queue}: descriptor {index} continues in the next packet after {bytes} of {most} bytes ({word:#018x})"
            ),
            Self::WrongLength { queue, index, bytes, most, word } => write!(
                f,
                "queue {queue}: descriptor {index} has {bytes} bytes where 1 to {most} fit ({word:#018x})"
            ),
            Self::UnexpectedDescriptor { queue, index, word } => {
                write!(
                    f,
                    "queue {queue}: descriptor {index} was written without having been given to the device ({word:#018x})"
                )
            }
            Self::SkippedDescriptor { queue, index } => {
                write!(f, "queue {queue}: descriptor {index} was skipped")
            }
            Self::WrongHead { queue, register, value } => {
                write!(f, "queue {queue}: impossible head {value:#x} (register {register:#x})")
            }
            Self::Changed => f.write_str("the device is a different one after the reset"),
            Self::WasReset => f.write_str("the device was reset on behalf of another queue"),
        }
    }
}

impl core::error::Error for Fault {}

/// The reason why a device or a queue cannot be opened or configured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IxgbeError {
    /// The machine refused a resource.
    Device(DeviceRefusal),
    /// The device violated the datasheet.
    Fault(Fault),
    /// The driver does not know the device.
    UnknownDevice {
        /// PCI vendor.
        vendor: u16,
        /// PCI device.
        device: u16,
    },
    /// The register window ends before a required register.
    ShortWindow {
        /// The size of the window in bytes.
        bytes: usize,
        /// The required size in bytes.
        needed: usize,
    },
    /// The device has no valid unicast address.
    NoAddress {
        /// Its address.
        mac: [u8; 6],
    },
    /// The address is not a unicast address, or is zero.
    Address {
        /// The requested address.
        mac: [u8; 6],
    },
    /// The address is not a multicast address.
    Group {
        /// The requested address.
        mac: [u8; 6],
    },
    /// The frame length is out of range.
    FrameBytes {
        /// The requested length in bytes, without FCS.
        bytes: u32,
        /// The smallest length.
        least: u32,
        /// The largest length.
        most: u32,
    },
    /// The queue depth is out of range.
    Depth {
        /// The requested depth.
        depth: u32,
        /// The largest depth.
        most: u32,
    },
    /// The size of receive packets is not a whole number of KiB from 1 to 16.
    PacketBytes {
        /// The requested size in bytes.
        bytes: u32,
    },
    /// All queues are open.
    NoQueue {
        /// The number of queues.
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
                write!(f, "{vendor:04x}:{device:04x} is not an 82599, X540 or 82576")
            }
            Self::ShortWindow { bytes, needed } => {
                write!(f, "BAR0 has {bytes:#x} bytes; the registers need {needed:#x}")
            }
            Self::NoAddress { mac } => write!(f, "the device has no valid unicast address: {mac:02x?}"),
            Self::Address { mac } => write!(f, "{mac:02x?} is not a unicast address"),
            Self::Group { mac } => write!(f, "{mac:02x?} is not a multicast address"),
            Self::FrameBytes { bytes, least, most } => {
                write!(f, "frames of {bytes} bytes are not supported: {least} to {most} are")
            }
            Self::Depth { depth, most } => {
                write!(f, "a queue depth of {depth} is not supported: 1 to {most} are")
            }
            Self::PacketBytes { bytes } => {
                write!(
                    f,
                    "receive packets of {bytes} bytes are not supported: 1024 to 16384 are, in steps of 1024"
                )
            }
            Self::NoQueue { queues } => write!(f, "all {queues} queues are open"),
        }
    }
}

impl core::error::Error for IxgbeError {}
