//! [`Echo`]: the smallest service, with one method for each kind of argument.

use coppice_interfaces::{RpcResult, interface};
use coppice_rref::{Bytes, RRef, RRefDeque};

/// The buffer of an echo.
pub type Message = Bytes<256>;

/// Returns its arguments.
#[interface]
pub trait Echo {
    /// Returns the same number: a crossing that moves nothing.
    #[retry]
    fn ping(&self, number: u64) -> RpcResult<u64>;
    /// Returns the same object: it moves to the callee and back.
    #[fail]
    fn echo(&self, message: RRef<Message>) -> RpcResult<RRef<Message>>;
    /// Returns the sum of the message's bytes: the callee borrows the object.
    #[retry]
    fn sum(&self, message: &RRef<Message>) -> RpcResult<u64>;
    /// Returns the same objects in reverse order: a root with other objects inside moves to the callee and
    /// back.
    #[fail]
    fn reverse(&self, batch: RRef<RRefDeque<Message, 32>>) -> RpcResult<RRef<RRefDeque<Message, 32>>>;
    /// Panics with `message` after `depth` calls of itself, holding a shared object in each.
    #[fail]
    fn panic(&self, message: RRef<Message>, depth: u32) -> RpcResult<()>;
}
