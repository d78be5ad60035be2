//! [`TestParent`]: a parent in the supervision tree, and a user of quotas, whose behaviour in upcalls can be
//! chosen.

use coppice_example_interfaces::Message;
use coppice_interfaces::{CrashKind, RpcResult, Text, interface};
use coppice_rref::{Flat, RRef, Shareable};

/// The parent's behaviour in an upcall.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub enum Behaviour {
    /// Requests another restart of a failing child; complies with a revocation.
    #[default]
    Comply,
    /// Gives a failing child up; ignores a revocation.
    Refuse,
    /// Escalates a child's failure; complies with a revocation some time after the upcall has returned.
    PassOn,
    /// Does not return from the upcall.
    Hang,
    /// Acts as [`Self::Comply`], but does not return from the upcall.
    ComplyAndHang,
    /// Panics.
    Crash,
}

/// The upcalls that the parent's current instance has received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Upcalls {
    /// The number of upcalls about a failing child.
    pub failures: u32,
    /// The last of these: the child's name, the cause, and the number of crashes in a row.
    pub child: Option<(Text<32>, CrashKind, u32)>,
    /// The number of revocations.
    pub demands: u32,
    /// The amount that the last revocation allows.
    pub allowed: u64,
}

/// A parent of other domains.
#[interface]
pub trait TestParent {
    /// Sets the behaviour from now on; a new instance starts with its manifest's argument.
    fn set_behaviour(&self, behaviour: Behaviour) -> RpcResult<()>;
    /// Returns the upcalls received so far.
    fn upcalls(&self) -> RpcResult<Upcalls>;
    /// Keeps a message. Returns the number of kept messages.
    fn keep_message(&self, message: RRef<Message>) -> RpcResult<u32>;
    /// Drops all messages but `keep`.
    fn give_up(&self, keep: u32) -> RpcResult<()>;
    /// Allocates `bytes` of private heap and keeps them.
    fn fill_heap(&self, bytes: u64) -> RpcResult<()>;
    /// Starts threads that sleep until the domain ends, up to its quota and up to `count`. Returns the number
    /// started.
    fn spawn(&self, count: u32) -> RpcResult<u32>;
    /// Computes on a thread of its own until the domain ends or [`Self::set_behaviour`] is called.
    fn compute(&self) -> RpcResult<()>;
}
