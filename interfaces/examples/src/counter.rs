//! [`Counter`]: an object with state, of which a domain can export any number.

use coppice_interfaces::{RpcResult, interface};

/// A counter.
#[interface]
pub trait Counter {
    /// Returns the next number.
    fn next(&self) -> RpcResult<u64>;
}
