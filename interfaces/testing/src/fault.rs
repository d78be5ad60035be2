//! [`Fault`]: the ways in which a domain can fail.

use coppice_interfaces::{CrashKind, Text};
use coppice_rref::{Flat, Shareable};

/// A fault that a test domain can raise in itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Fault {
    /// A panic.
    Panic,
    /// A panic whose message panics while it is formatted.
    PanicWhilePanicking,
    /// A panic in a value's destructor.
    PanicInDrop,
    /// A panic in a thread that the domain spawned; the call itself waits for its end.
    PanicInThread,
    /// The domain ends itself without a panic.
    Abort,
    /// An index out of bounds.
    OutOfBounds,
    /// An arithmetic overflow.
    Overflow,
    /// A division by zero that the compiler's check detects.
    DivideByZero,
    /// A division by zero that the CPU detects: #DE.
    DivideError,
    /// An instruction that does not exist: #UD.
    InvalidOpcode,
    /// An access to a non-canonical address: #GP.
    GeneralProtection,
    /// A read of page 0: #PF.
    ReadOfNull,
    /// A write to the image's own code: #PF.
    WriteToCode,
    /// A jump into data: #PF.
    JumpIntoData,
    /// A misaligned access while alignment checks are on: #AC.
    Misaligned,
    /// A breakpoint without a debugger: #BP.
    Breakpoint,
    /// Endless recursion.
    Recursion,
    /// One stack frame that is larger than the stack.
    HugeFrame,
    /// Allocation of more private heap than the quota allows.
    PrivateHeap,
    /// Allocation of more shared heap than the quota allows.
    SharedHeap,
    /// An infinite loop without a call to the kernel or to another domain.
    InfiniteLoop,
    /// A lock that one thread takes twice.
    LockNeverReleased,
    /// A wait for an event that never happens.
    EndlessWait,
    /// A panic whose message needs more stack than is left.
    PanicWithoutStack,
    /// A panic whose message needs more private heap than is left.
    PanicWithoutMemory,
    /// A panic with too little stack left to report it to the kernel.
    PanicAtTheEndOfTheStack,
    /// A single-step trap: #DB.
    DebugTrap,
    /// A floating-point division by zero, with that exception unmasked: #MF.
    FloatingPoint,
    /// An infinite loop with too little stack left for an interrupt to divert the thread.
    SpinAtTheEndOfTheStack,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 29] = [
        Self::Panic,
        Self::PanicWhilePanicking,
        Self::PanicInDrop,
        Self::PanicInThread,
        Self::Abort,
        Self::OutOfBounds,
        Self::Overflow,
        Self::DivideByZero,
        Self::DivideError,
        Self::InvalidOpcode,
        Self::GeneralProtection,
        Self::ReadOfNull,
        Self::WriteToCode,
        Self::JumpIntoData,
        Self::Misaligned,
        Self::Breakpoint,
        Self::Recursion,
        Self::HugeFrame,
        Self::PrivateHeap,
        Self::SharedHeap,
        Self::InfiniteLoop,
        Self::LockNeverReleased,
        Self::EndlessWait,
        Self::PanicWithoutStack,
        Self::PanicWithoutMemory,
        Self::PanicAtTheEndOfTheStack,
        Self::DebugTrap,
        Self::FloatingPoint,
        Self::SpinAtTheEndOfTheStack,
    ];

    /// The fault with that name, as [`Debug`] spells it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *Text::<32>::format(format_args!("{fault:?}")) == *name)
    }

    /// The crash kinds of which the caller gets one.
    pub const fn kinds(self) -> &'static [CrashKind] {
        match self {
            Self::Panic
            | Self::PanicWhilePanicking
            | Self::PanicInDrop
            | Self::PanicInThread
            | Self::OutOfBounds
            | Self::Overflow
            | Self::DivideByZero => &[CrashKind::Panic],
            Self::Abort => &[CrashKind::Abort],
            Self::DivideError
            | Self::InvalidOpcode
            | Self::GeneralProtection
            | Self::ReadOfNull
            | Self::WriteToCode
            | Self::JumpIntoData
            | Self::Misaligned
            | Self::Breakpoint
            | Self::DebugTrap
            | Self::FloatingPoint => &[CrashKind::Exception],
            // The next interrupt finds a spinning thread that has no stack for being diverted.
            Self::Recursion
            | Self::HugeFrame
            | Self::PanicWithoutStack
            | Self::PanicAtTheEndOfTheStack
            | Self::SpinAtTheEndOfTheStack => &[CrashKind::StackOverflow],
            // The allocator ends the domain, unless the kernel revokes a part of its quota first.
            Self::PrivateHeap | Self::SharedHeap | Self::PanicWithoutMemory => {
                &[CrashKind::OutOfMemory, CrashKind::OverQuota]
            }
            Self::InfiniteLoop | Self::LockNeverReleased | Self::EndlessWait => &[CrashKind::Deadline],
        }
    }

    /// Returns true for a fault that only a deadline ends.
    pub const fn is_hang(self) -> bool {
        matches!(self, Self::InfiniteLoop | Self::LockNeverReleased | Self::EndlessWait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_found_by_its_name() {
        assert_eq!(Fault::named("SpinAtTheEndOfTheStack"), Some(Fault::SpinAtTheEndOfTheStack));
        assert!(Fault::ALL.into_iter().all(|fault| Fault::named(&std::format!("{fault:?}")) == Some(fault)));
        assert_eq!(Fault::named("panic"), None);
    }
}
