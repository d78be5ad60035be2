//! Packets for tests: a page each, whose first bytes say what is in it.

// Each test binary uses a part of it.
#![allow(dead_code, unreachable_pub, reason = "shared by test binaries that each use a part")]

use coppice_hardware::{Device, DmaMemory};
use ixgbe_driver::{Offload, PacketFormat, Transport};

/// Where frames begin.
pub const START: usize = 64;

const LEN: usize = 0;
const CONTINUES: usize = 4;
const OFFLOAD: usize = 8;
const HEADERS: usize = 12;
const TAG: usize = 16;
/// Where the frame begins, as a difference to [`START`].
const SHIFT: usize = 20;

/// See the module.
pub struct Packets;

impl PacketFormat for Packets {
    type Buffer = DmaMemory;

    fn start(buffer: &DmaMemory) -> usize {
        START + buffer.read::<u32>(SHIFT) as usize
    }

    fn len(buffer: &DmaMemory) -> usize {
        buffer.read::<u32>(LEN) as usize
    }

    fn continues(buffer: &DmaMemory) -> bool {
        buffer.read::<u32>(CONTINUES) != 0
    }

    fn offload(buffer: &DmaMemory) -> Option<Offload> {
        let (what, headers) = (buffer.read::<u32>(OFFLOAD), buffer.read::<u32>(HEADERS));
        let transport = match what >> 4 & 0xF {
            1 => Some(Transport::Tcp),
            2 => Some(Transport::Udp),
            _ => None,
        };
        let (link_bytes, network_bytes) = (headers as u8, (headers >> 16) as u16);
        (what != 0).then_some(Offload { ip: what & 1 != 0, transport, link_bytes, network_bytes })
    }

    fn pad(buffer: &mut DmaMemory, len: usize) -> bool {
        let (old, start) = (Self::len(buffer), Self::start(buffer));
        if start + len > buffer.len() {
            return false;
        }
        buffer.write_bytes(start + old, &vec![0; len - old]);
        buffer.write(LEN, len as u32);
        true
    }
}

/// A packet without a frame, and its number.
pub fn spare(device: &Device, tag: u32) -> DmaMemory {
    let mut packet = device.dma(4096).expect("memory");
    packet.write(TAG, tag);
    packet
}

/// Makes it spare again.
pub fn clear(mut packet: DmaMemory) -> DmaMemory {
    for at in [LEN, CONTINUES, OFFLOAD, HEADERS, SHIFT] {
        packet.write(at, 0_u32);
    }
    packet
}

pub fn tag(packet: &DmaMemory) -> u32 {
    packet.read(TAG)
}

/// Puts a frame in.
pub fn fill(mut packet: DmaMemory, bytes: &[u8]) -> DmaMemory {
    packet.write_bytes(START, bytes);
    set_len(packet, bytes.len())
}

/// Says how long the frame is, whether it is or not.
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
    // Something is asked for even if it is nothing.
    packet.write(OFFLOAD, 1 << 8 | transport << 4 | u32::from(offload.ip));
    packet.write(HEADERS, u32::from(offload.link_bytes) | u32::from(offload.network_bytes) << 16);
    packet
}

/// The first `len` bytes from where frames begin.
pub fn bytes(packet: &DmaMemory, len: usize) -> Vec<u8> {
    let mut found = vec![0; len];
    packet.read_bytes(START, &mut found);
    found
}

/// `len` bytes that differ by `seed`: a frame from and to stations.
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
