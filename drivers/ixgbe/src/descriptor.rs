//! Advanced descriptors, which the 82599, the X540 and the 82576 share (82599 datasheet, sections 7.1.6 and
//! 7.2.3; 82576 datasheet, sections 7.1.5 and 7.2.2).

use coppice_hardware::DmaAddr;

use crate::format::{Offload, Transport};

// The second word of a transmit descriptor.
const DTYP_CONTEXT: u64 = 0b0010 << 20;
const DTYP_DATA: u64 = 0b0011 << 20;
/// End of packet.
const EOP: u64 = 1 << 24;
/// Insert FCS.
const IFCS: u64 = 1 << 25;
/// Report status.
pub(crate) const RS: u64 = 1 << 27;
/// Descriptor extension: the advanced format.
const DEXT: u64 = 1 << 29;
/// Descriptor done, written back.
const SENT_DD: u64 = 1 << 32;
/// Check context: the packet uses a context of the queue, here always the first (IDX 0).
const CC: u64 = 1 << 39;
const POPTS_IXSM: u64 = 1 << 40;
const POPTS_TXSM: u64 = 1 << 41;
const PAYLEN_SHIFT: u32 = 46;

// The second word of a context descriptor.
const TUCMD_IPV4: u64 = 1 << 10;
const TUCMD_UDP: u64 = 0b00 << 11;
const TUCMD_TCP: u64 = 0b01 << 11;

/// Returns a transmit data descriptor for a part of a frame of `frame` bytes; `options` mark the last part
/// and checksums.
#[inline(always)]
pub(crate) fn data(address: DmaAddr, len: usize, frame: usize, options: u64) -> [u64; 2] {
    let second = len as u64 | DTYP_DATA | IFCS | DEXT | (frame as u64) << PAYLEN_SHIFT | options;
    [address.to_bits(), second]
}

/// The option that marks the last descriptor of a frame.
pub(crate) const LAST: u64 = EOP;

/// Returns true if a transmit descriptor is done.
#[inline(always)]
pub(crate) const fn is_sent(second: u64) -> bool {
    second & SENT_DD != 0
}

/// Returns the options of a data descriptor that uses the context of [`context`].
#[inline]
pub(crate) fn offload_options(offload: &Offload) -> u64 {
    let ip = if offload.ip { POPTS_IXSM } else { 0 };
    let transport = if offload.transport.is_some() { POPTS_TXSM } else { 0 };
    CC | ip | transport
}

/// Returns the context descriptor with the header lengths: MACLEN and IPLEN in the first word, the protocols
/// in the second.
#[inline]
pub(crate) fn context(offload: &Offload) -> [u64; 2] {
    let first = u64::from(offload.network_bytes) | u64::from(offload.link_bytes) << 9;
    let transport = match offload.transport {
        Some(Transport::Tcp) => TUCMD_TCP,
        Some(Transport::Udp) | None => TUCMD_UDP,
    };
    let ipv4 = if offload.ip { TUCMD_IPV4 } else { 0 };
    [first, DTYP_CONTEXT | DEXT | transport | ipv4]
}

// The second word of a receive descriptor as written back.
const DD: u64 = 1 << 0;
const RECEIVED_EOP: u64 = 1 << 1;
const L4I: u64 = 1 << 5;
const IPCS: u64 = 1 << 6;
const RXE: u64 = 1 << 29;
const L4E: u64 = 1 << 30;
const IPE: u64 = 1 << 31;
// The first word.
const RSS_TYPE: u64 = 0xF;
const PACKET_UDP: u64 = 1 << 9;
/// The packet type is the index of an EtherType filter, not a set of headers.
const PACKET_ETQF: u64 = 1 << 15;

/// The device's report on a received packet: a frame or a part of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Received {
    first: u64,
    second: u64,
}

impl Received {
    #[inline(always)]
    pub(crate) const fn new(first: u64, second: u64) -> Self {
        Self { first, second }
    }

    /// Returns the report of a frame's last part, with status and errors from `by`.
    pub(crate) const fn ended(self, by: u64) -> Self {
        // Only the last descriptor has valid status and errors; the length is this part's.
        Self { first: self.first, second: self.second & !0xFFFF_FFFF | by & 0xFFFF_FFFF }
    }

    /// Returns the number of bytes in this packet, without FCS.
    #[inline(always)]
    #[allow(clippy::len_without_is_empty, reason = "nothing is received without bytes")]
    pub const fn len(&self) -> u32 {
        received_len(self.second)
    }

    /// Returns true if the frame continues in the next packet.
    #[inline(always)]
    pub const fn continues(&self) -> bool {
        self.second & RECEIVED_EOP == 0
    }

    /// Returns true if the IPv4 header checksum is right; `None` if the device did not check it.
    #[inline(always)]
    pub const fn ip_checksum(&self) -> Option<bool> {
        if self.second & IPCS != 0 { Some(self.second & IPE == 0) } else { None }
    }

    /// Returns true if the TCP or UDP checksum is right; `None` if the device did not check it, or its result
    /// is not reliable: a UDP datagram without a checksum may be reported as one with a wrong checksum (82599
    /// specification update), so for UDP only "right" counts.
    #[inline(always)]
    pub const fn transport_checksum(&self) -> Option<bool> {
        if self.second & L4I == 0 {
            return None;
        }
        if self.second & L4E == 0 {
            return Some(true);
        }
        if self.first & (PACKET_UDP | PACKET_ETQF) == PACKET_UDP { None } else { Some(false) }
    }

    /// Returns true if a checked checksum is wrong, or may be.
    #[inline(always)]
    pub const fn has_bad_checksum(&self) -> bool {
        self.second & (IPE | L4E) != 0
    }

    /// Returns the RSS hash; `None` if the frame is of a kind that is not hashed.
    #[inline(always)]
    pub const fn hash(&self) -> Option<u32> {
        if self.first & RSS_TYPE != 0 { Some((self.first >> 32) as u32) } else { None }
    }
}

/// Returns true if the device has completed a receive descriptor.
#[inline(always)]
pub(crate) const fn is_received(second: u64) -> bool {
    second & DD != 0
}

/// Returns true for a whole frame without an error, which nearly all are.
#[inline(always)]
pub(crate) const fn is_plain(second: u64) -> bool {
    second & (DD | RECEIVED_EOP | RXE) == DD | RECEIVED_EOP
}

/// Returns true for the last descriptor of a frame.
pub(crate) const fn is_last(second: u64) -> bool {
    second & RECEIVED_EOP != 0
}

/// Returns true if the frame was damaged in transit.
pub(crate) const fn is_damaged(second: u64) -> bool {
    second & RXE != 0
}

/// PKT_LEN.
#[inline(always)]
pub(crate) const fn received_len(second: u64) -> u32 {
    (second >> 32) as u32 & 0xFFFF
}
