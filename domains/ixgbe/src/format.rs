//! [`Format`]: the layout of a client's packets, for the driver.

use coppice_net::{Frame, Packet};
use coppice_rref::Lent;
use ixgbe_driver::{Offload, PacketFormat, Transport};

/// Packets of the network interface. A borrower wrote the head, so the driver checks its values against the
/// packet's size.
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
        // `set_frame` clears the offload request; the padded frame still needs it.
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
        // A request for both is invalid; the driver checks the one that remains against the frame.
        transport: match (request.tcp_checksum, request.udp_checksum) {
            (true, _) => Some(Transport::Tcp),
            (_, true) => Some(Transport::Udp),
            _ => None,
        },
        link_bytes: request.link_bytes,
        network_bytes: request.network_bytes,
    }
}
