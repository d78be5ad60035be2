//! [`Hoarder`]: a domain at the limit of its share of the shared heap.

use coppice_interface_macros::interface;
use coppice_rref::{RRef, RRefDeque};

use crate::{Counter, Handle, Message, RpcResult};

/// Takes as much of the shared heap as it gets, and passes on what it makes.
#[interface]
pub trait Hoarder {
    /// Makes objects on `threads` threads until each is refused one, and keeps them; with spans of their own if `large`.
    /// Answers how many it has got.
    fn fill(&self, threads: u32, large: bool) -> RpcResult<u32>;
    /// Makes objects until it is refused one that it cannot go on without, which ends it.
    fn overfill(&self) -> RpcResult<()>;
    /// Makes handles to one object until there is no room for another, which ends it.
    fn clone_handles(&self) -> RpcResult<()>;
    /// Exports objects until there is no room for another handle, which ends it.
    fn export_counters(&self) -> RpcResult<()>;
    /// Makes a message and passes it on.
    fn make(&self) -> RpcResult<RRef<Message>>;
    /// Makes a deque of 32 messages and passes it on.
    fn make_batch(&self) -> RpcResult<RRef<RRefDeque<Message, 32>>>;
    /// Keeps a message.
    fn keep(&self, message: RRef<Message>) -> RpcResult<()>;
    /// Keeps a counter of somebody's.
    fn keep_counter(&self, counter: Handle<dyn Counter>) -> RpcResult<()>;
    /// Drops all that it keeps, and answers how many objects these were.
    fn let_go(&self) -> RpcResult<u32>;
}
