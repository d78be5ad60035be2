//! [`Forward`]: connections to a port of the host become connections to a guest, without root.
//!
//! At the wire's end is a gateway, 10.0.2.2, which answers ARP and pings, and gives the guest its address by DHCP. Who connects to a
//! port of the host that is forwarded is connected to the guest's by the gateway; bytes go both ways until both sides have ended.
//! It does not lead anywhere else: a guest reaches nothing through it.

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

use crate::bell::Bell;
use crate::queue::Mailbox;
use crate::{End, Frame, LossCounters, Waker};
use gateway::Gateway;

/// Frames that wait, each way.
const FRAMES: usize = 4096;

/// A port that is forwarded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ForwardRule {
    /// The port on the host's 127.0.0.1; 0 for any that is free.
    pub port: u16,
    /// Where it leads.
    pub guest: SocketAddrV4,
}

impl fmt::Display for ForwardRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.port, self.guest)
    }
}

/// A gateway that forwards ports of the host.
pub struct Forward {
    shared: Arc<Shared>,
    ports: Vec<u16>,
    thread: Option<JoinHandle<()>>,
    current: Vec<u8>,
}

/// What the device's thread and the gateway's share.
struct Shared {
    to_guest: Mailbox,
    from_guest: Mailbox,
    bell: Bell,
    losses: Arc<LossCounters>,
}

impl Shared {
    fn new() -> io::Result<Self> {
        let (to_guest, from_guest) = (Mailbox::new(FRAMES), Mailbox::new(FRAMES));
        Ok(Self { to_guest, from_guest, bell: Bell::new()?, losses: Arc::default() })
    }

    /// A frame for the guest.
    fn send(&self, frame: &[u8]) {
        if !self.to_guest.push(frame) {
            self.losses.end_full.add(1);
        }
    }
}

impl Forward {
    /// The gateway's address.
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    /// What a guest gets by DHCP.
    pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    /// How many bits of both are the network's.
    pub const PREFIX: u8 = 24;
    /// The gateway's MAC address.
    pub const MAC: [u8; 6] = [0x02, 0xc0, 0, 0, 0, 0xfd];

    /// Listens on these ports.
    ///
    /// # Errors
    /// What the host says, for instance of a port that is taken.
    pub fn new(rules: &[ForwardRule]) -> io::Result<Self> {
        let shared = Arc::new(Shared::new()?);
        let gateway = Gateway::new(rules, shared.clone())?;
        let ports = gateway.ports()?;
        let ringing = shared.clone();
        shared.from_guest.attach(Arc::new(move || ringing.bell.ring()));
        let thread = std::thread::Builder::new().name("wire-gateway".into()).spawn(move || gateway.run())?;
        Ok(Self { shared, ports, thread: Some(thread), current: Vec::new() })
    }

    /// The host's ports, in the order of the rules.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }
}

impl End for Forward {
    fn take(&mut self, frame: &[u8], _: u64) {
        if !self.shared.from_guest.push(frame) {
            self.shared.losses.end_full.add(1);
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

impl Drop for Forward {
    fn drop(&mut self) {
        self.shared.bell.end();
        if let Some(thread) = self.thread.take() {
            // It ends without a result.
            let _ = thread.join();
        }
        // It holds what it belongs to.
        self.shared.from_guest.detach();
        let left = self.shared.to_guest.len() + self.shared.from_guest.len();
        self.shared.losses.abandoned.add(left as u64);
    }
}
