//! [`Gateway`]: the thread with a small IP stack between the wire and the host's sockets.

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

use crate::bell::wait;
use crate::forward::connection::Connection;
use crate::forward::dhcp::Dhcp;
use crate::forward::{Forward, ForwardRule, Shared};

/// Connections at a time; who comes then waits in the host's backlog.
const CONNECTIONS: usize = 256;
/// Of the gateway's ports towards the guest, the first and how many (RFC 6335, section 6).
const FIRST_PORT: u16 = 49_152;
/// How often a guest that does not answer is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);
const PORTS: u16 = u16::MAX - FIRST_PORT;

/// All of it; moved to its thread.
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
    /// When guests that are awaited were asked for; `None` if there are none.
    asked: Option<Duration>,
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
        let address = HardwareAddress::Ethernet(EthernetAddress(Forward::MAC));
        let mut interface = Interface::new(Config::new(address), &mut nic, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            // There is room for one at least.
            let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(Forward::GATEWAY), Forward::PREFIX));
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
            asked: None,
        })
    }

    pub(super) fn ports(&self) -> io::Result<Vec<u16>> {
        self.listeners.iter().map(|(listener, _)| Ok(listener.local_addr()?.port())).collect()
    }

    pub(super) fn run(mut self) {
        while !self.shared.bell.is_over() {
            self.shared.bell.hush();
            self.step();
            self.wait();
        }
    }

    fn now(&self) -> Instant {
        Instant::from_micros(self.clock.elapsed().as_micros() as i64)
    }

    fn step(&mut self) {
        self.accept();
        self.ask_for_guests();
        let now = self.now();
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
        self.dhcp.answer(&mut self.sockets);
        let sockets = &mut self.sockets;
        self.connections.retain_mut(|connection| connection.pump(sockets));
        // What was pumped goes out.
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
    }

    fn accept(&mut self) {
        for (listener, guest) in &self.listeners {
            while self.connections.len() < CONNECTIONS {
                // There is nobody, or whoever was there has gone.
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

    /// Asks for the MAC addresses of guests that have not answered yet. The stack asks, too, but for one guest in a second, so one that
    /// is not there would be in the way of all others.
    fn ask_for_guests(&mut self) {
        let now = self.clock.elapsed();
        if self.asked.is_some_and(|asked| now - asked < ASK_EVERY) {
            return;
        }
        let awaited: BTreeSet<Ipv4Addr> =
            self.connections.iter().filter_map(|connection| connection.awaits(&self.sockets)).collect();
        self.asked = (!awaited.is_empty()).then_some(now);
        for address in awaited {
            self.shared.send(&arp_request(address));
        }
    }

    /// Until there is something to do.
    fn wait(&mut self) {
        if self.shared.from_guest.due_ns().is_some() {
            return;
        }
        let delay = self.interface.poll_delay(self.now(), &self.sockets);
        let delay = delay.map(|delay| Duration::from_micros(delay.total_micros()));
        let ask = self.asked.map(|_| ASK_EVERY);
        let delay = [delay, ask].into_iter().flatten().min();
        let mut files = vec![PollFd::new(&self.shared.bell, PollFlags::IN)];
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

/// Who has this address?
fn arp_request(address: Ipv4Addr) -> Vec<u8> {
    let gateway = EthernetAddress(Forward::MAC);
    let ethernet = EthernetRepr {
        src_addr: gateway,
        dst_addr: EthernetAddress::BROADCAST,
        ethertype: EthernetProtocol::Arp,
    };
    let request = ArpRepr::EthernetIpv4 {
        operation: ArpOperation::Request,
        source_hardware_addr: gateway,
        source_protocol_addr: Forward::GATEWAY,
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

struct Received<'a>(&'a [u8]);

struct ToSend<'a>(&'a Shared);

impl Device for Nic {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, ToSend<'_>)> {
        let frame = self.shared.from_guest.pop(&mut self.frame)?;
        Some((Received(frame.bytes), ToSend(&self.shared)))
    }

    fn transmit(&mut self, _: Instant) -> Option<ToSend<'_>> {
        Some(ToSend(&self.shared))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        // With the Ethernet header.
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(self.0)
    }
}

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, work: F) -> R {
        let mut frame = vec![0; bytes];
        let result = work(&mut frame);
        self.0.send(&frame);
        result
    }
}
