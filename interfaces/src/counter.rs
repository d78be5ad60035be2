//! [`Counter`]: an object with state, of which a domain can hand out many.

use coppice_interface_macros::interface;

use crate::RpcResult;

/// Counts.
#[interface]
pub trait Counter {
    /// The number after the last one.
    fn next(&self) -> RpcResult<u64>;
}
