//! [`Upcall`]: unsolicited messages of the kernel to a domain.
//!
//! The kernel calls the entry that an image names in [`crate::EntryArguments`], on a kernel thread and as a
//! crossing into the domain. So a domain that crashes in it ends as from any other call, and one that does
//! not return blocks no other domain; the kernel decides what follows (docs/decisions/013-supervision.md).

use crate::CrashKind;

/// A message of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub enum Upcall {
    /// A child crashes too often.
    ChildFailing(ChildFailing),
    /// The domain exceeds its quota.
    Revoke(Revocation),
}

/// A child that has crashed more often in a row than its manifest allows. It is not restarted until its
/// parent has returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct ChildFailing {
    /// Its name in the manifest.
    pub name: &'static str,
    /// The cause of the last crash.
    pub kind: CrashKind,
    /// Number of crashes in a row.
    pub crashes: u32,
}

/// A demand to release resources. The kernel checks at the deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Revocation {
    /// The resource and the amounts.
    pub excess: Excess,
    /// The time at which the domain is ended if it still exceeds its quota, in nanoseconds since boot.
    pub deadline_ns: u64,
}

/// A resource of which a domain has more than it is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub enum Excess {
    /// Shared objects that the domain owns, in bytes, headers included. Other domains may have made and moved
    /// them.
    SharedHeap {
        /// Bytes that it owns.
        owned: u64,
        /// Bytes that it may own.
        allowed: u64,
    },
    /// CPU time, in percent of one CPU.
    Cpu {
        /// Recent use.
        used: u64,
        /// Allowed use.
        allowed: u64,
    },
}

/// A parent's decision about a child that keeps crashing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Verdict {
    /// Restart it, with increasing pauses.
    Retry,
    /// Do not restart it. Its callers get an error at once.
    GiveUp,
    /// The fault is not the child's alone: the parent is ended, and with it all of its children; the parent's
    /// own restart policy decides what follows.
    Escalate,
}

/// The upcall entry of an image. The message is read during the call only.
pub type UpcallEntry = unsafe extern "C" fn(upcall: *const Upcall) -> Verdict;
