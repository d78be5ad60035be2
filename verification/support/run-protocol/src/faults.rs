//! The words of the option `fault`, by which the host selects the faults of a trial.

/// All faults in turn.
pub const ALL: &str = "all";
/// No fault.
pub const NONE: &str = "none";
/// A kill by the kernel.
pub const KILL: &str = "Kill";
/// The kinds of fault, as the trial spells them (interfaces/testing/src/fault.rs).
pub const NAMES: [&str; 29] = [
    "Panic",
    "PanicWhilePanicking",
    "PanicInDrop",
    "PanicInThread",
    "Abort",
    "OutOfBounds",
    "Overflow",
    "DivideByZero",
    "DivideError",
    "InvalidOpcode",
    "GeneralProtection",
    "ReadOfNull",
    "WriteToCode",
    "JumpIntoData",
    "Misaligned",
    "Breakpoint",
    "Recursion",
    "HugeFrame",
    "PrivateHeap",
    "SharedHeap",
    "InfiniteLoop",
    "LockNeverReleased",
    "EndlessWait",
    "PanicWithoutStack",
    "PanicWithoutMemory",
    "PanicAtTheEndOfTheStack",
    "DebugTrap",
    "FloatingPoint",
    "SpinAtTheEndOfTheStack",
];

/// Returns the spelling of a word of the option; `None` if there is no such word. Case does not matter.
pub fn named(word: &str) -> Option<&'static str> {
    [ALL, NONE, KILL].into_iter().chain(NAMES).find(|name| name.eq_ignore_ascii_case(word))
}
