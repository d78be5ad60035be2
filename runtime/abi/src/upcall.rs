//! [`Upcall`]: what the kernel tells a domain without being asked.
//!
//! The kernel calls the entry that an image names in [`crate::EntryArguments`], on a thread of its own and as a
//! crossing into the domain. So a domain that crashes in it ends like from any other call, and one that does not come
//! back holds up nobody; what that leads to is the kernel's business (docs/decisions/013-supervision.md).

use crate::CrashKind;

/// One such message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub enum Upcall {
    /// A child crashes too often.
    ChildFailing(ChildFailing),
    /// The domain has more than its share.
    Revoke(Revocation),
}

/// A child that has died more often in a row than its manifest allows; it stays dead until its parent has answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ChildFailing {
    /// Its name in the manifest.
    pub name: &'static str,
    /// What it died of this time.
    pub kind: CrashKind,
    /// How often it has died in a row.
    pub crashes: u32,
}

/// A demand to give something up, which the kernel looks after again at its deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Revocation {
    /// Of what, and how much.
    pub excess: Excess,
    /// When the domain is ended if it still has more than it is allowed, in nanoseconds since boot.
    pub deadline_ns: u64,
}

/// What somebody has too much of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub enum Excess {
    /// Shared objects that it owns, in bytes, headers included. Others may have made and moved them.
    SharedHeap {
        /// What it owns.
        owned: u64,
        /// What it may own.
        allowed: u64,
    },
    /// CPU time, in percent of one CPU.
    Cpu {
        /// What it has used lately.
        used: u64,
        /// What it may use.
        allowed: u64,
    },
}

/// What a parent wants done about a child that keeps crashing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// It is restarted, after pauses that become longer.
    Retry,
    /// It stays dead. Who calls it hears an error at once.
    GiveUp,
    /// The trouble is not the child's alone: the parent is ended, and with it all of its children; its own policy says
    /// what comes then.
    Escalate,
}

/// Where the kernel calls an image. The message is read during the call only.
pub type UpcallEntry = unsafe extern "C" fn(upcall: *const Upcall) -> Verdict;
