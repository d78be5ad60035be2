//! Peers of an Ethernet link that lead to the host's network, or through it to another process.
//!
//! - [`UserNet`] is a gateway with DHCP that forwards TCP ports of the host to a guest; it needs no root.
//! - [`Tap`] is a TAP interface of Linux.
//! - [`Udp`] and [`Stream`] carry frames in datagrams or a byte stream, for instance to a QEMU.
//!
//! Each is a [`Peer`](device_link::Peer) of a [`Wire`](device_link::Wire) and has threads of its own, so that
//! the device's thread never waits for the host. They are apart from `device-link`, which uses no sockets and
//! no IP stack.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod event_fd;
mod stream;
mod tap;
mod udp;
mod user_net;

pub use stream::{Stream, StreamAddress};
pub use tap::Tap;
pub use udp::Udp;
pub use user_net::{ForwardRule, UserNet};
