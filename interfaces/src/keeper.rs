//! [`Keeper`]: calls that last, and objects that stay behind when a call is over.

use coppice_interface_macros::interface;
use coppice_rref::{Lent, RRef};

use crate::{Counter, Handle, Message, RpcError, RpcResult};

/// Keeps what it is lent, and calls that ask for it, until it is told to let go.
#[interface]
pub trait Keeper {
    /// Keeps `message` past the call, until [`Keeper::give_back`] or the keeper's end.
    fn keep(&self, message: Lent<Message>) -> RpcResult<()>;
    /// Writes `byte` all over each message that it keeps, and answers how many these are.
    fn stamp(&self, byte: u8) -> RpcResult<u32>;
    /// Gives all that it keeps back to the lenders, and answers how many messages these were.
    fn give_back(&self) -> RpcResult<u32>;
    /// The sum of the message's bytes, read after [`Keeper::let_go`]: the callee borrows it all the time until then.
    fn read_late(&self, message: &RRef<Message>) -> RpcResult<u64>;
    /// What the latest [`Keeper::read_late`] that has ended answered, for when there was nobody left to hear it.
    fn latest_sum(&self) -> RpcResult<Option<u64>>;
    /// A counter of which each call stays until [`Keeper::let_go`].
    fn slow_counter(&self, start: u64) -> RpcResult<Handle<dyn Counter>>;
    /// How many slow counters exist.
    fn slow_counters(&self) -> RpcResult<u32>;
    /// Takes the keeper's one lock, and stays with it until [`Keeper::let_go`].
    fn stay_locked(&self) -> RpcResult<()>;
    /// Takes the keeper's one lock and asks `counter` with it; answers what that answered.
    fn count_locked(&self, counter: Handle<dyn Counter>) -> RpcResult<Result<u64, RpcError>>;
    /// Whether nobody has the keeper's one lock.
    fn is_unlocked(&self) -> RpcResult<bool>;
    /// How many calls stay at present.
    fn staying(&self) -> RpcResult<u32>;
    /// Lets all calls that stay go on.
    fn let_go(&self) -> RpcResult<()>;
}
