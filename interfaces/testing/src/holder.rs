//! [`Holder`]: calls that stay pending, and lent objects that are kept after a call.

use coppice_example_interfaces::{Counter, Message};
use coppice_interfaces::{Handle, RpcError, RpcResult, interface};
use coppice_rref::{Lent, RRef};

/// Keeps lent objects, and calls that request it, until it is told to let go.
#[interface]
pub trait Holder {
    /// Keeps `message` after the call, until [`Holder::give_back`] or the holder's end.
    fn keep(&self, message: Lent<Message>) -> RpcResult<()>;
    /// Fills each kept message with `byte`. Returns their number.
    fn stamp(&self, byte: u8) -> RpcResult<u32>;
    /// Returns all kept messages to their lenders. Returns their number.
    fn give_back(&self) -> RpcResult<u32>;
    /// Waits for [`Holder::let_go`], then returns the sum of the message's bytes: the callee borrows it all
    /// that time.
    fn read_late(&self, message: &RRef<Message>) -> RpcResult<u64>;
    /// Returns the result of the latest finished [`Holder::read_late`], for a caller that has died in the
    /// call.
    fn latest_sum(&self) -> RpcResult<Option<u64>>;
    /// Returns a counter whose calls stay pending until [`Holder::let_go`].
    fn slow_counter(&self, start: u64) -> RpcResult<Handle<dyn Counter>>;
    /// Returns the number of slow counters that exist.
    fn slow_counters(&self) -> RpcResult<u32>;
    /// Takes the holder's one lock and keeps it until [`Holder::let_go`].
    fn hold_lock(&self) -> RpcResult<()>;
    /// Takes the holder's one lock and calls `counter`. Returns the result of that call.
    fn count_locked(&self, counter: Handle<dyn Counter>) -> RpcResult<Result<u64, RpcError>>;
    /// Returns true if the holder's one lock is free.
    fn is_unlocked(&self) -> RpcResult<bool>;
    /// Returns the number of pending calls.
    fn pending_calls(&self) -> RpcResult<u32>;
    /// Lets all pending calls return.
    fn let_go(&self) -> RpcResult<()>;
}
