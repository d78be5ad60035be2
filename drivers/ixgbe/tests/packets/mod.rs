//! Packets for tests: a page each, with its head in the first bytes.

// Each test binary uses only some of the items.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries that each use a part")]

use coppice_hardware::{Device, DmaMemory};
use ixgbe_driver::{Offload, PacketFormat, Transport};

/// The offset of a frame, unless shifted.
pub const START: usize = 64;

const LEN: usize = 0;
const CONTINUES: usize = 4;
const OFFLOAD: usize = 8;
const HEADERS: usize = 12;
const TAG: usize = 16;
/// The shift of the frame from [`START`].
const SHIFT: usize = 20;

/// The format of test packets.
pub struct Packets;

impl PacketFormat for Packets {
    type Packet = DmaMemory;

    fn start(packet: &DmaMemory) -> usize {
        START + packet.read::<u32>(SHIFT) as usize
    }

    fn len(packet: &DmaMemory) -> usize {
        packet.read::<u32>(LEN) as usize
    }

    fn continues(packet: &DmaMemory) -> bool {
        packet.read::<u32>(CONTINUES) != 0
    }

    fn offload(packet: &DmaMemory) -> Option<Offload> {
        let (what, headers) = (packet.read::<u32>(OFFLOAD), packet.read::<u32>(HEADERS));
        let transport = match what >> 4 & 0xF {
            1 => Some(Transport::Tcp),
            2 => Some(Transport::Udp),
            _ => None,
        };
        let (link_bytes, network_bytes) = (headers as u8, (headers >> 16) as u16);
        (what != 0).then_some(Offload { ip: what & 1 != 0, transport, link_bytes, network_bytes })
    }

    fn pad(packet: &mut DmaMemory, len: usize) -> bool {
        let (old, start) = (Self::len(packet), Self::start(packet));
        if start + len > packet.len() {
            return false;
        }
        packet.write_bytes(start + old, &vec![0; len - old]);
        packet.write(LEN, len as u32);
        true
    }
}

/// Returns a spare packet with the number `tag`.
pub fn spare(device: &Device, tag: u32) -> DmaMemory {
    let mut packet = device.dma(4096).expect("memory");
    packet.write(TAG, tag);
    packet
}

/// Makes a packet spare again.
pub fn clear(mut packet: DmaMemory) -> DmaMemory {
    for at in [LEN, CONTINUES, OFFLOAD, HEADERS, SHIFT] {
        packet.write(at, 0_u32);
    }
    packet
}

pub fn tag(packet: &DmaMemory) -> u32 {
    packet.read(TAG)
}

/// Stores a frame in a packet.
pub fn fill(mut packet: DmaMemory, bytes: &[u8]) -> DmaMemory {
    packet.write_bytes(START, bytes);
    set_len(packet, bytes.len())
}

/// Sets the length of the frame, valid or not.
pub fn set_len(mut packet: DmaMemory, len: usize) -> DmaMemory {
    packet.write(LEN, len as u32);
    packet
}

pub fn set_continues(mut packet: DmaMemory, continues: bool) -> DmaMemory {
    packet.write(CONTINUES, u32::from(continues));
    packet
}

pub fn set_shift(mut packet: DmaMemory, shift: u32) -> DmaMemory {
    packet.write(SHIFT, shift);
    packet
}

pub fn set_offload(mut packet: DmaMemory, offload: Offload) -> DmaMemory {
    let transport = match offload.transport {
        None => 0,
        Some(Transport::Tcp) => 1,
        Some(Transport::Udp) => 2,
    };
    // A request is present even if it requests no checksum.
    packet.write(OFFLOAD, 1 << 8 | transport << 4 | u32::from(offload.ip));
    packet.write(HEADERS, u32::from(offload.link_bytes) | u32::from(offload.network_bytes) << 16);
    packet
}

/// Returns the first `len` bytes from [`START`] on.
pub fn bytes(packet: &DmaMemory, len: usize) -> Vec<u8> {
    let mut found = vec![0; len];
    packet.read_bytes(START, &mut found);
    found
}

/// Returns a frame of `len` bytes with an Ethernet header, whose content depends on `seed`.
pub fn frame(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut frame: Vec<u8> = (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    for (at, byte) in [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 0x88, 0xb5].into_iter().enumerate() {
        if at < len {
            frame[at] = byte;
        }
    }
    frame
}
