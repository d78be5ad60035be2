//! [`PacketHead`]: what a packet says of its frame.

use core::fmt;

use coppice_rref::{AnyBits, Flat, Shareable};

use super::Refusal;

/// The frame goes on in the next packet.
const CONTINUES: u16 = 1 << 0;
/// To be filled in: the checksum of the IPv4 header.
const IP_CHECKSUM: u16 = 1 << 1;
/// To be filled in: the checksum of TCP.
const TCP_CHECKSUM: u16 = 1 << 2;
/// To be filled in: the checksum of UDP.
const UDP_CHECKSUM: u16 = 1 << 3;
/// Looked at: the checksum of the IPv4 header.
const IP_SEEN: u16 = 1 << 4;
/// And it is wrong.
const IP_BAD: u16 = 1 << 5;
/// Looked at: the checksum of TCP or UDP.
const TRANSPORT_SEEN: u16 = 1 << 6;
/// And it is wrong.
const TRANSPORT_BAD: u16 = 1 << 7;
/// `hash` is one.
const HASHED: u16 = 1 << 8;

const REFUSALS: [Refusal; 4] = [Refusal::TooShort, Refusal::TooLong, Refusal::Incomplete, Refusal::Offload];

/// What a device is to fill in of a frame that it sends.
///
/// For a TCP or UDP checksum the sender has put the sum over the pseudo header into the field, not complemented, as RFC 793 and
/// RFC 768 have it, and as every device with this offload wants it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Request {
    /// The checksum of the IPv4 header. It is 0 in the frame.
    pub ip_checksum: bool,
    /// The checksum of TCP.
    pub tcp_checksum: bool,
    /// The checksum of UDP.
    pub udp_checksum: bool,
    /// Bytes in front of the IP header: 14, or 18 with a VLAN tag.
    pub link_bytes: u8,
    /// Bytes of the IP header, with its options or extensions.
    pub network_bytes: u16,
}

impl Request {
    /// Whether anything is to be filled in.
    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        self.ip_checksum | self.tcp_checksum | self.udp_checksum
    }
}

/// What a device has found of a frame's checksums: `None` is one that it has not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Checks {
    /// Whether the checksum of the IPv4 header is right.
    pub ip: Option<bool>,
    /// Whether the checksum of TCP or UDP is right.
    pub transport: Option<bool>,
}

/// The head of a packet: 64 bytes of which any are a value, since a borrower may die while it writes them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Shareable, Flat, AnyBits)]
#[repr(C)]
pub struct PacketHead {
    tag: u64,
    received_ns: u64,
    len: u32,
    start: u32,
    hash: u32,
    flags: u16,
    refusal: u8,
    link_bytes: u8,
    network_bytes: u16,
    unused: [u16; 3],
    cookie: [u64; 3],
}

const _: () = assert!(size_of::<PacketHead>() == 64);

impl PacketHead {
    /// A spare packet.
    pub const fn new(tag: u64) -> Self {
        Self {
            tag,
            received_ns: 0,
            len: 0,
            start: 0,
            hash: 0,
            flags: 0,
            refusal: 0,
            link_bytes: 0,
            network_bytes: 0,
            unused: [0; 3],
            cookie: [0; 3],
        }
    }

    /// The same, with room in front of each frame, for headers that are put there later.
    #[must_use]
    pub const fn with_start(self, start: u32) -> Self {
        Self { start, ..self }
    }

    /// The client's name for the packet.
    #[inline(always)]
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// Bytes of the frame that are in this packet; 0 if it is spare.
    #[inline(always)]
    #[allow(clippy::len_without_is_empty, reason = "a packet without a frame is spare: is_spare")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether it has no frame.
    #[inline(always)]
    pub const fn is_spare(&self) -> bool {
        self.len == 0
    }

    /// Where in the packet the frame starts. Devices keep to it in both directions.
    #[inline(always)]
    pub const fn start(&self) -> u32 {
        self.start
    }

    /// Has the frame start elsewhere: in front of it a header is to be put, or one is to be taken away.
    #[inline(always)]
    pub const fn set_start(&mut self, start: u32) {
        self.start = start;
    }

    /// Has a frame of `len` bytes, with which nothing is to be done but to send it.
    #[inline(always)]
    pub const fn set_frame(&mut self, len: u32) {
        self.len = len;
        self.flags = 0;
        self.refusal = 0;
    }

    /// Makes it spare.
    #[inline(always)]
    pub const fn clear(&mut self) {
        self.set_frame(0);
    }

    /// Whether the frame goes on in the next packet of the batch.
    #[inline(always)]
    pub const fn continues(&self) -> bool {
        self.flags & CONTINUES != 0
    }

    /// Says whether it does.
    #[inline(always)]
    pub const fn set_continues(&mut self, continues: bool) {
        self.set(CONTINUES, continues);
    }

    /// What is to be filled in.
    #[inline(always)]
    pub const fn request(&self) -> Request {
        Request {
            ip_checksum: self.has(IP_CHECKSUM),
            tcp_checksum: self.has(TCP_CHECKSUM),
            udp_checksum: self.has(UDP_CHECKSUM),
            link_bytes: self.link_bytes,
            network_bytes: self.network_bytes,
        }
    }

    /// Whether anything is: what a driver looks at first.
    #[inline(always)]
    pub const fn has_request(&self) -> bool {
        self.has(IP_CHECKSUM | TCP_CHECKSUM | UDP_CHECKSUM)
    }

    /// Says what is to be filled in. In the first packet of a frame.
    pub const fn set_request(&mut self, request: Request) {
        self.set(IP_CHECKSUM, request.ip_checksum);
        self.set(TCP_CHECKSUM, request.tcp_checksum);
        self.set(UDP_CHECKSUM, request.udp_checksum);
        self.link_bytes = request.link_bytes;
        self.network_bytes = request.network_bytes;
    }

    /// What the device has found, in the last packet of a frame.
    pub const fn checks(&self) -> Checks {
        Checks {
            ip: if self.has(IP_SEEN) { Some(!self.has(IP_BAD)) } else { None },
            transport: if self.has(TRANSPORT_SEEN) { Some(!self.has(TRANSPORT_BAD)) } else { None },
        }
    }

    /// The hash of the frame's addresses, in its last packet.
    #[inline(always)]
    pub const fn hash(&self) -> Option<u32> {
        if self.has(HASHED) { Some(self.hash) } else { None }
    }

    /// When the driver found the frame, in nanoseconds since boot. Frames that it found together have the same time.
    #[inline(always)]
    pub const fn received_ns(&self) -> u64 {
        self.received_ns
    }

    /// For the driver: a frame of `len` bytes has been received.
    #[inline(always)]
    pub const fn receive(
        &mut self,
        len: u32,
        received_ns: u64,
        checks: Checks,
        hash: Option<u32>,
        continues: bool,
    ) {
        self.len = len;
        self.received_ns = received_ns;
        self.refusal = 0;
        let mut flags = 0;
        if let Some(right) = checks.ip {
            flags |= if right { IP_SEEN } else { IP_SEEN | IP_BAD };
        }
        if let Some(right) = checks.transport {
            flags |= if right { TRANSPORT_SEEN } else { TRANSPORT_SEEN | TRANSPORT_BAD };
        }
        if let Some(hash) = hash {
            self.hash = hash;
            flags |= HASHED;
        }
        if continues {
            flags |= CONTINUES;
        }
        self.flags = flags;
    }

    /// Why the frame that was here was not sent; `None` if it was.
    pub const fn refusal(&self) -> Option<Refusal> {
        match self.refusal as usize {
            0 => None,
            code if code <= REFUSALS.len() => Some(REFUSALS[code - 1]),
            _ => Some(Refusal::Unknown),
        }
    }

    /// For the driver: makes it spare, its frame not having been sent.
    pub fn refuse(&mut self, why: Refusal) {
        self.clear();
        let known = REFUSALS.iter().position(|&one| one == why);
        self.refusal = known.map_or(u8::MAX, |index| index as u8 + 1);
    }

    #[inline(always)]
    const fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    #[inline(always)]
    const fn set(&mut self, flag: u16, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }
}

impl fmt::Debug for PacketHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tag, len, start, .. } = self;
        write!(f, "packet {tag}: ")?;
        match (self.refusal(), self.is_spare()) {
            (Some(why), _) => return write!(f, "{why}"),
            (None, true) => return f.write_str("spare"),
            (None, false) => write!(f, "{len} bytes from {start}")?,
        }
        f.write_str(if self.continues() { ", continued" } else { "" })?;
        if self.has_request() {
            write!(f, ", {:?}", self.request())?;
        }
        Ok(())
    }
}
