//! [`Factory`]: interface objects as results and as arguments.

use coppice_interface_macros::interface;

use crate::{Counter, Handle, RpcResult};

/// Makes counters, and uses those of others.
#[interface]
pub trait Factory {
    /// A counter whose first number is `start`.
    fn make(&self, start: u64) -> RpcResult<Handle<dyn Counter>>;
    /// Counts `times` times with somebody else's counter and answers with its last number.
    fn drive(&self, counter: Handle<dyn Counter>, times: u32) -> RpcResult<u64>;
    /// The same counter: an interface object that moves there and back.
    fn pass(&self, counter: Handle<dyn Counter>) -> RpcResult<Handle<dyn Counter>>;
    /// How many counters that this factory made are still held by somebody.
    fn live(&self) -> RpcResult<u64>;
}
