//! What can go wrong: with the controller ([`Fault`], [`NvmeError`]), and with what was asked ([`SubmitError`]).

use core::fmt;

use coppice_hardware::DeviceRefusal;

use crate::Status;

/// A change of state that the controller is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// CC.EN was set; CSTS.RDY is to follow.
    Enable,
    /// CC.EN was cleared; CSTS.RDY is to follow.
    Disable,
    /// CC.SHN was set; CSTS.SHST is to follow.
    Shutdown,
}

/// The controller broke the rules. Nothing that it says counts until it was reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// Its registers read all ones: it is gone, or its bus is.
    Gone,
    /// CSTS.CFS: Controller Fatal Status.
    Fatal {
        /// CSTS, as read.
        csts: u32,
    },
    /// A change of state took longer than it may.
    Stuck {
        /// Which.
        transition: Transition,
        /// CSTS, as last read.
        csts: u32,
    },
    /// A completion names no command in flight: unknown, or completed before.
    UnknownCommand {
        /// Queue identifier; 0 is the admin queue.
        queue: u16,
        /// As in the completion.
        command_id: u16,
    },
    /// A completion in this queue says that its command came from another.
    WrongQueue {
        /// Queue identifier.
        queue: u16,
        /// As in the completion.
        answered: u16,
    },
    /// A completion says that the controller has fetched what was not submitted, or not fetched what it completes.
    WrongHead {
        /// Queue identifier.
        queue: u16,
        /// As in the completion.
        head: u16,
        /// Where the queue's tail is.
        tail: u16,
    },
    /// A command was not answered in time, and Abort did not end it.
    CommandLost {
        /// Queue identifier; 0 is the admin queue.
        queue: u16,
        /// Which.
        command_id: u16,
    },
    /// After a reset it is another controller, or its namespace has another size or format.
    Changed {
        /// Which namespace; 0 for the controller.
        namespace: u32,
    },
    /// It was reset for another queue's sake; this queue's commands are to be handed back.
    WasReset,
}

impl Fault {
    /// Whether a reset may help. If not, the device may still write to memory that it was given, and what it was given must
    /// not be used again before somebody else has stopped it.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Gone | Self::Stuck { .. } | Self::Changed { .. })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Gone => f.write_str("the controller is gone: its registers read all ones"),
            Self::Fatal { csts } => write!(f, "controller fatal status (CSTS {csts:#x})"),
            Self::Stuck { transition, csts } => {
                write!(f, "the controller does not follow: {transition:?} (CSTS {csts:#x})")
            }
            Self::UnknownCommand { queue, command_id } => {
                write!(f, "queue {queue}: completion of command {command_id:#06x}, which is not in flight")
            }
            Self::WrongQueue { queue, answered } => {
                write!(f, "queue {queue}: completion of a command of queue {answered}")
            }
            Self::WrongHead { queue, head, tail } => {
                write!(f, "queue {queue}: impossible submission queue head {head}, tail {tail}")
            }
            Self::CommandLost { queue, command_id } => {
                write!(f, "queue {queue}: command {command_id:#06x} is not answered")
            }
            Self::Changed { namespace: 0 } => f.write_str("after the reset it is another controller"),
            Self::Changed { namespace } => write!(f, "after the reset namespace {namespace} is another"),
            Self::WasReset => f.write_str("the controller was reset for another queue's sake"),
        }
    }
}

impl core::error::Error for Fault {}

/// Why a controller or a queue cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NvmeError {
    /// The machine refuses something.
    Device(DeviceRefusal),
    /// The controller broke the rules.
    Fault(Fault),
    /// The register window ends before a register that is needed.
    ShortWindow {
        /// Bytes that there are.
        bytes: usize,
        /// Bytes that there have to be.
        needed: usize,
    },
    /// The controller cannot work with pages of 4 KiB.
    PageSize {
        /// The smallest that it can, in bytes.
        smallest: u64,
    },
    /// The controller does not have the NVM command set.
    NoCommandSet {
        /// CAP.CSS.
        command_sets: u8,
    },
    /// It is not an I/O controller.
    NotIoController {
        /// CNTRLTYPE.
        controller_type: u8,
    },
    /// Queue entries have other sizes than 64 and 16 bytes.
    EntrySizes {
        /// SQES.
        submission: u8,
        /// CQES.
        completion: u8,
    },
    /// The controller has no I/O queue left.
    NoQueue {
        /// How many it has.
        queues: u16,
    },
    /// A queue of that depth cannot be.
    Depth {
        /// As asked for.
        depth: u32,
    },
    /// An admin command failed.
    Admin {
        /// Its opcode.
        opcode: u8,
        /// How.
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
                write!(f, "BAR0 has {bytes:#x} bytes; registers reach to {needed:#x}")
            }
            Self::PageSize { smallest } => {
                write!(f, "the controller's smallest page is {smallest} bytes, not 4096")
            }
            Self::NoCommandSet { command_sets } => {
                write!(f, "no NVM command set (CAP.CSS {command_sets:#x})")
            }
            Self::NotIoController { controller_type } => {
                write!(f, "no I/O controller (CNTRLTYPE {controller_type})")
            }
            Self::EntrySizes { submission, completion } => {
                write!(f, "queue entries of other sizes (SQES {submission:#x}, CQES {completion:#x})")
            }
            Self::NoQueue { queues } => write!(f, "all {queues} I/O queues are in use"),
            Self::Depth { depth } => write!(f, "no queue can be {depth} deep"),
            Self::Admin { opcode, status } => write!(f, "admin command {opcode:#04x}: {status}"),
        }
    }
}

impl core::error::Error for NvmeError {}

/// Why a command was not submitted. Nothing has reached the controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubmitError {
    /// As many are in flight as can be.
    QueueFull {
        /// How many.
        depth: u16,
    },
    /// No blocks at all.
    NoBlocks,
    /// Blocks beyond the end.
    LbaOutOfRange {
        /// The first.
        lba: u64,
        /// How many.
        blocks: u32,
        /// How many the namespace has.
        capacity: u64,
    },
    /// More than one command can do.
    TooLarge {
        /// As asked for.
        blocks: u32,
        /// Most.
        limit: u32,
    },
    /// The operation needs memory and got none.
    NoBuffer,
    /// The memory ends before the data does.
    ShortBuffer {
        /// Bytes, with what lies before the data.
        bytes: usize,
        /// Bytes that there have to be.
        needed: usize,
    },
    /// Memory has to be aligned to 4 bytes (Base 4.1.1).
    Misaligned {
        /// As devices see it.
        address: u64,
    },
    /// The controller does not have that operation.
    NotSupported,
    /// The queue is at fault and waits for [`crate::IoQueue::reset`].
    Faulted(Fault),
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::QueueFull { depth } => write!(f, "{depth} commands are in flight, as many as can be"),
            Self::NoBlocks => f.write_str("no blocks"),
            Self::LbaOutOfRange { lba, blocks, capacity } => {
                write!(f, "{blocks} blocks at {lba}, where {capacity} are all")
            }
            Self::TooLarge { blocks, limit } => write!(f, "{blocks} blocks; a command can have {limit}"),
            Self::NoBuffer => f.write_str("no buffer"),
            Self::ShortBuffer { bytes, needed } => write!(f, "a buffer of {bytes} bytes for {needed}"),
            Self::Misaligned { address } => write!(f, "the buffer at {address:#x} is not aligned to 4 bytes"),
            Self::NotSupported => f.write_str("the controller does not have that operation"),
            Self::Faulted(fault) => write!(f, "the queue waits for a reset: {fault}"),
        }
    }
}

impl core::error::Error for SubmitError {}

/// A command that was not submitted, with its buffer.
#[derive(Debug)]
pub struct Refused<B> {
    /// Why.
    pub error: SubmitError,
    /// As it was handed in.
    pub buffer: Option<B>,
}
