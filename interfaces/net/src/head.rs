//! [`PacketHead`]: the description of a packet's frame.

use core::fmt;

use coppice_rref::{AnyBits, Flat, Shareable};

use crate::Refusal;

/// The frame continues in the next packet.
const CONTINUES: u16 = 1 << 0;
/// Request to fill in the checksum of the IPv4 header.
const IP_CHECKSUM: u16 = 1 << 1;
/// Request to fill in the TCP checksum.
const TCP_CHECKSUM: u16 = 1 << 2;
/// Request to fill in the UDP checksum.
const UDP_CHECKSUM: u16 = 1 << 3;
/// The device has verified the checksum of the IPv4 header.
const IP_SEEN: u16 = 1 << 4;
/// The checksum of the IPv4 header is wrong.
const IP_BAD: u16 = 1 << 5;
/// The device has verified the TCP or UDP checksum.
const TRANSPORT_SEEN: u16 = 1 << 6;
/// The TCP or UDP checksum is wrong.
const TRANSPORT_BAD: u16 = 1 << 7;
/// `hash` is valid.
const HASHED: u16 = 1 << 8;

const REFUSALS: [Refusal; 4] = [Refusal::TooShort, Refusal::TooLong, Refusal::Incomplete, Refusal::Offload];

/// The checksums that a device fills in when it sends a frame.
///
/// For a TCP or UDP checksum the sender puts the sum over the pseudo header into the field, not complemented
/// (RFC 793, RFC 768), as every device with this offload expects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChecksumOffload {
    /// Fill in the checksum of the IPv4 header. The field is 0 in the frame.
    pub ip_checksum: bool,
    /// Fill in the TCP checksum.
    pub tcp_checksum: bool,
    /// Fill in the UDP checksum.
    pub udp_checksum: bool,
    /// The number of bytes before the IP header: 14, or 18 with a VLAN tag.
    pub link_bytes: u8,
    /// The size of the IP header in bytes, with its options or extensions.
    pub network_bytes: u16,
}

impl ChecksumOffload {
    /// Returns true if any checksum is requested.
    #[inline(always)]
    pub const fn is_some(&self) -> bool {
        self.ip_checksum | self.tcp_checksum | self.udp_checksum
    }
}

/// The checksums that a device has verified. `None` means not verified.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ChecksumReport {
    /// True if the checksum of the IPv4 header is correct.
    pub ip: Option<bool>,
    /// True if the TCP or UDP checksum is correct.
    pub transport: Option<bool>,
}

/// The head of a packet. Any 64 bytes are a valid head, since a borrower may die while it writes one.
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
    /// The head of a spare packet.
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

    /// The same head with `start` bytes of headroom before each frame, for headers that are prepended later.
    #[must_use]
    pub const fn with_start(self, start: u32) -> Self {
        Self { start, ..self }
    }

    /// The client's tag.
    #[inline(always)]
    pub const fn tag(&self) -> u64 {
        self.tag
    }

    /// The number of the frame's bytes in this packet; 0 if it is spare.
    #[inline(always)]
    #[allow(clippy::len_without_is_empty, reason = "a packet without a frame is spare: is_spare")]
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Returns true if the packet holds no frame.
    #[inline(always)]
    pub const fn is_spare(&self) -> bool {
        self.len == 0
    }

    /// The offset of the frame in the packet. Devices use it in both directions.
    #[inline(always)]
    pub const fn start(&self) -> u32 {
        self.start
    }

    /// Sets the offset of the frame, to prepend or remove a header.
    #[inline(always)]
    pub const fn set_start(&mut self, start: u32) {
        self.start = start;
    }

    /// Sets the length of the frame and clears all flags: the frame is sent without an offload.
    #[inline(always)]
    pub const fn set_frame(&mut self, len: u32) {
        self.len = len;
        self.flags = 0;
        self.refusal = 0;
    }

    /// Makes the packet spare.
    #[inline(always)]
    pub const fn clear(&mut self) {
        self.set_frame(0);
    }

    /// Returns true if the frame continues in the next packet of the batch.
    #[inline(always)]
    pub const fn continues(&self) -> bool {
        self.flags & CONTINUES != 0
    }

    /// Sets or clears that mark.
    #[inline(always)]
    pub const fn set_continues(&mut self, continues: bool) {
        self.set(CONTINUES, continues);
    }

    /// The requested checksum offload.
    #[inline(always)]
    pub const fn offload(&self) -> ChecksumOffload {
        ChecksumOffload {
            ip_checksum: self.has(IP_CHECKSUM),
            tcp_checksum: self.has(TCP_CHECKSUM),
            udp_checksum: self.has(UDP_CHECKSUM),
            link_bytes: self.link_bytes,
            network_bytes: self.network_bytes,
        }
    }

    /// Returns true if any checksum offload is requested. A driver tests this first.
    #[inline(always)]
    pub const fn has_offload(&self) -> bool {
        self.has(IP_CHECKSUM | TCP_CHECKSUM | UDP_CHECKSUM)
    }

    /// Requests a checksum offload. Set it in the first packet of a frame.
    pub const fn set_offload(&mut self, offload: ChecksumOffload) {
        self.set(IP_CHECKSUM, offload.ip_checksum);
        self.set(TCP_CHECKSUM, offload.tcp_checksum);
        self.set(UDP_CHECKSUM, offload.udp_checksum);
        self.link_bytes = offload.link_bytes;
        self.network_bytes = offload.network_bytes;
    }

    /// The verified checksums, in the last packet of a received frame.
    pub const fn checks(&self) -> ChecksumReport {
        ChecksumReport {
            ip: if self.has(IP_SEEN) { Some(!self.has(IP_BAD)) } else { None },
            transport: if self.has(TRANSPORT_SEEN) { Some(!self.has(TRANSPORT_BAD)) } else { None },
        }
    }

    /// The hash of the frame's addresses, in the last packet of a received frame.
    #[inline(always)]
    pub const fn hash(&self) -> Option<u32> {
        if self.has(HASHED) { Some(self.hash) } else { None }
    }

    /// The time at which the driver found the frame, in nanoseconds since boot. Frames found together have
    /// the same time.
    #[inline(always)]
    pub const fn received_ns(&self) -> u64 {
        self.received_ns
    }

    /// Records a received frame of `len` bytes. For the driver.
    #[inline(always)]
    pub const fn receive(
        &mut self,
        len: u32,
        received_ns: u64,
        checks: ChecksumReport,
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

    /// The reason why the packet's frame was not sent; `None` if it was.
    pub const fn refusal(&self) -> Option<Refusal> {
        match self.refusal as usize {
            0 => None,
            code if code <= REFUSALS.len() => Some(REFUSALS[code - 1]),
            _ => Some(Refusal::Unknown),
        }
    }

    /// Makes the packet spare and records why its frame was not sent. For the driver.
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
        if self.has_offload() {
            write!(f, ", {:?}", self.offload())?;
        }
        Ok(())
    }
}
