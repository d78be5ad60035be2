//! Connections through the gateway to an IP stack in the place of a guest.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant as Clock};

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{dhcpv4, icmp, tcp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, Icmpv4Packet, Icmpv4Repr, IpAddress, IpCidr};

use super::*;
use device_link::Losses;

const LIMIT: Duration = Duration::from_secs(60);

/// The guest's side of the wire.
struct Nic {
    gateway: UserNet,
    /// Sent frames are queued here, since tokens cannot borrow the gateway at the same time.
    sent: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);

struct Tx<'a>(&'a mut VecDeque<Vec<u8>>);

impl Nic {
    fn flush(&mut self) {
        while let Some(frame) = self.sent.pop_front() {
            self.gateway.take(&frame, 0);
        }
    }
}

impl Device for Nic {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = self.gateway.give(0)?.bytes.to_vec();
        Some((Rx(frame), Tx(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }
}

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, work: F) -> R {
        let mut frame = vec![0; bytes];
        let result = work(&mut frame);
        self.0.push_back(frame);
        result
    }
}

struct Guest {
    nic: Nic,
    interface: Interface,
    sockets: SocketSet<'static>,
    clock: Clock,
}

impl Guest {
    fn new(rules: &[ForwardRule], address: Option<Ipv4Addr>) -> Self {
        let gateway = UserNet::new(rules).expect("ports are free");
        let mut nic = Nic { gateway, sent: VecDeque::new() };
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let mut interface = Interface::new(Config::new(mac), &mut nic, Instant::ZERO);
        if let Some(address) = address {
            interface.update_ip_addrs(|addresses| {
                addresses.push(IpCidr::new(IpAddress::Ipv4(address), 24)).expect("there is room");
            });
        }
        Self { nic, interface, sockets: SocketSet::new(Vec::new()), clock: Clock::now() }
    }

    fn port(&self) -> u16 {
        self.nic.gateway.ports()[0]
    }

    fn listen(&mut self, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; 32 << 10]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen(port).expect("a new socket");
        self.sockets.add(socket)
    }

    fn step(&mut self) {
        let now = Instant::from_micros(self.clock.elapsed().as_micros() as i64);
        self.interface.poll(now, &mut self.nic, &mut self.sockets);
        self.nic.flush();
        std::thread::yield_now();
    }

    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let start = Clock::now();
        while !is_so(self) {
            assert!(start.elapsed() < LIMIT, "{what}");
            self.step();
        }
    }
}

fn rule(port: u16) -> ForwardRule {
    ForwardRule { port, guest: SocketAddrV4::new(UserNet::GUEST, 80) }
}

#[test]
fn a_connection_to_the_host_reaches_the_guest() {
    let mut guest = Guest::new(&[rule(0)], Some(UserNet::GUEST));
    let socket = guest.listen(80);
    let port = guest.port();
    // More bytes than all buffers on the way hold.
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| ((number * 7) >> 3) as u8).collect();
    let client = std::thread::spawn({
        let sent = sent.clone();
        move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the gateway listens");
            stream.set_read_timeout(Some(LIMIT)).expect("a socket");
            let mut writing = stream.try_clone().expect("a socket");
            let writer = std::thread::spawn(move || {
                writing.write_all(&sent).expect("it is read");
                writing.shutdown(std::net::Shutdown::Write).expect("it is connected");
            });
            let mut echoed = Vec::new();
            stream.read_to_end(&mut echoed).expect("it ends");
            writer.join().expect("it writes");
            echoed
        }
    });
    // The guest echoes until the client has ended.
    guest.until("the connection does not end", |guest| {
        let socket = guest.sockets.get_mut::<tcp::Socket<'_>>(socket);
        if socket.can_recv() && socket.can_send() {
            let mut bytes = vec![0; 4096.min(socket.send_capacity() - socket.send_queue())];
            let read = socket.recv_slice(&mut bytes).expect("there is something");
            socket.send_slice(&bytes[..read]).expect("there is room");
        }
        if socket.state() == tcp::State::CloseWait && !socket.can_recv() {
            socket.close();
        }
        client.is_finished()
    });
    assert!(client.join().expect("it reads") == sent);
}

#[test]
fn a_missing_guest_does_not_delay_others() {
    let missing = ForwardRule { port: 0, guest: SocketAddrV4::new(Ipv4Addr::new(10, 0, 2, 99), 80) };
    let mut guest = Guest::new(&[rule(0), missing], Some(UserNet::GUEST));
    let port = guest.nic.gateway.ports()[1];
    let _waiting = TcpStream::connect(("127.0.0.1", port)).expect("the gateway accepts");
    let socket = guest.listen(80);
    let mut stream = TcpStream::connect(("127.0.0.1", guest.port())).expect("the gateway accepts");
    stream.write_all(b"x").expect("it is connected");
    guest.until("nothing came", |guest| guest.sockets.get::<tcp::Socket<'_>>(socket).can_recv());
    // A guest that resets its connection ends the host's side.
    guest.sockets.get_mut::<tcp::Socket<'_>>(socket).abort();
    stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket");
    let mut byte = [0];
    guest.until(
        "the refusal does not arrive",
        |_| !matches!(stream.read(&mut byte), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
    );
}

#[test]
fn a_guest_gets_its_address_and_the_gateway_replies_to_pings() {
    let mut guest = Guest::new(&[], None);
    let dhcp = guest.sockets.add(dhcpv4::Socket::new());
    let mut given = None;
    guest.until("no address", |guest| {
        if let Some(dhcpv4::Event::Configured(config)) =
            guest.sockets.get_mut::<dhcpv4::Socket<'_>>(dhcp).poll()
        {
            given = Some((config.address, config.router));
        }
        given.is_some()
    });
    let (address, router) = given.expect("it is there");
    assert_eq!(
        (address.address(), address.prefix_len(), router),
        (UserNet::GUEST, 24, Some(UserNet::GATEWAY))
    );
    guest
        .interface
        .update_ip_addrs(|addresses| addresses.push(IpCidr::Ipv4(address)).expect("there is room"));
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 1024]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(7)).expect("a new socket");
    let echo = Icmpv4Repr::EchoRequest { ident: 7, seq_no: 1, data: b"coppice" };
    let bytes = socket.send(echo.buffer_len(), IpAddress::Ipv4(UserNet::GATEWAY)).expect("there is room");
    echo.emit(&mut Icmpv4Packet::new_unchecked(bytes), &smoltcp::phy::ChecksumCapabilities::default());
    let ping = guest.sockets.add(socket);
    guest.until("no answer", |guest| guest.sockets.get::<icmp::Socket<'_>>(ping).can_recv());
}

#[test]
fn a_taken_port_is_reported() {
    let first = UserNet::new(&[rule(0)]).expect("any port");
    let error = UserNet::new(&[rule(first.ports()[0])]).err().expect("it is taken").to_string();
    assert!(error.starts_with(&format!("port {} of the host: ", first.ports()[0])), "{error}");
}

#[test]
fn frames_without_room_and_frames_never_delivered_are_counted() {
    // Without its thread no frame is taken out of the mailboxes.
    let shared = Arc::new(Shared::new().expect("an event file"));
    let mut gateway =
        UserNet { shared: shared.clone(), ports: Vec::new(), thread: None, current: Vec::new() };
    (0..FRAMES + 2).for_each(|_| gateway.take(&[1; 60], 0));
    (0..FRAMES + 3).for_each(|_| shared.send(&[1; 60]));
    let losses = gateway.losses();
    assert_eq!(losses.read(), Losses { peer_full: 5, ..Losses::default() });
    drop(gateway);
    assert_eq!(losses.read(), Losses { peer_full: 5, abandoned: 2 * FRAMES as u64, ..Losses::default() });
}
