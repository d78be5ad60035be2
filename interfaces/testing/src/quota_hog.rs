//! [`QuotaHog`]: a domain at the limit of its quota of the shared heap.

use coppice_example_interfaces::{Counter, Message};
use coppice_interfaces::{Handle, RpcResult, interface};
use coppice_rref::{RRef, RRefDeque};

/// Allocates as much of the shared heap as it can, and passes objects on.
#[interface]
pub trait QuotaHog {
    /// Allocates objects on `threads` threads until each is refused one, and keeps them; objects with spans
    /// of their own if `large`. Returns the number of objects.
    fn fill(&self, threads: u32, large: bool) -> RpcResult<u32>;
    /// Allocates up to `count` objects and leaks them, so that they stay until the domain ends: the smallest
    /// ones, or objects with spans of their own if `large`. Returns the number of objects.
    fn leak(&self, count: u32, large: bool) -> RpcResult<u32>;
    /// Allocates objects with the infallible function until that ends the domain.
    fn overfill(&self) -> RpcResult<()>;
    /// Clones a handle until there is no room for another, which ends the domain.
    fn clone_handles(&self) -> RpcResult<()>;
    /// Exports objects until there is no room for another handle, which ends the domain.
    fn export_counters(&self) -> RpcResult<()>;
    /// Exports `count` objects and drops the only handle to each at once. Their destructors sleep for
    /// `milliseconds`. Ends the domain when the kernel refuses one.
    fn drop_slow_counters(&self, count: u32, milliseconds: u32) -> RpcResult<()>;
    /// Allocates a message and returns it.
    fn make(&self) -> RpcResult<RRef<Message>>;
    /// Allocates a deque of 32 messages and returns it.
    fn make_batch(&self) -> RpcResult<RRef<RRefDeque<Message, 32>>>;
    /// Keeps a message.
    fn keep(&self, message: RRef<Message>) -> RpcResult<()>;
    /// Keeps another domain's counter.
    fn keep_counter(&self, counter: Handle<dyn Counter>) -> RpcResult<()>;
    /// Drops all kept objects. Returns their number.
    fn let_go(&self) -> RpcResult<u32>;
}
