//! Transmit offloads: checksums and segmentation (82599 datasheet, section 7.2.4 and 7.2.5).

use crate::headers::{sum, word};
use crate::ring::Descriptor;

/// A context descriptor: the places of the headers in the frames that refer to it (section 7.2.3.2.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Context {
    pub(crate) vlan: u16,
    link_bytes: usize,
    network_bytes: usize,
    transport_bytes: usize,
    segment_bytes: usize,
    is_v4: bool,
    transport: L4Type,
}

/// The transport protocol (TUCMD.L4T).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum L4Type {
    #[default]
    Udp,
    Tcp,
    /// SCTP, whose CRC32c is not computed, or none.
    Other,
}

/// The checksums that a frame requests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Offload {
    pub(crate) network: bool,
    pub(crate) transport: bool,
}

impl Context {
    pub(crate) fn parse([first, last]: Descriptor) -> Self {
        Self {
            vlan: (first >> 16) as u16,
            link_bytes: (first >> 9 & 0x7f) as usize,
            network_bytes: (first & 0x1ff) as usize,
            transport_bytes: (last >> 40 & 0xff) as usize,
            segment_bytes: (last >> 48) as usize,
            is_v4: last >> 10 & 1 != 0,
            transport: match last >> 11 & 3 {
                0 => L4Type::Udp,
                1 => L4Type::Tcp,
                _ => L4Type::Other,
            },
        }
    }

    fn transport_at(&self) -> usize {
        self.link_bytes + self.network_bytes
    }

    /// The offset of the checksum in the transport header.
    fn checksum_at(&self) -> Option<usize> {
        match self.transport {
            L4Type::Udp => Some(6),
            L4Type::Tcp => Some(16),
            L4Type::Other => None,
        }
    }
}

/// Fills in checksums. A checksum outside the frame is not written.
pub(crate) fn fill_in(frame: &mut [u8], context: &Context, offload: Offload) {
    let (network_at, transport_at) = (context.link_bytes, context.transport_at());
    if offload.network && context.is_v4 && network_at + 20 <= transport_at && transport_at <= frame.len() {
        frame[network_at + 10..network_at + 12].fill(0);
        put_sum(frame, network_at + 10, !sum(&frame[network_at..transport_at], 0));
    }
    if offload.transport
        && let Some(field) = context.checksum_at()
        && transport_at + field + 2 <= frame.len()
    {
        // The field holds the driver's sum over the pseudo header.
        let mut value = !sum(&frame[transport_at..], 0);
        if context.transport == L4Type::Udp && value == 0 {
            // 0 means that there is no checksum (RFC 768).
            value = 0xffff;
        }
        put_sum(frame, transport_at + field, value);
    }
}

fn put_sum(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Segments a packet into frames of at most MSS bytes of payload each, with updated headers (section
/// 7.2.4.6).
pub(crate) fn segment(packet: &[u8], context: &Context, offload: Offload, mut each: impl FnMut(Vec<u8>)) {
    let header_bytes = context.transport_at() + context.transport_bytes;
    let least = match context.transport {
        L4Type::Tcp => 20,
        _ => 8,
    };
    if context.segment_bytes == 0
        || packet.len() <= header_bytes
        || context.transport_bytes < least
        || context.network_bytes < 20
    {
        return;
    }
    let (header, payload) = packet.split_at(header_bytes);
    let segments = payload.len().div_ceil(context.segment_bytes);
    for (index, data) in payload.chunks(context.segment_bytes).enumerate() {
        let mut frame = Vec::with_capacity(header_bytes + data.len());
        frame.extend_from_slice(header);
        frame.extend_from_slice(data);
        let is_last = index + 1 == segments;
        let (at, transport_at) = (context.link_bytes, context.transport_at());
        let ip_bytes = (frame.len() - at) as u16;
        if context.is_v4 {
            put_sum(&mut frame, at + 2, ip_bytes);
            let id = word(header, at + 4).wrapping_add(index as u16);
            put_sum(&mut frame, at + 4, id);
        } else {
            // The payload length excludes the fixed header of 40 bytes.
            put_sum(&mut frame, at + 4, ip_bytes.saturating_sub(40));
        }
        let transport_bytes = (frame.len() - transport_at) as u16;
        let field = transport_at + if context.transport == L4Type::Tcp { 16 } else { 6 };
        if context.transport == L4Type::Tcp {
            let sequence =
                u32::from(word(header, transport_at + 4)) << 16 | u32::from(word(header, transport_at + 6));
            let sequence = sequence.wrapping_add((index * context.segment_bytes) as u32);
            frame[transport_at + 4..transport_at + 8].copy_from_slice(&sequence.to_be_bytes());
            if !is_last {
                // FIN and PSH belong to the last segment.
                frame[transport_at + 13] &= !0x09;
            }
        } else {
            put_sum(&mut frame, transport_at + 4, transport_bytes);
        }
        // The driver's sum over the pseudo header has no length, which differs by segment.
        let seed = sum(&transport_bytes.to_be_bytes(), word(&frame, field));
        put_sum(&mut frame, field, seed);
        fill_in(&mut frame, context, Offload { transport: true, ..offload });
        each(frame);
    }
}
