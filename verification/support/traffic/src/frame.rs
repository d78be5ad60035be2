//! The position of a message in its frame, and the headers around it.

use crate::DecodeError;
use crate::bytes::{get, put};

/// IEEE Std 802 - Local Experimental Ethertype 1.
pub const ETHER_TYPE: u16 = 0x88b5;
/// The destination port of test frames with flows: the same number.
pub const UDP_PORT: u16 = ETHER_TYPE;
/// The shortest frame on a wire (IEEE 802.3, 4A.4.2), and the shortest test frame. Each test message fits it.
pub const SHORTEST_FRAME: usize = 60;
/// The longest test frame: an MTU of 9216 with its header.
pub const LONGEST_FRAME: usize = 9230;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
const ETHER_TYPE_AT: usize = 12;
/// Bytes of an IPv4 header without options.
const IPV4: usize = 20;
const UDP: usize = 8;
const IPV4_TYPE: u16 = 0x0800;
const PROTOCOL_UDP: u8 = 17;
/// The offset of a message behind IPv4 and UDP.
pub(crate) const FLOW_MESSAGE: usize = ETHERNET + IPV4 + UDP;

const CHECKSUM_AT: usize = ETHERNET + 10;
const SOURCE_AT: usize = ETHERNET + 12;
const PORT_AT: usize = ETHERNET + IPV4;

/// The networks reserved for device tests (RFC 2544, appendix C.2.2): flows go from one half to the other.
const SOURCE_NET: u32 = 198 << 24 | 18 << 16;
const DESTINATION: u32 = 198 << 24 | 19 << 16 | 1;
/// Source ports begin above the well-known ones.
const FIRST_PORT: u16 = 1024;

/// Returns the filler byte of a test frame at this offset of the frame.
#[inline]
pub const fn filler(offset: usize) -> u8 {
    // An odd factor reaches all values; the upper part exposes a shift by 256.
    (offset as u8).wrapping_mul(7).wrapping_add((offset >> 8) as u8 * 29) ^ 0x5a
}

/// Returns the offset of the message in a frame of this protocol.
///
/// # Errors
/// [`DecodeError`] when the frame is of another protocol or too short.
#[inline]
pub fn message_offset(frame: &[u8]) -> Result<usize, DecodeError> {
    if frame.len() < ETHERNET {
        return Err(DecodeError::TooShort { bytes: frame.len(), least: ETHERNET });
    }
    let ether_type = get::<2>(frame, ETHER_TYPE_AT) as u16;
    match ether_type {
        ETHER_TYPE => Ok(ETHERNET),
        IPV4_TYPE if is_flow(frame) => Ok(FLOW_MESSAGE),
        _ => Err(DecodeError::Foreign { ether_type }),
    }
}

/// Returns true for IPv4 without options, UDP, and the port of the protocol.
#[inline]
fn is_flow(frame: &[u8]) -> bool {
    frame.len() >= FLOW_MESSAGE
        && frame[ETHERNET] == 0x45
        && frame[ETHERNET + 9] == PROTOCOL_UDP
        && get::<2>(frame, PORT_AT + 2) as u16 == UDP_PORT
}

/// Writes the Ethernet header of a frame that has room for it.
pub(crate) fn put_ethernet(frame: &mut [u8], destination: [u8; 6], source: [u8; 6], has_flows: bool) {
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&source);
    put::<2>(frame, ETHER_TYPE_AT, u64::from(if has_flows { IPV4_TYPE } else { ETHER_TYPE }));
}

/// Writes the headers between Ethernet and the message of a frame of this length, of flow 0.
pub(crate) fn put_flow_headers(frame: &mut [u8]) {
    let ip_bytes = frame.len() - ETHERNET;
    frame[ETHERNET..FLOW_MESSAGE].fill(0);
    frame[ETHERNET] = 0x45;
    put::<2>(frame, ETHERNET + 2, ip_bytes as u64);
    // Don't fragment; 64 hops.
    frame[ETHERNET + 6] = 0x40;
    frame[ETHERNET + 8] = 64;
    frame[ETHERNET + 9] = PROTOCOL_UDP;
    put::<4>(frame, ETHERNET + 16, u64::from(DESTINATION));
    put::<2>(frame, PORT_AT + 2, u64::from(UDP_PORT));
    // No checksum (RFC 768): it would cover the whole frame.
    put::<2>(frame, PORT_AT + 4, (ip_bytes - IPV4) as u64);
    put_flow(frame, 0);
}

/// Turns a frame with these headers into one of this flow.
#[inline]
pub(crate) fn put_flow(frame: &mut [u8], flow: u16) {
    let source = SOURCE_NET | u32::from(flow);
    put::<4>(frame, SOURCE_AT, u64::from(source));
    put::<2>(frame, PORT_AT, u64::from(FIRST_PORT.wrapping_add(flow % (u16::MAX - FIRST_PORT))));
    put::<2>(frame, CHECKSUM_AT, 0);
    let sum: u64 = frame[ETHERNET..ETHERNET + IPV4]
        .as_chunks::<2>()
        .0
        .iter()
        .map(|pair| u64::from(u16::from_be_bytes(*pair)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    put::<2>(frame, CHECKSUM_AT, u64::from(!(((folded & 0xffff) + (folded >> 16)) as u16)));
}
