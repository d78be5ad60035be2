//! Errors: of the controller ([`Fault`], [`NvmeError`]) and of a request to it ([`SubmitError`]).

use core::fmt;

use coppice_hardware::DeviceRefusal;

use crate::Status;

/// A state transition that the driver waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// CC.EN was set; CSTS.RDY is to follow.
    Enable,
    /// CC.EN was cleared; CSTS.RDY is to follow.
    Disable,
    /// CC.SHN was set; CSTS.SHST is to follow.
    Shutdown,
}

/// A violation of the specification by the controller. The driver ignores the controller until it has been
/// reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// All registers read as ones: the controller or its bus is gone.
    Gone,
    /// CSTS.CFS: Controller Fatal Status.
    Fatal {
        /// CSTS, as read.
        csts: u32,
    },
    /// A state transition exceeded its time limit.
    Stuck {
        /// The transition.
        transition: Transition,
        /// CSTS, as last read.
        csts: u32,
    },
    /// A completion with an identifier that is not in flight: unknown, or already completed.
    UnknownCommand {
        /// Queue identifier; 0 is the admin queue.
        queue: u16,
        /// The identifier in the completion.
        command_id: u16,
    },
    /// A completion in this queue names another submission queue.
    WrongQueue {
        /// Queue identifier.
        queue: u16,
        /// The submission queue named in the completion.
        reported: u16,
    },
    /// A completion's head pointer is beyond the submitted commands, or before the completed one.
    WrongHead {
        /// Queue identifier.
        queue: u16,
        /// The head pointer in the completion.
        head: u16,
        /// The queue's tail.
        tail: u16,
    },
    /// A command did not complete in time, and Abort did not end it.
    CommandLost {
        /// Queue identifier; 0 is the admin queue.
        queue: u16,
        /// The command identifier.
        command_id: u16,
    },
    /// After a reset the controller is a different one, or its namespace has another size or format.
    Changed {
        /// The namespace; 0 for the controller.
        namespace: u32,
    },
    /// The controller was reset on behalf of another queue; this queue has to return its commands.
    WasReset,
}

impl Fault {
    /// Returns true if a reset does not help. The device may then still write to memory that it was given,
    /// which must not be reused before the kernel has stopped the device.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Gone | Self::Stuck { .. } | Self::Changed { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Gone => f.write_str("the controller is gone: its registers read as all ones"),
            Self::Fatal { csts } => write!(f, "controller fatal status (CSTS {csts:#x})"),
            Self::Stuck { transition, csts } => {
                write!(f, "the controller is stuck in a transition: {transition:?} (CSTS {csts:#x})")
            }
            Self::UnknownCommand { queue, command_id } => {
                write!(f, "queue {queue}: completion of command {command_id:#06x}, which is not in flight")
            }
            Self::WrongQueue { queue, reported } => {
                write!(f, "queue {queue}: completion of a command of queue {reported}")
            }
            Self::WrongHead { queue, head, tail } => {
                write!(f, "queue {queue}: impossible submission queue head {head}, tail {tail}")
            }
            Self::CommandLost { queue, command_id } => {
                write!(f, "queue {queue}: command {command_id:#06x} is not reported")
            }
            Self::Changed { namespace: 0 } => {
                f.write_str("the controller is a different one after the reset")
            }
            Self::Changed { namespace } => {
                write!(f, "namespace {namespace} is a different one after the reset")
            }
            Self::WasReset => f.write_str("the controller was reset on behalf of another queue"),
        }
    }
}

impl core::error::Error for Fault {}

/// The reason why a controller or a queue cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NvmeError {
    /// The machine refused a resource.
    Device(DeviceRefusal),
    /// The controller violated the specification.
    Fault(Fault),
    /// The register window ends before a required register.
    ShortWindow {
        /// The size of the window in bytes.
        bytes: usize,
        /// The required size in bytes.
        needed: usize,
    },
    /// The controller does not support pages of 4 KiB.
    PageSize {
        /// Its smallest page size, in bytes.
        smallest: u64,
    },
    /// The controller does not support the NVM command set.
    NoCommandSet {
        /// CAP.CSS.
        command_sets: u8,
    },
    /// The controller is not an I/O controller.
    NotIoController {
        /// CNTRLTYPE.
        controller_type: u8,
    },
    /// The controller does not support queue entries of 64 and 16 bytes.
    EntrySizes {
        /// SQES.
        submission: u8,
        /// CQES.
        completion: u8,
    },
    /// All I/O queues are in use.
    NoQueue {
        /// The number of I/O queues.
        queues: u16,
    },
    /// The controller does not support a queue of this depth.
    Depth {
        /// The requested depth.
        depth: u32,
    },
    /// An admin command failed.
    Admin {
        /// The opcode of the command.
        opcode: u8,
        /// The status of its completion.
        status: Status,
    },
}

impl From<DeviceRefusal> for NvmeError {
    fn from(refusal: DeviceRefusal) -> Self {
        if refusal == DeviceRefusal::Gone { Self::Fault(Fault::Gone) } else { Self::Device(refusal) }
    }
}

impl From<Fault> for NvmeError {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl fmt::Display for NvmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Device(refusal) => refusal.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::ShortWindow { bytes, needed } => {
                write!(f, "BAR0 has {bytes:#x} bytes; the registers need {needed:#x}")
            }
            Self::PageSize { smallest } => {
                write!(f, "the controller's smallest page is {smallest} bytes, not 4096")
            }
            Self::NoCommandSet { command_sets } => {
                write!(f, "no NVM command set (CAP.CSS {command_sets:#x})")
            }
            Self::NotIoController { controller_type } => {
                write!(f, "not an I/O controller (CNTRLTYPE {controller_type})")
            }
            Self::EntrySizes { submission, completion } => {
                write!(f, "unsupported queue entry sizes (SQES {submission:#x}, CQES {completion:#x})")
            }
            Self::NoQueue { queues } => write!(f, "all {queues} I/O queues are in use"),
            Self::Depth { depth } => write!(f, "a queue depth of {depth} is not supported"),
            Self::Admin { opcode, status } => write!(f, "admin command {opcode:#04x}: {status}"),
        }
    }
}

impl core::error::Error for NvmeError {}

/// The reason why a command was not submitted. The controller has not seen the command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubmitError {
    /// The queue is full.
    QueueFull {
        /// The queue's depth.
        depth: u16,
    },
    /// The command addresses no blocks.
    NoBlocks,
    /// The blocks exceed the namespace.
    LbaOutOfRange {
        /// The first block.
        lba: u64,
        /// The number of blocks.
        blocks: u32,
        /// The namespace's size in blocks.
        capacity: u64,
    },
    /// The command exceeds the largest possible size.
    TooLarge {
        /// The requested number of blocks.
        blocks: u32,
        /// The largest number of blocks.
        limit: u32,
    },
    /// The operation needs a buffer, and none was passed.
    NoBuffer,
    /// The buffer ends before the data does.
    ShortBuffer {
        /// The size of the buffer in bytes.
        bytes: usize,
        /// The required size in bytes, from the start of the buffer.
        needed: usize,
    },
    /// The data is not aligned to 4 bytes (Base 4.1.1).
    Misaligned {
        /// The device address of the data.
        address: u64,
    },
    /// The controller does not support the operation.
    NotSupported,
    /// The queue is faulty and waits for [`crate::IoQueue::reset`].
    Faulted(Fault),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::QueueFull { depth } => write!(f, "the queue is full with {depth} commands in flight"),
            Self::NoBlocks => f.write_str("no blocks"),
            Self::LbaOutOfRange { lba, blocks, capacity } => {
                write!(f, "{blocks} blocks at {lba} exceed the capacity of {capacity} blocks")
            }
            Self::TooLarge { blocks, limit } => {
                write!(f, "{blocks} blocks exceed the limit of {limit} per command")
            }
            Self::NoBuffer => f.write_str("no buffer"),
            Self::ShortBuffer { bytes, needed } => {
                write!(f, "the buffer has {bytes} bytes, the data needs {needed}")
            }
            Self::Misaligned { address } => write!(f, "the buffer at {address:#x} is not aligned to 4 bytes"),
            Self::NotSupported => f.write_str("the controller does not support the operation"),
            Self::Faulted(fault) => write!(f, "the queue waits for a reset: {fault}"),
        }
    }
}

impl core::error::Error for SubmitError {}

/// A command that was not submitted, with its buffer.
#[derive(Debug)]
pub struct Refused<B> {
    /// The reason.
    pub error: SubmitError,
    /// The buffer that the caller passed.
    pub buffer: Option<B>,
}
