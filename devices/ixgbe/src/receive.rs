//! [`Receiver`]: receives frames from the wire into the buffers of queues (82599 datasheet, section 7.1).

use device_bus::Host;
use device_link::{Damage, Frame};

use crate::buffer::PacketBuffer;
use crate::fcs::fcs;
use crate::filter::{AddressKind, Filter};
use crate::headers::{Headers, Network, Transport, pseudo_sum, sum};
use crate::interrupts::{CAUSE_MISSED, vector_of};
use crate::map::*;
use crate::registers::{Registers, rx_queue};
use crate::ring::{Descriptor, Ring, WriteBack};
use crate::rss::{Hash, Rss};
use crate::statistics::{Counter, SETS, size_class};

const FCS_BYTES: usize = 4;
/// The shortest frame, FCS included.
const SHORTEST_BYTES: usize = 64;
/// The longest frame without jumbo frames, FCS included; a VLAN tag is extra (section 8.2.3.22.8).
const LONGEST_BYTES: usize = 1518;
const TAG_BYTES: usize = 4;

/// Status and error bits of a descriptor as it is written back (section 7.1.6.2).
mod status {
    pub(super) const DD: u32 = 1;
    pub(super) const EOP: u32 = 1 << 1;
    pub(super) const VP: u32 = 1 << 3;
    pub(super) const UDPCS: u32 = 1 << 4;
    pub(super) const L4I: u32 = 1 << 5;
    pub(super) const IPCS: u32 = 1 << 6;
    pub(super) const PIF: u32 = 1 << 7;
    pub(super) const RXE: u32 = 1 << 29;
    pub(super) const L4E: u32 = 1 << 30;
    pub(super) const IPE: u32 = 1 << 31;
}

/// The classification of a frame that passes the filters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Classified {
    queue: u8,
    /// Status and errors, without the bits of each descriptor.
    status: u32,
    /// The packet type, in the format of the descriptor.
    kind: u32,
    hash: Option<Hash>,
    vlan: Option<u16>,
    address_kind: AddressKind,
}

/// An enabled receive queue.
struct RxQueue {
    ring: Ring,
    write_back: WriteBack,
    buffer_bytes: usize,
    is_legacy: bool,
    drops: bool,
    strips_vlan: bool,
    /// The bit of its vector, or 0 if it has none.
    vector: u64,
    /// The index of its set of counters.
    set: usize,
}

/// The receive side of the device, from the wire to the queues.
pub(crate) struct Receiver {
    queues: Vec<Option<Box<RxQueue>>>,
    buffer: PacketBuffer,
    filter: Filter,
    rss: Rss,
    is_on: bool,
    longest: usize,
    strips_fcs: bool,
    stores_bad: bool,
    /// True if descriptors carry the hash and not a partial checksum (RXCSUM.PCSD).
    shows_hash: bool,
    /// The queues with descriptors to be written back.
    touched: Vec<u8>,
    scratch: Vec<u8>,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        Self {
            queues: (0..QUEUES).map(|_| None).collect(),
            buffer: PacketBuffer::new(),
            filter: Filter::new(),
            rss: Rss::new(),
            is_on: false,
            longest: 0,
            strips_fcs: true,
            stores_bad: false,
            shows_hash: false,
            touched: Vec::with_capacity(QUEUES),
            scratch: Vec::with_capacity(1 << 14),
        }
    }

    /// Drops all queues and frames.
    pub(crate) fn reset(&mut self, registers: &Registers) {
        self.queues.iter_mut().for_each(|queue| *queue = None);
        registers.losses.reset.add(self.buffer.clear() as u64);
        self.touched.clear();
        self.is_on = false;
    }

    /// Updates the state that is derived from registers, and follows the enable bits of queues.
    pub(crate) fn update(&mut self, registers: &Registers) {
        let image = &registers.image;
        self.is_on = image.get(RXCTRL) & RXCTRL_RXEN != 0;
        let control = image.get(HLREG0);
        let allows_jumbo = control & HLREG0_JUMBOEN != 0;
        self.longest = if allows_jumbo { (image.get(MAXFRS) >> 16) as usize } else { LONGEST_BYTES };
        self.strips_fcs = control & HLREG0_RXCRCSTRP != 0;
        self.stores_bad = image.get(FCTRL) & FCTRL_SBP != 0;
        self.shows_hash = image.get(RXCSUM) & RXCSUM_PCSD != 0;
        self.buffer.set_limit((image.get(RXPBSIZE) >> 10 & 0x3ff) as usize * 1024);
        self.filter.update(image);
        self.rss.update(image);
        for index in 0..QUEUES {
            let base = rx_queue(index as u64);
            let shared = &registers.rx[index];
            let queue = &mut self.queues[index];
            match (registers.is_enable_requested(base), queue.is_some()) {
                (true, false) => {
                    *queue = Ring::new(registers, base, shared).map(|ring| Box::new(RxQueue::new(ring)));
                    shared.set_enabled(queue.is_some());
                }
                (false, true) => {
                    *queue = None;
                    shared.set_enabled(false);
                }
                _ => {}
            }
            let Some(queue) = queue else { continue };
            let srrctl = image.get(base + queue::SRRCTL);
            // In units of 1 KiB; a size of 0 would be an endless loop.
            queue.buffer_bytes = ((srrctl & 0x1f) as usize * 1024).max(1024);
            queue.is_legacy = srrctl >> 25 & 0x7 == 0;
            queue.drops = srrctl & SRRCTL_DROP != 0;
            queue.strips_vlan = image.get(base + queue::DCTL) & queue::RXDCTL_VME != 0;
            let entry = image.get(IVAR + index as u64 / 2 * 4) >> (16 * (index % 2));
            queue.vector = vector_of(entry).map_or(0, |vector| 1 << vector);
            let sets = image.get(RQSMR + index as u64 / 4 * 4) >> (8 * (index % 4));
            queue.set = (sets & 0xf) as usize % SETS;
        }
    }

    /// Returns true if frames wait in the packet buffer.
    #[inline]
    pub(crate) fn has_frames(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns true if the first frame in the packet buffer can leave it.
    pub(crate) fn can_drain(&self, registers: &Registers) -> bool {
        self.buffer.front().is_some_and(|(classified, frame)| {
            match &self.queues[usize::from(classified.queue)] {
                Some(queue) => {
                    queue.drops
                        || queue.has_room(frame.len(), registers.rx[usize::from(classified.queue)].tail())
                }
                None => true,
            }
        })
    }

    /// Takes a frame from the wire.
    #[inline]
    pub(crate) fn accept(&mut self, host: Option<&dyn Host>, frame: Frame<'_>, registers: &Registers) {
        if !self.is_on {
            return registers.losses.receiver_off.add(1);
        }
        let Some(classified) = self.classify(frame, registers) else { return };
        let mut bytes = frame.bytes;
        if !self.strips_fcs {
            self.scratch.clear();
            self.scratch.extend_from_slice(frame.bytes);
            let sum = fcs(frame.bytes) ^ if frame.damage.is_some() { 1 } else { 0 };
            self.scratch.extend_from_slice(&sum.to_le_bytes());
            bytes = &self.scratch;
        }
        if self.buffer.is_empty()
            && let Some(host) = host
            && let Some(queue) = &mut self.queues[usize::from(classified.queue)]
        {
            let tail = registers.rx[usize::from(classified.queue)].tail();
            if queue.has_room(bytes.len(), tail) {
                if queue.write_back.is_empty() {
                    self.touched.push(classified.queue);
                }
                let fcs_bytes = if self.strips_fcs { FCS_BYTES } else { 0 };
                match queue.deliver(host, tail, &classified, bytes, self.shows_hash) {
                    true => count(registers, queue.set, &classified, bytes.len() + fcs_bytes),
                    false => count_dropped(registers, queue.set),
                }
                return;
            }
        }
        if host.is_some() {
            registers.statistics.add(Counter::NO_BUFFERS, 1);
        }
        if !self.buffer.push(classified, bytes) {
            registers.statistics.add(Counter::MISSED, 1);
            registers.losses.buffer_full.add(1);
            registers.interrupts.other_event(CAUSE_MISSED);
        }
    }

    /// Moves at most `most` frames from the packet buffer to queues that have descriptors again.
    pub(crate) fn drain(&mut self, host: &dyn Host, registers: &Registers, most: usize) -> bool {
        for done in 0..most {
            let Some((classified, frame)) = self.buffer.front() else { return done > 0 };
            let index = usize::from(classified.queue);
            if let Some(queue) = &mut self.queues[index] {
                let tail = registers.rx[index].tail();
                if queue.has_room(frame.len(), tail) {
                    if queue.write_back.is_empty() {
                        self.touched.push(classified.queue);
                    }
                    let fcs_bytes = if self.strips_fcs { FCS_BYTES } else { 0 };
                    match queue.deliver(host, tail, classified, frame, self.shows_hash) {
                        true => count(registers, queue.set, classified, frame.len() + fcs_bytes),
                        false => count_dropped(registers, queue.set),
                    }
                } else if queue.drops {
                    count_dropped(registers, queue.set);
                } else {
                    return done > 0;
                }
            } else {
                registers.losses.queue_off.add(1);
            }
            self.buffer.pop();
        }
        true
    }

    /// Writes back the descriptors of received frames, and signals interrupts.
    pub(crate) fn finish(&mut self, host: &dyn Host, registers: &Registers) {
        let mut vectors = 0;
        for index in self.touched.drain(..) {
            let Some(queue) = &mut self.queues[usize::from(index)] else { continue };
            queue.write_back.flush(host, &queue.ring);
            registers.losses.write_back.add(queue.write_back.take_lost());
            registers.rx[usize::from(index)].set_head(queue.ring.head());
            vectors |= queue.vector;
        }
        if vectors != 0 {
            registers.interrupts.queue_events(vectors);
        }
    }

    /// Classifies a frame. Returns `None` if it is discarded and counted.
    #[inline]
    fn classify(&self, frame: Frame<'_>, registers: &Registers) -> Option<Classified> {
        let statistics = &registers.statistics;
        let bytes = frame.bytes;
        let len = bytes.len() + FCS_BYTES;
        statistics.add(Counter::TOTAL_RECEIVED, 1);
        statistics.add(Counter::TOTAL_RECEIVED_BYTES, len as u64);
        let mut errors = 0;
        if let Some(damage) = frame.damage {
            statistics.add(
                match damage {
                    Damage::Fcs if len < SHORTEST_BYTES => Counter::FRAGMENTS,
                    Damage::Fcs if len > self.longest => Counter::JABBER,
                    Damage::Fcs => Counter::CRC_ERRORS,
                    Damage::Code => Counter::ILLEGAL_BYTES,
                },
                1,
            );
            errors = status::RXE;
        } else if len < SHORTEST_BYTES {
            statistics.add(Counter::UNDERSIZED, 1);
            errors = status::RXE;
        }
        if errors != 0 && !self.stores_bad {
            let losses = &registers.losses;
            if frame.damage.is_some() {
                losses.damaged.add(1)
            } else {
                losses.undersized.add(1)
            }
            return None;
        }
        let headers = Headers::parse(bytes, self.filter.vlan_type);
        let limit = self.longest + if headers.vlan.is_some() { TAG_BYTES } else { 0 };
        if len > limit {
            if errors == 0 {
                statistics.add(Counter::OVERSIZED, 1);
            }
            registers.losses.oversized.add(1);
            return None;
        }
        let (passes, address_kind) = self.filter.admits(bytes);
        if !passes || headers.vlan.is_some_and(|tag| !self.filter.admits_vlan(tag)) {
            registers.losses.filtered.add(1);
            return None;
        }
        let mut classified =
            Classified { queue: 0, status: errors, kind: 0, hash: None, vlan: headers.vlan, address_kind };
        if address_kind != AddressKind::Unicast {
            // The filter is not exact for this address.
            classified.status |= status::PIF;
        }
        if headers.network != Network::Other {
            classified.kind = kind(&headers);
            classified.status |= check(bytes, &headers);
            if classified.status & (status::IPE | status::L4E) != 0 {
                statistics.add(Counter::CHECKSUM_ERRORS, 1);
            }
            if self.rss.is_on()
                && let Some(hash) = self.rss.hash(bytes, &headers)
            {
                classified.queue = self.rss.queue(hash.value);
                classified.hash = Some(hash);
            }
        }
        Some(classified)
    }
}

/// Counts a frame that was dropped for want of descriptors.
fn count_dropped(registers: &Registers, set: usize) {
    registers.statistics.add_at(Counter::QUEUE_DROPPED, set, 1);
    registers.losses.no_descriptors.add(1);
}

/// Counts a frame that was stored.
#[inline]
fn count(registers: &Registers, set: usize, classified: &Classified, bytes: usize) {
    let statistics = &registers.statistics;
    statistics.add_at(Counter::QUEUE_RECEIVED, set, 1);
    statistics.add_at(Counter::QUEUE_RECEIVED_BYTES, set, bytes as u64);
    if classified.status & status::RXE != 0 {
        return;
    }
    statistics.add(Counter::GOOD_RECEIVED, 1);
    statistics.add(Counter::GOOD_RECEIVED_BYTES, bytes as u64);
    statistics.add_at(Counter::RECEIVED_SIZES, size_class(bytes), 1);
    match classified.address_kind {
        AddressKind::Unicast => {}
        AddressKind::Multicast => statistics.add(Counter::MULTICAST_RECEIVED, 1),
        AddressKind::Broadcast => statistics.add(Counter::BROADCAST_RECEIVED, 1),
    }
}

/// The packet type of a descriptor (section 7.1.6.2, bits 16:4).
fn kind(headers: &Headers) -> u32 {
    let network = match headers.network {
        Network::Other => 0,
        Network::V4 { has_options } => 1 | u32::from(has_options) << 1,
        Network::V6 { has_extensions } => 1 << 2 | u32::from(has_extensions) << 3,
    };
    let transport = match headers.transport {
        Transport::Other => 0,
        Transport::Tcp => 1 << 4,
        Transport::Udp => 1 << 5,
        Transport::Sctp => 1 << 6,
    };
    (network | transport) << 4
}

/// Returns the status and error bits of a frame's checksums (section 7.1.11).
fn check(frame: &[u8], headers: &Headers) -> u32 {
    let mut found = 0;
    if let Network::V4 { .. } = headers.network {
        found |= status::IPCS;
        if sum(&frame[headers.network_at..headers.transport_at], 0) != 0xffff {
            found |= status::IPE;
        }
    }
    let payload = &frame[headers.transport_at..headers.end];
    let (protocol, bit) = match headers.transport {
        Transport::Tcp => (6, status::L4I),
        // A checksum of 0 means that there is none.
        Transport::Udp if payload[6..8] != [0, 0] => (17, status::L4I | status::UDPCS),
        // CRC32c is not checked.
        Transport::Udp | Transport::Sctp | Transport::Other => return found,
    };
    let right = sum(payload, pseudo_sum(frame, headers, protocol)) == 0xffff;
    found | bit | if right { 0 } else { status::L4E }
}

impl RxQueue {
    fn new(ring: Ring) -> Self {
        Self {
            ring,
            write_back: WriteBack::new(),
            buffer_bytes: 1024,
            is_legacy: false,
            drops: false,
            strips_vlan: false,
            vector: 0,
            set: 0,
        }
    }

    /// Returns true if there are descriptors for a frame of `bytes`, or never will be: the ring is too short.
    #[inline]
    fn has_room(&self, bytes: usize, tail: u32) -> bool {
        let available = self.ring.available(tail);
        let wanted = if bytes <= self.buffer_bytes { 1 } else { bytes.div_ceil(self.buffer_bytes) as u32 };
        available >= wanted.min(self.ring.count() - 1).max(1)
    }

    /// Writes a frame into buffers, and queues their descriptors for write-back. Returns false if the frame
    /// does not fit the ring.
    #[inline]
    fn deliver(
        &mut self,
        host: &dyn Host,
        tail: u32,
        classified: &Classified,
        frame: &[u8],
        shows_hash: bool,
    ) -> bool {
        if frame.len() > self.buffer_bytes * (self.ring.count() as usize - 1) {
            return false;
        }
        let mut vlan = classified.vlan;
        let mut parts = None;
        if vlan.is_some() && self.strips_vlan {
            // The tag is not stored but reported in the descriptor.
            parts = frame.get(..12).zip(frame.get(16..));
        } else {
            vlan = None;
        }
        let (first, rest) = parts.unwrap_or((&[], frame));
        let mut left = first.len() + rest.len();
        let (mut first, mut rest) = (first, rest);
        loop {
            let part = left.min(self.buffer_bytes);
            let hint = |descriptor: &Descriptor| host.prefetch(descriptor[0], part);
            let Some((index, descriptor)) = self.ring.next(host, tail, hint) else { return false };
            left -= part;
            let address = descriptor[0];
            // Bytes for an invalid address are lost, as on any bus; the descriptor is completed all the same.
            let begin = first.len().min(part);
            if begin > 0 {
                let _ = host.write_memory(address, &first[..begin]);
            }
            let _ = host.write_memory(address.wrapping_add(begin as u64), &rest[..part - begin]);
            (first, rest) = (&first[begin..], &rest[part - begin..]);
            let mut status = status::DD;
            if left == 0 {
                status |= classified.status | status::EOP;
                if vlan.is_some() {
                    status |= status::VP;
                }
            }
            let tag = u64::from(vlan.filter(|_| left == 0).unwrap_or(0));
            let written = if self.is_legacy {
                [descriptor[0], legacy(status, part) | tag << 48]
            } else {
                let first = if left == 0 { first_word(classified, shows_hash) } else { 0 };
                [first, u64::from(status) | (part as u64) << 32 | tag << 48]
            };
            self.write_back.push(host, &self.ring, index, written, left == 0);
            if left == 0 {
                return true;
            }
        }
    }
}

/// The first half of an advanced descriptor: types, and the hash.
#[inline]
fn first_word(classified: &Classified, shows_hash: bool) -> u64 {
    match classified.hash {
        Some(hash) if shows_hash => {
            u64::from(classified.kind | u32::from(hash.kind)) | u64::from(hash.value) << 32
        }
        _ => u64::from(classified.kind),
    }
}

/// The second half of a legacy descriptor, without its tag (section 7.1.5): the length, and a byte each of
/// status and errors.
fn legacy(status: u32, bytes: usize) -> u64 {
    let errors = u64::from(status >> 24 & 0xc0 | status >> 29 & 1);
    bytes as u64 | u64::from(status & 0xff) << 32 | errors << 40
}
