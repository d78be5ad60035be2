//! [`Factory`]: interface objects as results and as arguments.

use coppice_interfaces::{Handle, RpcResult, interface};

use crate::Counter;

/// Creates counters, and calls those of other domains.
#[interface]
pub trait Factory {
    /// Creates a counter whose first number is `start`.
    fn make(&self, start: u64) -> RpcResult<Handle<dyn Counter>>;
    /// Calls another domain's counter `times` times. Returns its last number.
    fn drive(&self, counter: Handle<dyn Counter>, times: u32) -> RpcResult<u64>;
    /// Returns the same counter: an interface object that moves to the callee and back.
    fn pass(&self, counter: Handle<dyn Counter>) -> RpcResult<Handle<dyn Counter>>;
    /// Returns the number of counters of this factory that still have a handle.
    fn live(&self) -> RpcResult<u64>;
}
