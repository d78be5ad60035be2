//! [`Dhcp`]: a DHCP server (RFC 2131). There is one guest, and so one address.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::wire::{
    DHCP_CLIENT_PORT, DHCP_SERVER_PORT, DhcpMessageType, DhcpPacket, DhcpRepr, IpAddress, Ipv4Address,
};

use crate::user_net::UserNet;

/// The most queued messages.
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

    /// Replies to all queued messages.
    pub(super) fn serve(&self, sockets: &mut SocketSet<'static>) {
        let socket = sockets.get_mut::<Socket<'_>>(self.0);
        while socket.can_send() {
            let Ok((message, _)) = socket.recv() else { break };
            if let Some(reply) = reply_to(message) {
                // A full queue loses the reply, and the guest repeats its request.
                let _ =
                    socket.send_slice(&reply, (IpAddress::Ipv4(Ipv4Address::BROADCAST), DHCP_CLIENT_PORT));
            }
        }
    }
}

fn reply_to(message: &[u8]) -> Option<Vec<u8>> {
    let packet = DhcpPacket::new_checked(message).ok()?;
    let request = DhcpRepr::parse(&packet).ok()?;
    let message_type = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request => match request.requested_ip {
            Some(address) if address != UserNet::GUEST => DhcpMessageType::Nak,
            _ => DhcpMessageType::Ack,
        },
        _ => return None,
    };
    let grants = message_type != DhcpMessageType::Nak;
    let reply = DhcpRepr {
        message_type,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: Ipv4Address::UNSPECIFIED,
        your_ip: if grants { UserNet::GUEST } else { Ipv4Address::UNSPECIFIED },
        server_ip: UserNet::GATEWAY,
        router: grants.then_some(UserNet::GATEWAY),
        subnet_mask: grants.then_some(Ipv4Address::from_bits(u32::MAX << (32 - UserNet::PREFIX))),
        relay_agent_ip: Ipv4Address::UNSPECIFIED,
        broadcast: true,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(UserNet::GATEWAY),
        parameter_request_list: None,
        dns_servers: None,
        max_size: None,
        lease_duration: grants.then_some(LEASE_S),
        renew_duration: None,
        rebind_duration: None,
        additional_options: &[],
    };
    let mut bytes = vec![0; reply.buffer_len()];
    reply.emit(&mut DhcpPacket::new_unchecked(&mut bytes)).ok()?;
    Some(bytes)
}
