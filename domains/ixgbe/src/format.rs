//! [`Format`]: a client's packets, as the driver reads them.

use coppice_net::{Frame, Packet};
use coppice_rref::Lent;
use ixgbe_driver::{Offload, PacketFormat, Transport};

/// Packets of the network interface. What a head says is a borrower's word: the driver holds it against the packet's size.
pub struct Format;

impl PacketFormat for Format {
    type Packet = Lent<Packet>;

    #[inline(always)]
    fn start(packet: &Lent<Packet>) -> usize {
        packet.head().start() as usize
    }

    #[inline(always)]
    fn len(packet: &Lent<Packet>) -> usize {
        packet.head().len() as usize
    }

    #[inline(always)]
    fn continues(packet: &Lent<Packet>) -> bool {
        packet.head().continues()
    }

    #[inline(always)]
    fn offload(packet: &Lent<Packet>) -> Option<Offload> {
        if packet.head().has_offload() { Some(offload(packet)) } else { None }
    }

    fn pad(packet: &mut Lent<Packet>, len: usize) -> bool {
        let before = packet.frame().len();
        if packet.room() < len || before > len {
            return false;
        }
        // What is to be filled in stays asked for.
        let request = packet.head().offload();
        packet.set_frame(len)[before..].fill(0);
        packet.head_mut().set_offload(request);
        true
    }
}

#[cold]
fn offload(packet: &Lent<Packet>) -> Offload {
    let request = packet.head().offload();
    Offload {
        ip: request.ip_checksum,
        // Both at once is nonsense, of which the driver finds the half.
        transport: match (request.tcp_checksum, request.udp_checksum) {
            (true, _) => Some(Transport::Tcp),
            (_, true) => Some(Transport::Udp),
            _ => None,
        },
        link_bytes: request.link_bytes,
        network_bytes: request.network_bytes,
    }
}
