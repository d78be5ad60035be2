//! The types that a machine hands to [`crate::trap`]: interrupted registers, the source of an interrupt, a
//! CPU exception.

use core::fmt;

use coppice_abi::CrashKind;

use crate::platform::backtrace::Backtrace;

/// The registers of an interrupted CPU that a handler may read and change. The machine resumes all others
/// unchanged.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TrapFrame {
    /// The next instruction.
    pub rip: u64,
    /// The stack pointer.
    pub rsp: u64,
    /// The frame pointer, where backtraces start.
    pub rbp: u64,
    /// The first argument register, so that a diverted frame can carry an argument.
    pub rdi: u64,
    /// The end address of a stack probe, for backtraces.
    pub r11: u64,
}

/// The source of an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The deadline of [`crate::machine::Machine::set_timer`] has passed.
    Timer,
    /// Another CPU called [`crate::machine::Machine::send_ipi`].
    Ipi,
    /// A byte was typed.
    Console,
    /// A device sent the message of that number ([`crate::pci::PciFunction::open_vector`]).
    Device(u8),
}

/// A CPU exception that code raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// #DE.
    Divide,
    /// #UD, and `ud2` in particular.
    InvalidOpcode,
    /// #GP.
    GeneralProtection,
    /// #PF.
    Page {
        /// The address that the code accessed.
        address: usize,
    },
    /// #AC.
    Alignment,
    /// Another exception, by its x86 vector.
    Other {
        /// The x86 exception vector.
        vector: u8,
    },
}

impl Fault {
    /// The exception of that x86 vector; `address` is the accessed address of a #PF. (Intel SDM volume 3,
    /// table 6-1.)
    pub fn of_vector(vector: u8, address: usize) -> Self {
        match vector {
            0 => Self::Divide,
            6 => Self::InvalidOpcode,
            13 => Self::GeneralProtection,
            14 => Self::Page { address },
            17 => Self::Alignment,
            vector => Self::Other { vector },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Divide => f.write_str("#DE, a division that has no result,"),
            Self::InvalidOpcode => f.write_str("#UD, an invalid instruction,"),
            Self::GeneralProtection => f.write_str("#GP"),
            Self::Page { address } => write!(f, "#PF on address {address:#x}"),
            Self::Alignment => f.write_str("#AC, a misaligned access,"),
            Self::Other { vector: 1 } => f.write_str("#DB"),
            Self::Other { vector: 3 } => f.write_str("#BP, a breakpoint,"),
            Self::Other { vector: 16 } => f.write_str("#MF, an x87 exception,"),
            Self::Other { vector: 19 } => f.write_str("#XM, an SSE exception,"),
            Self::Other { vector } => write!(f, "exception {vector}"),
        }
    }
}

/// A domain's exception, between the trap and the crash path.
#[derive(Clone, Copy)]
pub(crate) struct PendingFault {
    pub(crate) fault: Fault,
    pub(crate) rip: usize,
    pub(crate) kind: CrashKind,
    pub(crate) backtrace: Backtrace,
}
