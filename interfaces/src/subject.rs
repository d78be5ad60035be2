//! [`Subject`]: a domain that does to itself what an experiment asks for.

use coppice_interface_macros::interface;
use coppice_rref::Lent;

use crate::{Counter, Fault, Handle, RpcError, RpcResult};

/// Gets into all kinds of situations in which a domain can be when it is ended.
#[interface]
pub trait Subject {
    /// Goes wrong in that way. Comes back, if at all, only when the fault could not be raised here.
    fn fail(&self, fault: Fault) -> RpcResult<()>;
    /// As [`Self::fail`], but writes the time-stamp counter to `clock` right before. What is lent survives the borrower, so
    /// the lender learns when it happened.
    fn fail_by_the_clock(&self, fault: Fault, clock: Lent<u64>) -> RpcResult<()>;
    /// How often this was called in the domain's present life; counted in a static.
    fn count(&self) -> RpcResult<u64>;
    /// Writes and reads back `bytes` of private heap, in one piece, and keeps them if `keep`. Answers whether it read what
    /// it wrote.
    fn fill_heap(&self, bytes: u64, keep: bool) -> RpcResult<bool>;
    /// Keeps `count` messages on the shared heap.
    fn own(&self, count: u32) -> RpcResult<()>;
    /// Keeps somebody else's counter.
    fn adopt(&self, counter: Handle<dyn Counter>) -> RpcResult<()>;
    /// Starts threads that sleep until the domain ends, as many as it is allowed but at most `count`; answers how many.
    fn spawn(&self, count: u32) -> RpcResult<u32>;
    /// Computes for `milliseconds`, without ever calling anybody.
    fn spin(&self, milliseconds: u32) -> RpcResult<()>;
    /// Lends `count` messages to its keeper and keeps the claims. Answers what the keeper's answers were.
    fn lend(&self, count: u32) -> RpcResult<Result<(), RpcError>>;
    /// Has a thread of its own call [`crate::Keeper::read_late`] with a message that it owns.
    fn read_late(&self) -> RpcResult<()>;
    /// Has a thread of its own call a slow counter of the keeper's to which it has the only handle.
    fn count_slowly(&self) -> RpcResult<()>;
    /// Makes its echo panic, and answers what it heard of that.
    fn provoke(&self) -> RpcResult<Option<RpcError>>;
    /// Has `threads` threads of its own ask the kernel for everything that there is to ask for, again and again, until the
    /// domain ends.
    fn labour(&self, threads: u32) -> RpcResult<()>;
    /// Calls itself `depth` times without asking the kernel for anything; answers how deep it came.
    fn dive(&self, depth: u32) -> RpcResult<u32>;
    /// Has a thread of its own panic.
    fn panic_in_thread(&self) -> RpcResult<()>;
    /// Logs a record of each level that ends in `word`.
    fn log(&self, word: crate::Text<32>) -> RpcResult<()>;
}
