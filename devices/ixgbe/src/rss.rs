//! [`Rss`]: receive side scaling, with the Toeplitz hash of a frame's addresses and the table from hashes to
//! queues (82599 datasheet, section 7.1.2.8).

use crate::headers::{Headers, Network, Transport};
use crate::map::{MRQC, RETA, RSSRK};
use crate::registers::Image;

/// The longest input: two addresses of IPv6 and two ports.
const INPUT_BYTES: usize = 36;
const KEY_BYTES: usize = 40;
const ENTRIES: usize = 128;

/// MRQC.MRQE: RSS alone.
const MODE_RSS: u32 = 1;
/// The kinds of frames that are hashed (MRQC, from bit 16 on).
const TCP_V4: u32 = 1 << 16;
const V4: u32 = 1 << 17;
const V6: u32 = 1 << 20;
const TCP_V6: u32 = 1 << 21;
const UDP_V4: u32 = 1 << 22;
const UDP_V6: u32 = 1 << 23;

/// A hash, and its type in the descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hash {
    pub(crate) value: u32,
    pub(crate) kind: u8,
}

/// The RSS registers, in a form that is quick to use.
pub(crate) struct Rss {
    /// The kinds of frames that are hashed; 0 if RSS is off.
    fields: u32,
    key: [u8; KEY_BYTES],
    /// The contribution of each value of each input byte to the hash.
    parts: Box<[[u32; 256]]>,
    queues: [u8; ENTRIES],
}

impl Rss {
    pub(crate) fn new() -> Self {
        let parts = vec![[0; 256]; INPUT_BYTES].into_boxed_slice();
        Self { fields: 0, key: [0; KEY_BYTES], parts, queues: [0; ENTRIES] }
    }

    /// Updates the hash and the table from the registers.
    pub(crate) fn update(&mut self, image: &Image) {
        let mrqc = image.get(MRQC);
        self.fields = if mrqc & 0xf == MODE_RSS { mrqc & 0xffff_0000 } else { 0 };
        for (index, queue) in self.queues.iter_mut().enumerate() {
            // Four entries in a register, four bits each without virtualization.
            let register = image.get(RETA + index as u64 / 4 * 4);
            *queue = (register >> (8 * (index % 4)) & 0xf) as u8;
        }
        let mut key = [0; KEY_BYTES];
        for (index, bytes) in key.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            *bytes = image.get(RSSRK + 4 * index as u64).to_le_bytes();
        }
        if key != self.key {
            self.key = key;
            self.fill_parts();
        }
    }

    /// Returns true if any frame is hashed.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.fields != 0
    }

    fn fill_parts(&mut self) {
        for (place, part) in self.parts.iter_mut().enumerate() {
            // The bits of the key that a set bit of this input byte adds.
            let mut window = [0; 8];
            window[..5].copy_from_slice(&self.key[place..place + 5]);
            let window = u64::from_be_bytes(window);
            for (byte, value) in part.iter_mut().enumerate() {
                let bits = (0..8).filter(|bit| byte >> (7 - bit) & 1 != 0);
                *value = bits.fold(0, |value, bit| value ^ (window << bit >> 32) as u32);
            }
        }
    }

    /// Returns the hash of a frame, if its kind is hashed.
    pub(crate) fn hash(&self, frame: &[u8], headers: &Headers) -> Option<Hash> {
        // Addresses and ports, if that kind is hashed; else addresses only.
        let (addresses, with_ports, addresses_only) = match headers.network {
            Network::V4 { .. } => (12..20, [(TCP_V4, 1), (UDP_V4, 7)], (V4, 2)),
            Network::V6 { .. } => (8..40, [(TCP_V6, 3), (UDP_V6, 8)], (V6, 5)),
            Network::Other => return None,
        };
        let transport = match headers.transport {
            Transport::Tcp => Some(with_ports[0]),
            Transport::Udp => Some(with_ports[1]),
            Transport::Other | Transport::Sctp => None,
        };
        let wanted = |(field, kind): (u32, u8)| (self.fields & field != 0).then_some(kind);
        let at = headers.network_at;
        let addresses = frame.get(at + addresses.start..at + addresses.end)?;
        let value = self.fold(0, addresses, 0);
        if let Some(kind) = transport.and_then(wanted) {
            let ports = frame.get(headers.transport_at..headers.transport_at + 4)?;
            return Some(Hash { value: self.fold(value, ports, addresses.len()), kind });
        }
        wanted(addresses_only).map(|kind| Hash { value, kind })
    }

    /// Returns the queue of frames with this hash.
    pub(crate) fn queue(&self, hash: u32) -> u8 {
        self.queues[hash as usize % ENTRIES]
    }

    fn fold(&self, value: u32, bytes: &[u8], place: usize) -> u32 {
        let parts = self.parts[place..].iter().zip(bytes);
        parts.fold(value, |value, (part, byte)| value ^ part[usize::from(*byte)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the hashes of Microsoft's "Verifying the RSS Hash Calculation".
    const KEY: [u8; KEY_BYTES] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn rss(fields: u32) -> Rss {
        let mut rss = Rss { fields, key: KEY, ..Rss::new() };
        rss.fill_parts();
        rss
    }

    #[test]
    fn hashes_match_the_published_examples() {
        let mut frame = vec![0; 60];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 6]);
        frame[26..30].copy_from_slice(&[66, 9, 149, 187]);
        frame[30..34].copy_from_slice(&[161, 142, 100, 80]);
        frame[34..36].copy_from_slice(&2794_u16.to_be_bytes());
        frame[36..38].copy_from_slice(&1766_u16.to_be_bytes());
        let headers = Headers::parse(&frame, 0x8100);
        let hash = |fields| rss(fields).hash(&frame, &headers);
        assert_eq!(hash(TCP_V4 | V4), Some(Hash { value: 0x51cc_c178, kind: 1 }));
        assert_eq!(hash(V4), Some(Hash { value: 0x323e_8fc2, kind: 2 }));
        assert_eq!(hash(UDP_V4 | V6), None);
    }
}
