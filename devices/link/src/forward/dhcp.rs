//! [`Dhcp`]: who gives a guest its address (RFC 2131). There is one guest, and so one address.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr, IpAddress, Ipv4Address,
};

use crate::forward::Forward;

/// Messages that wait, and their bytes.
const MESSAGES: usize = 8;
const MESSAGE_BYTES: usize = 8192;
const LEASE_S: u32 = 86_400;

/// The server's socket.
pub(super) struct Dhcp(SocketHandle);

impl Dhcp {
    pub(super) fn new(sockets: &mut SocketSet<'static>) -> Self {
        let buffer = || PacketBuffer::new(vec![PacketMetadata::EMPTY; MESSAGES], vec![0; MESSAGE_BYTES]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.bind(DHCP_SERVER_PORT).expect("a new socket is not bound, and the port is not 0");
        Self(sockets.add(socket))
    }

    /// Answers what has come.
    pub(super) fn answer(&self, sockets: &mut SocketSet<'static>) {
        let socket = sockets.get_mut::<Socket<'_>>(self.0);
        while socket.can_send() {
            let Ok((message, _)) = socket.recv() else { break };
            if let Some(answer) = answer(message) {
                // A full queue loses it, and the guest asks again.
                let _ =
                    socket.send_slice(&answer, (IpAddress::Ipv4(Ipv4Address::BROADCAST), DHCP_CLIENT_PORT));
            }
        }
    }
}

fn answer(message: &[u8]) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let asked = DhcpRepr::parse(&packet).ok()?;
    let message_type = match asked.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => match asked.requested_ip {
            Some(address) if address != Forward::GUEST => DhcpMessageType::Nak,
            _ => DhcpMessageType::Ack,
        },
        _ => return None,
    };
    let gives = message_type != DhcpMessageType::Nak;
    let answer = DhcpRepr {
        message_type,
        transaction_id: asked.transaction_id,
        secs: 0,
        client_hardware_address: asked.client_hardware_address,
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: if gives { Forward::GUEST } else { Ipv4Address::UNSPECIFIED },
        server_ip: Forward::GATEWAY,
        router: gives.then_some(Forward::GATEWAY),
        subnet_mask: gives.then_some(Ipv4Address::from_bits(u32::MAX << (32 - Forward::PREFIX))),
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(Forward::GATEWAY),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: gives.then_some(LEASE_S),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; answer.buffer_len()];
    answer.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).ok()?;
    Some(bytes)
}
