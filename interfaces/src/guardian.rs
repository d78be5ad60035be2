//! [`Guardian`]: a parent of other domains, and a hoarder, whose conduct can be chosen.

use coppice_interface_macros::interface;
use coppice_rref::{Flat, RRef, Shareable};

use crate::{CrashKind, Message, RpcResult, Text};

/// What a guardian does when the kernel calls it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub enum Conduct {
    /// Of a child, it wants another try; what it is asked to give up, it gives up.
    #[default]
    Comply,
    /// It gives the child up; it keeps what it is asked for.
    Refuse,
    /// It says that the child's trouble is its own; it gives up what it is asked for a while after it has answered.
    PassOn,
    /// It never answers.
    Hang,
    /// As [`Self::Comply`], but it never answers.
    ComplyAndHang,
    /// It panics.
    Crash,
}

/// What a guardian has been told in its present instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Shareable, Flat)]
pub struct Told {
    /// How often of a failing child.
    pub failures: u32,
    /// Of the last one: its name, what it died of, and how often in a row.
    pub child: Option<(Text<32>, CrashKind, u32)>,
    /// How often it was asked to give something up.
    pub demands: u32,
    /// How much it may keep of what it was asked for last.
    pub allowed: u64,
}

/// Answers for other domains.
#[interface]
pub trait Guardian {
    /// What it is to do from now on; a new instance begins with what its argument `conduct` says.
    fn behave(&self, conduct: Conduct) -> RpcResult<()>;
    /// What it has been told.
    fn told(&self) -> RpcResult<Told>;
    /// Keeps a message; answers how many it has.
    fn hoard(&self, message: RRef<Message>) -> RpcResult<u32>;
    /// Drops all messages but `keep`.
    fn give_up(&self, keep: u32) -> RpcResult<()>;
    /// Takes `bytes` of private heap and keeps them.
    fn fill_heap(&self, bytes: u64) -> RpcResult<()>;
    /// Starts threads that sleep until the domain ends, as many as it is allowed but at most `count`; answers how many.
    fn spawn(&self, count: u32) -> RpcResult<u32>;
    /// Has a thread of its own compute until the domain ends or [`Self::behave`] is called.
    fn compute(&self) -> RpcResult<()>;
}
