//! [`Gateway`]: the thread with a small IP stack, between the wire and the host's sockets.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use rustix::event::{PollFd, PollFlags};
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr,
    HardwareAddress, IpAddress, IpCidr,
};

use crate::event_fd::wait;
use crate::user_net::connection::Connection;
use crate::user_net::dhcp::Dhcp;
use crate::user_net::{ForwardRule, Shared, UserNet};

/// The most connections at a time; others wait in the host's backlog.
const CONNECTIONS: usize = 256;
/// The first of the gateway's ports towards the guest (RFC 6335, section 6).
const FIRST_PORT: u16 = 49_152;
const PORTS: u16 = u16::MAX - FIRST_PORT;
/// The interval of ARP requests for a guest that has not answered.
const ARP_INTERVAL: Duration = Duration::from_millis(200);

/// The state of the gateway's thread.
pub(super) struct Gateway {
    shared: Arc<Shared>,
    listeners: Vec<(TcpListener, SocketAddrV4)>,
    nic: Nic,
    interface: Interface,
    sockets: SocketSet<'static>,
    connections: Vec<Connection>,
    dhcp: Dhcp,
    next_port: u16,
    clock: Clock,
    /// The time of the last ARP requests for guests; `None` if no guest is awaited.
    last_arp: Option<Duration>,
}

impl Gateway {
    pub(super) fn new(rules: &[ForwardRule], shared: Arc<Shared>) -> io::Result<Self> {
        let listeners = rules.iter().map(|rule| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, rule.port)).map_err(|error| {
                io::Error::new(error.kind(), format!("port {} of the host: {error}", rule.port))
            })?;
            listener.set_nonblocking(true)?;
            Ok((listener, rule.guest))
        });
        let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
        let mut nic = Nic { shared: shared.clone(), frame: Vec::new() };
        let address = HardwareAddress::Ethernet(EthernetAddress(UserNet::MAC));
        let mut interface = Interface::new(Config::new(address), &mut nic, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // The list has room for at least one address.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(UserNet::GATEWAY), UserNet::PREFIX));
        });
        let mut sockets = SocketSet::new(Vec::new());
        let dhcp = Dhcp::new(&mut sockets);
        Ok(Self {
            shared,
            listeners,
            nic,
            interface,
            sockets,
            connections: Vec::new(),
            dhcp,
            next_port: 0,
            clock: Clock::now(),
            last_arp: None,
        })
    }

    pub(super) fn ports(&self) -> io::Result<Vec<u16>> {
        self.listeners.iter().map(|(listener, _)| Ok(listener.local_addr()?.port())).collect()
    }

    pub(super) fn run(mut self) {
        while !self.shared.wake.is_stopping() {
            self.shared.wake.clear();
            self.step();
            self.wait();
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.clock.elapsed().as_micros() as i64)
    }

    fn step(&mut self) {
        self.accept();
        self.request_guest_addresses();
        let now = self.now();
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
        self.dhcp.serve(&mut self.sockets);
        let sockets = &mut self.sockets;
        self.connections.retain_mut(|connection| connection.pump(sockets));
        // Sends the bytes that the connections have copied.
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
    }

    fn accept(&mut self) {
        for (listener, guest) in &self.listeners {
            while self.connections.len() < CONNECTIONS {
                // No client waits, or it has gone.
                let Ok((host, _)) = listener.accept() else { break };
                let port = FIRST_PORT + self.next_port;
                self.next_port = (self.next_port + 1) % PORTS;
                let context = self.interface.context();
                if let Some(connection) = Connection::new(host, *guest, port, context, &mut self.sockets) {
                    self.connections.push(connection);
                }
            }
        }
    }

    /// Sends ARP requests for guests that have not answered yet. The stack sends them, too, but for one guest
    /// per second, so a missing guest would delay all others.
    fn request_guest_addresses(&mut self) {
        let now = self.clock.elapsed();
        if self.last_arp.is_some_and(|last| now - last < ARP_INTERVAL) {
            return;
        }
        let awaited: BTreeSet<Ipv4Addr> = self
            .connections
            .iter()
            .filter_map(|connection| connection.awaited_guest(&self.sockets))
            .collect();
        self.last_arp = (!awaited.is_empty()).then_some(now);
        for address in awaited {
            self.shared.send(&arp_request(address));
        }
    }

    /// Waits until there is work.
    fn wait(&mut self) {
        if self.shared.from_guest.due_ns().is_some() {
            return;
        }
        let delay = self.interface.poll_delay(self.now(), &self.sockets);
        let delay = delay.map(|delay| Duration::from_micros(delay.total_micros()));
        let arp = self.last_arp.map(|_| ARP_INTERVAL);
        let delay = [delay, arp].into_iter().flatten().min();
        let mut files = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        if self.connections.len() < CONNECTIONS {
            files.extend(self.listeners.iter().map(|(listener, _)| PollFd::new(listener, PollFlags::IN)));
        }
        for connection in &self.connections {
            let flags = connection.interest(&self.sockets);
            if !flags.is_empty() {
                files.push(PollFd::new(connection.host(), flags));
            }
        }
        wait(&mut files, delay);
    }
}

/// An ARP request for `address`.
fn arp_request(address: Ipv4Addr) -> Vec<u8> {
    let gateway = EthernetAddress(UserNet::MAC);
    let ethernet = EthernetRepr {
        src_addr: gateway,
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: gateway,
        source_protocol_addr: UserNet::GATEWAY,
        target_hardware_addr: EthernetAddress([0; 6]),
        target_protocol_addr: address,
    };
    let mut bytes = vec![0; ethernet.buffer_len() + request.buffer_len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    ethernet.emit(&mut frame);
    request.emit(&mut ArpPacket::new_unchecked(frame.payload_mut()));
    bytes
}

/// The gateway's network interface: two mailboxes.
struct Nic {
    shared: Arc<Shared>,
    frame: Vec<u8>,
}

struct Rx<'a>(&'a [u8]);

struct Tx<'a>(&'a Shared);

impl Device for Nic {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let frame = self.shared.from_guest.pop(&mut self.frame)?;
        Some((Rx(frame.bytes), Tx(&self.shared)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&self.shared))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        // The Ethernet header is included.
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, work: F) -> R {
        let mut frame = vec![0; bytes];
        let result = work(&mut frame);
        self.0.send(&frame);
        result
    }
}
