//! [`Echo`]: the smallest service, for trying what a crossing does to each kind of argument.

use coppice_interface_macros::interface;
use coppice_rref::{Bytes, RRef, RRefDeque};

use crate::RpcResult;

/// The buffer that echoes travel in.
pub type Message = Bytes<256>;

/// Answers with what it was given.
#[interface]
pub trait Echo {
    /// The number again: a crossing that moves nothing.
    #[retry]
    fn ping(&self, number: u64) -> RpcResult<u64>;
    /// The same object: it moves there and back.
    #[fail]
    fn echo(&self, message: RRef<Message>) -> RpcResult<RRef<Message>>;
    /// The sum of the message's bytes: the callee borrows it.
    #[retry]
    fn sum(&self, message: &RRef<Message>) -> RpcResult<u64>;
    /// The same objects in the opposite order: a root with others inside moves there and back.
    #[fail]
    fn reverse(&self, batch: RRef<RRefDeque<Message, 32>>) -> RpcResult<RRef<RRefDeque<Message, 32>>>;
    /// Panics with `message` after `depth` calls of itself, holding a shared object in each.
    #[fail]
    fn panic(&self, message: RRef<Message>, depth: u32) -> RpcResult<()>;
}
