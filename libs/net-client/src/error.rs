//! [`PortError`].

use core::fmt;

use coppice_interfaces::RpcError;
use coppice_net::NetError;

/// Why a port does not do what it was asked for. All packets are where they were, or are waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortError {
    /// A call did not come back, and the next instance of the device's domain will not change that.
    Rpc(RpcError),
    /// The device has no queue for us, or cannot be set up so.
    Net(NetError),
    /// The queue is another thread's.
    Busy,
    /// There is no memory for so many packets.
    NoMemory {
        /// How many there was memory for.
        made: usize,
        /// How many were wanted.
        wanted: usize,
    },
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Net(error) => error.fmt(f),
            Self::Busy => f.write_str("the queue is another thread's"),
            Self::NoMemory { made, wanted } => {
                write!(f, "there is memory for {made} of {wanted} packets")
            }
        }
    }
}

impl core::error::Error for PortError {}

impl From<RpcError> for PortError {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<NetError> for PortError {
    fn from(error: NetError) -> Self {
        Self::Net(error)
    }
}
