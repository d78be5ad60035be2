//! [`UserNet`]: user-mode networking, which forwards TCP ports of the host to a guest and needs no root.
//!
//! At the end of the wire is a gateway, 10.0.2.2, which replies to ARP and pings, and gives the guest its
//! address by DHCP. A client that connects to a forwarded port of the host is connected to the guest by the
//! gateway; bytes go both ways until both sides have ended. There is no other route: a guest reaches nothing
//! through it.

mod connection;
mod dhcp;
mod gateway;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::event_fd::EventFd;
use device_link::{Frame, LossCounters, Mailbox, Peer, Waker};
use gateway::Gateway;

/// The most queued frames in each direction.
const FRAMES: usize = 4096;

/// A forwarded port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForwardRule {
    /// The port on the host's 127.0.0.1; 0 for any free one.
    pub port: u16,
    /// The address and port in the guest.
    pub guest: SocketAddrV4,
}

impl fmt::Display for ForwardRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.port, self.guest)
    }
}

/// A gateway that forwards ports of the host.
pub struct UserNet {
    shared: Arc<Shared>,
    ports: Vec<u16>,
    thread: Option<JoinHandle<()>>,
    current: Vec<u8>,
}

/// The state that the device's thread and the gateway's thread share.
struct Shared {
    to_guest: Mailbox,
    from_guest: Mailbox,
    wake: EventFd,
    losses: Arc<LossCounters>,
}

impl Shared {
    fn new() -> io::Result<Self> {
        let (to_guest, from_guest) = (Mailbox::new(FRAMES), Mailbox::new(FRAMES));
        Ok(Self { to_guest, from_guest, wake: EventFd::new()?, losses: Arc::default() })
    }

    /// Queues a frame for the guest.
    fn send(&self, frame: &[u8]) {
        if !self.to_guest.push(frame) {
            self.losses.peer_full.add(1);
        }
    }
}

impl UserNet {
    /// The address of the gateway.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    /// The address that a guest gets by DHCP.
    pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    /// The prefix length of the network of both.
    pub const PREFIX: u8 = 24;
    /// The gateway's MAC address.
    pub const MAC: [u8; 6] = [0x02, 0xc0, 0, 0, 0, 0xfd];

    /// Starts a gateway that listens on the ports of `rules`.
    ///
    /// # Errors
    /// The error of the host, with the port, if a port is taken; or if the thread cannot be started.
    pub fn new(rules: &[ForwardRule]) -> io::Result<Self> {
        let shared = Arc::new(Shared::new()?);
        let gateway = Gateway::new(rules, shared.clone())?;
        let ports = gateway.ports()?;
        let notified = shared.clone();
        shared.from_guest.attach(Arc::new(move || notified.wake.notify()));
        let thread = std::thread::Builder::new().name("link-gateway".into()).spawn(move || gateway.run())?;
        Ok(Self { shared, ports, thread: Some(thread), current: Vec::new() })
    }

    /// The ports of the host, in the order of the rules.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }
}

impl Peer for UserNet {
    fn take(&mut self, frame: &[u8], _: u64) {
        if !self.shared.from_guest.push(frame) {
            self.shared.losses.peer_full.add(1);
        }
    }

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.shared.to_guest.pop(&mut self.current)
    }

    fn due_ns(&self) -> Option<u64> {
        self.shared.to_guest.due_ns()
    }

    fn attach(&mut self, waker: Waker) {
        self.shared.to_guest.attach(waker);
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.shared.losses.clone()
    }
}

impl Drop for UserNet {
    fn drop(&mut self) {
        self.shared.wake.stop();
        if let Some(thread) = self.thread.take() {
            // The thread returns nothing, and a panic was printed.
            let _ = thread.join();
        }
        // The waker holds `shared`, which holds the waker: this breaks the cycle.
        self.shared.from_guest.detach();
        let left = self.shared.to_guest.queued() + self.shared.from_guest.queued();
        self.shared.losses.abandoned.add(left as u64);
    }
}
