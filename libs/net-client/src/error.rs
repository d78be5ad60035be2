//! [`NetClientError`].

use core::fmt;

use coppice_interfaces::RpcError;
use coppice_net::NetError;

/// An error of a client's operation. No packet is lost by it: each is where it was, or is awaited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetClientError {
    /// A call failed, for a reason that a restart of the device's domain does not change.
    Rpc(RpcError),
    /// The device has no free queue, or refuses the configuration.
    Net(NetError),
    /// The queue belongs to another thread.
    Busy,
    /// The shared heap, or the domain's quota, has no memory for all packets.
    NoMemory {
        /// The number of packets that were allocated; they are freed again.
        made: usize,
        /// The requested number of packets.
        wanted: usize,
    },
}

impl fmt::Display for NetClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Net(error) => error.fmt(f),
            Self::Busy => f.write_str("the queue belongs to another thread"),
            Self::NoMemory { made, wanted } => {
                write!(f, "there is memory for {made} of {wanted} packets")
            }
        }
    }
}

impl core::error::Error for NetClientError {}

impl From<RpcError> for NetClientError {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<NetError> for NetClientError {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}
