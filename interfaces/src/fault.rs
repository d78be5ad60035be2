//! [`Fault`]: the ways in which a domain can go wrong.

use coppice_abi::CrashKind;
use coppice_rref::{Flat, Shareable};

use crate::Text;

/// What a [`crate::Subject`] does to itself when it is told to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub enum Fault {
    /// A panic.
    Panic,
    /// A panic whose message panics while it is being made.
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
    /// A division by zero that the compiler's check finds.
    DivideByZero,
    /// A division by zero that the CPU finds: #DE.
    DivideError,
    /// An instruction that does not exist: #UD.
    InvalidOpcode,
    /// An access to an address that no address is: #GP.
    GeneralProtection,
    /// A read of page 0: #PF.
    ReadOfNull,
    /// A write to the image's own code: #PF.
    WriteToCode,
    /// A jump into data: #PF.
    JumpIntoData,
    /// An access that is not aligned while the CPU checks that: #AC.
    Misaligned,
    /// A breakpoint that no debugger waits for: #BP.
    Breakpoint,
    /// Recursion without an end.
    Recursion,
    /// One frame that is larger than the stack.
    HugeFrame,
    /// More private heap than the quota allows.
    PrivateHeap,
    /// More shared heap than the quota allows.
    SharedHeap,
    /// A loop without an end that never calls anybody.
    InfiniteLoop,
    /// A lock that is taken twice by one thread.
    LockNeverReleased,
    /// A wait for something that nobody does.
    EndlessWait,
    /// A panic whose message takes more stack than there is.
    PanicWithoutStack,
    /// A panic whose message takes more private heap than there is.
    PanicWithoutMemory,
    /// A panic with so little stack left that the kernel cannot be told.
    PanicAtTheEndOfTheStack,
    /// A trap after a single instruction, as a debugger would set it: #DB.
    DebugTrap,
    /// A floating-point division by zero, with that exception unmasked: #MF.
    FloatingPoint,
    /// A loop without an end, with too little stack left for an interrupt to end it in the usual way.
    SpinAtTheEndOfTheStack,
}

impl Fault {
    /// All of them.
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

    /// The fault that is called so, as [`Debug`] spells it.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| *Text::<32>::format(format_args!("{fault:?}")) == *name)
    }

    /// What its caller is told then: one of these.
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
            // A spinning thread without stack for the interrupt's detour is found by the next interrupt.
            Self::Recursion
            | Self::HugeFrame
            | Self::PanicWithoutStack
            | Self::PanicAtTheEndOfTheStack
            | Self::SpinAtTheEndOfTheStack => &[CrashKind::StackOverflow],
            // The allocator gives up, unless somebody asked for something back before.
            Self::PrivateHeap | Self::SharedHeap | Self::PanicWithoutMemory => {
                &[CrashKind::OutOfMemory, CrashKind::OverQuota]
            }
            Self::InfiniteLoop | Self::LockNeverReleased | Self::EndlessWait => &[CrashKind::Deadline],
        }
    }

    /// Whether only a deadline ends it.
    pub const fn is_a_hang(self) -> bool {
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
