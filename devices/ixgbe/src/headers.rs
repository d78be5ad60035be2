//! [`Headers`]: the places of the headers in a frame, and sums over them.

/// The network protocol of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Network {
    Other,
    V4 { has_options: bool },
    V6 { has_extensions: bool },
}

/// The transport protocol of an IP packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Other,
    Tcp,
    Udp,
    Sctp,
}

/// The headers of a frame, complete and consistent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Headers {
    /// The tag behind the VLAN EtherType.
    pub(crate) vlan: Option<u16>,
    pub(crate) network: Network,
    pub(crate) transport: Transport,
    /// The offset of the IP header.
    pub(crate) network_at: usize,
    /// The offset of the transport header.
    pub(crate) transport_at: usize,
    /// The end of the IP packet; padding follows.
    pub(crate) end: usize,
    /// True for a fragment, which shows nothing about the whole packet.
    pub(crate) is_fragment: bool,
}

const ETHERTYPE_AT: usize = 12;
const V4: u16 = 0x0800;
const V6: u16 = 0x86dd;

/// Reads a big-endian word; 0 beyond the end.
#[inline]
pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

impl Headers {
    /// Parses a frame; `vlan_type` is the EtherType of VLAN tags.
    #[inline]
    pub(crate) fn parse(frame: &[u8], vlan_type: u16) -> Self {
        let mut kind = word(frame, ETHERTYPE_AT);
        let mut at = ETHERTYPE_AT + 2;
        let mut vlan = None;
        if kind == vlan_type {
            vlan = Some(word(frame, at));
            kind = word(frame, at + 2);
            at += 4;
        }
        let none = Self {
            vlan,
            network: Network::Other,
            transport: Transport::Other,
            network_at: at,
            transport_at: at,
            end: frame.len(),
            is_fragment: false,
        };
        let found = match kind {
            V4 => v4(frame, at),
            V6 => v6(frame, at),
            _ => None,
        };
        found.map_or(none, |headers| Self { vlan, ..headers })
    }
}

fn v4(frame: &[u8], at: usize) -> Option<Headers> {
    let header = frame.get(at..at + 20)?;
    let header_bytes = usize::from(header[0] & 0xf) * 4;
    let end = at + usize::from(word(header, 2));
    if header[0] >> 4 != 4 || header_bytes < 20 || end < at + header_bytes || end > frame.len() {
        return None;
    }
    // More fragments follow, or this is not the first.
    let is_fragment = word(header, 6) & 0x3fff != 0;
    let transport_at = at + header_bytes;
    Some(Headers {
        vlan: None,
        network: Network::V4 { has_options: header_bytes > 20 },
        transport: transport(header[9], frame, transport_at, end, is_fragment),
        network_at: at,
        transport_at,
        end,
        is_fragment,
    })
}

fn v6(frame: &[u8], at: usize) -> Option<Headers> {
    let header = frame.get(at..at + 40)?;
    let end = at + 40 + usize::from(word(header, 4));
    if header[0] >> 4 != 6 || end > frame.len() {
        return None;
    }
    let (mut next, mut transport_at, mut is_fragment) = (header[6], at + 40, false);
    // Hop-by-hop options, routing, fragment, destination options. Hardware does not look through more than a
    // few of them.
    for _ in 0..8 {
        let bytes = match next {
            0 | 43 | 60 => 8 * (1 + usize::from(*frame.get(transport_at + 1)?)),
            44 => {
                is_fragment = true;
                8
            }
            _ => break,
        };
        if transport_at + bytes > end {
            return None;
        }
        next = frame[transport_at];
        transport_at += bytes;
    }
    Some(Headers {
        vlan: None,
        network: Network::V6 { has_extensions: transport_at > at + 40 },
        transport: transport(next, frame, transport_at, end, is_fragment),
        network_at: at,
        transport_at,
        end,
        is_fragment,
    })
}

/// Returns the transport protocol, if its header is complete.
fn transport(protocol: u8, frame: &[u8], at: usize, end: usize, is_fragment: bool) -> Transport {
    let (kind, header_bytes) = match protocol {
        6 => (Transport::Tcp, 20),
        17 => (Transport::Udp, 8),
        132 => (Transport::Sctp, 12),
        _ => return Transport::Other,
    };
    if is_fragment || end < at + header_bytes || frame.len() < end { Transport::Other } else { kind }
}

/// The ones' complement sum of 16-bit words (RFC 1071), not complemented; `first` is another such sum.
pub(crate) fn sum(bytes: &[u8], first: u16) -> u16 {
    // Sums of any width fold to the same value, and the byte order can be corrected at the end.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_le_bytes(*word))).sum();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    total += u64::from(u32::from_le_bytes(last)) + u64::from(first.to_be());
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::from_be(total as u16)
}

/// The sum over the pseudo header (RFC 9293, section 3.1; RFC 8200, section 8.1).
pub(crate) fn pseudo_sum(frame: &[u8], headers: &Headers, protocol: u8) -> u16 {
    let addresses = match headers.network {
        Network::V4 { .. } => headers.network_at + 12..headers.network_at + 20,
        Network::V6 { .. } => headers.network_at + 8..headers.network_at + 40,
        Network::Other => return 0,
    };
    let bytes = (headers.end - headers.transport_at) as u32;
    let [a, b, c, d] = bytes.to_be_bytes();
    sum(frame.get(addresses).unwrap_or(&[]), sum(&[a, b, c, d, 0, protocol], 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_match_the_example_of_rfc_1071() {
        // RFC 1071, section 3.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7], 0), 0xddf2);
        assert_eq!(sum(&[0x12], 0), 0x1200);
        assert_eq!(sum(&[], 0xffff), 0xffff);
    }

    #[test]
    fn an_incomplete_header_is_not_recognized() {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&V4.to_be_bytes());
        frame[14] = 0x45;
        frame[17] = 46;
        frame[23] = 17;
        let headers = Headers::parse(&frame, 0x8100);
        assert_eq!(
            (headers.network, headers.transport),
            (Network::V4 { has_options: false }, Transport::Udp)
        );
        frame[17] = 47;
        assert_eq!(Headers::parse(&frame, 0x8100).network, Network::Other);
        frame[17] = 27;
        assert_eq!(Headers::parse(&frame, 0x8100).transport, Transport::Other);
        for len in 0..60 {
            Headers::parse(&frame[..len], 0x8100);
        }
    }
}
