//! Receiving: from the wire to a queue's buffers (82599 datasheet, section 7.1).

use device_bus::Host;
use device_link::{Damage, Frame};

use crate::buffer::PacketBuffer;
use crate::fcs::fcs;
use crate::filter::{Cast, Filter};
use crate::headers::{Headers, Network, Transport, pseudo_sum, sum};
use crate::interrupts::{CAUSE_MISSED, vector_of};
use crate::map::*;
use crate::registers::{Registers, rx_queue};
use crate::ring::{Descriptor, Finished, Ring};
use crate::rss::{Hash, Rss};
use crate::statistics::{Counter, SETS, size_class};

const FCS_BYTES: usize = 4;
/// The shortest frame, FCS included.
const SHORTEST_BYTES: usize = 64;
/// The longest without jumbo frames, FCS included; a tag may be on top (section 8.2.3.22.8).
const LONGEST_BYTES: usize = 1518;
const TAG_BYTES: usize = 4;

/// Status and error bits of a descriptor that was written back (section 7.1.6.2).
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

/// What was found out about a frame that is for us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sorted {
    queue: u8,
    /// Status and errors, without those of each descriptor.
    status: u32,
    /// Packet type, as the descriptor has it.
    kind: u32,
    hash: Option<Hash>,
    vlan: Option<u16>,
    cast: Cast,
}

/// A receive queue that is enabled.
struct RxQueue {
    ring: Ring,
    finished: Finished,
    buffer_bytes: usize,
    is_legacy: bool,
    drops: bool,
    strips_vlan: bool,
    /// A bit for its vector, if it has one.
    vector: u64,
    /// Which set of counters is its.
    set: usize,
}

/// Everything between wire and queues.
pub(crate) struct Receiver {
    queues: Vec<Option<Box<RxQueue>>>,
    buffer: PacketBuffer,
    filter: Filter,
    rss: Rss,
    is_on: bool,
    longest: usize,
    strips_fcs: bool,
    stores_bad: bool,
    /// Whether descriptors have the hash, and not a partial checksum (RXCSUM.PCSD).
    shows_hash: bool,
    /// Queues with finished descriptors.
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

    /// Forgets queues and frames.
    pub(crate) fn reset(&mut self, registers: &Registers) {
        self.queues.iter_mut().for_each(|queue| *queue = None);
        registers.losses.reset.add(self.buffer.clear() as u64);
        self.touched.clear();
        self.is_on = false;
    }

    /// Takes over what the registers say; queues that are switched on and off are followed.
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
            match (registers.is_wanted(base), queue.is_some()) {
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
            // In units of 1 KiB; nothing would be an endless loop.
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

    /// Whether frames wait in the packet buffer.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Whether a frame that waits has somewhere to go.
    pub(crate) fn can_drain(&self, registers: &Registers) -> bool {
        self.buffer.front().is_some_and(|(sorted, frame)| match &self.queues[usize::from(sorted.queue)] {
            Some(queue) => {
                queue.drops || queue.has_room(frame.len(), registers.rx[usize::from(sorted.queue)].tail())
            }
            None => true,
        })
    }

    /// A frame from the wire.
    #[inline]
    pub(crate) fn accept(&mut self, host: Option<&dyn Host>, frame: Frame<'_>, registers: &Registers) {
        if !self.is_on {
            return registers.losses.receiver_off.add(1);
        }
        let Some(sorted) = self.sort(frame, registers) else { return };
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
            && let Some(queue) = &mut self.queues[usize::from(sorted.queue)]
        {
            let tail = registers.rx[usize::from(sorted.queue)].tail();
            if queue.has_room(bytes.len(), tail) {
                if queue.finished.is_empty() {
                    self.touched.push(sorted.queue);
                }
                let fcs_bytes = if self.strips_fcs { FCS_BYTES } else { 0 };
                match queue.deliver(host, tail, &sorted, bytes, self.shows_hash) {
                    true => count(registers, queue.set, &sorted, bytes.len() + fcs_bytes),
                    false => drop_for(registers, queue.set),
                }
                return;
            }
        }
        if host.is_some() {
            registers.statistics.add(Counter::NO_BUFFERS, 1);
        }
        if !self.buffer.push(sorted, bytes) {
            registers.statistics.add(Counter::MISSED, 1);
            registers.losses.buffer_full.add(1);
            registers.interrupts.other_event(CAUSE_MISSED);
        }
    }

    /// Brings frames from the packet buffer to queues that have descriptors again, at most `most`.
    pub(crate) fn drain(&mut self, host: &dyn Host, registers: &Registers, most: usize) -> bool {
        for done in 0..most {
            let Some((sorted, frame)) = self.buffer.front() else { return done > 0 };
            let index = usize::from(sorted.queue);
            if let Some(queue) = &mut self.queues[index] {
                let tail = registers.rx[index].tail();
                if queue.has_room(frame.len(), tail) {
                    if queue.finished.is_empty() {
                        self.touched.push(sorted.queue);
                    }
                    let fcs_bytes = if self.strips_fcs { FCS_BYTES } else { 0 };
                    match queue.deliver(host, tail, sorted, frame, self.shows_hash) {
                        true => count(registers, queue.set, sorted, frame.len() + fcs_bytes),
                        false => drop_for(registers, queue.set),
                    }
                } else if queue.drops {
                    drop_for(registers, queue.set);
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

    /// Writes back what was received, and says so.
    pub(crate) fn finish(&mut self, host: &dyn Host, registers: &Registers) {
        let mut vectors = 0;
        for index in self.touched.drain(..) {
            let Some(queue) = &mut self.queues[usize::from(index)] else { continue };
            queue.finished.flush(host, &queue.ring);
            registers.losses.write_back.add(queue.finished.take_lost());
            registers.rx[usize::from(index)].set_head(queue.ring.head());
            vectors |= queue.vector;
        }
        if vectors != 0 {
            registers.interrupts.queue_events(vectors);
        }
    }

    /// Looks at a frame: `None` if it goes no further, and is counted.
    #[inline]
    fn sort(&self, frame: Frame<'_>, registers: &Registers) -> Option<Sorted> {
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
        let (passes, cast) = self.filter.admits(bytes);
        if !passes || headers.vlan.is_some_and(|tag| !self.filter.admits_vlan(tag)) {
            registers.losses.filtered.add(1);
            return None;
        }
        let mut sorted = Sorted { queue: 0, status: errors, kind: 0, hash: None, vlan: headers.vlan, cast };
        if cast != Cast::Unicast {
            // Passed by a filter that other frames can pass, too.
            sorted.status |= status::PIF;
        }
        if headers.network != Network::Other {
            sorted.kind = kind(&headers);
            sorted.status |= check(bytes, &headers);
            if sorted.status & (status::IPE | status::L4E) != 0 {
                statistics.add(Counter::CHECKSUM_ERRORS, 1);
            }
            if self.rss.is_on()
                && let Some(hash) = self.rss.hash(bytes, &headers)
            {
                sorted.queue = self.rss.queue(hash.value);
                sorted.hash = Some(hash);
            }
        }
        Some(sorted)
    }
}

/// A queue has no descriptors for a frame.
fn drop_for(registers: &Registers, set: usize) {
    registers.statistics.add_at(Counter::QUEUE_DROPPED, set, 1);
    registers.losses.no_descriptors.add(1);
}

/// A good frame has found its buffer.
#[inline]
fn count(registers: &Registers, set: usize, sorted: &Sorted, bytes: usize) {
    let statistics = &registers.statistics;
    statistics.add_at(Counter::QUEUE_RECEIVED, set, 1);
    statistics.add_at(Counter::QUEUE_RECEIVED_BYTES, set, bytes as u64);
    if sorted.status & status::RXE != 0 {
        return;
    }
    statistics.add(Counter::GOOD_RECEIVED, 1);
    statistics.add(Counter::GOOD_RECEIVED_BYTES, bytes as u64);
    statistics.add_at(Counter::RECEIVED_SIZES, size_class(bytes), 1);
    match sorted.cast {
        Cast::Unicast => {}
        Cast::Multicast => statistics.add(Counter::MULTICAST_RECEIVED, 1),
        Cast::Broadcast => statistics.add(Counter::BROADCAST_RECEIVED, 1),
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

/// What is to be said of a frame's checksums (section 7.1.11).
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
        // A sum of 0 says that there is none.
        Transport::Udp if payload[6..8] != [0, 0] => (17, status::L4I | status::UDPCS),
        // CRC32c is not looked at.
        Transport::Udp | Transport::Sctp | Transport::Other => return found,
    };
    let right = sum(payload, pseudo_sum(frame, headers, protocol)) == 0xffff;
    found | bit | if right { 0 } else { status::L4E }
}

impl RxQueue {
    fn new(ring: Ring) -> Self {
        Self {
            ring,
            finished: Finished::new(),
            buffer_bytes: 1024,
            is_legacy: false,
            drops: false,
            strips_vlan: false,
            vector: 0,
            set: 0,
        }
    }

    /// Whether there are descriptors for a frame of `bytes`, or never will be: the ring is too short.
    #[inline]
    fn has_room(&self, bytes: usize, tail: u32) -> bool {
        let available = self.ring.available(tail);
        let wanted = if bytes <= self.buffer_bytes { 1 } else { bytes.div_ceil(self.buffer_bytes) as u32 };
        available >= wanted.min(self.ring.count() - 1).max(1)
    }

    /// Writes a frame into buffers, and their descriptors among the finished. Answers whether it fits the ring at all.
    #[inline]
    fn deliver(
        &mut self,
        host: &dyn Host,
        tail: u32,
        sorted: &Sorted,
        frame: &[u8],
        shows_hash: bool,
    ) -> bool {
        if frame.len() > self.buffer_bytes * (self.ring.count() as usize - 1) {
            return false;
        }
        let mut vlan = sorted.vlan;
        let mut hole = None;
        if vlan.is_some() && self.strips_vlan {
            // The tag is not stored, but said in the descriptor.
            hole = frame.get(..12).zip(frame.get(16..));
        } else {
            vlan = None;
        }
        let (first, rest) = hole.unwrap_or((&[], frame));
        let mut left = first.len() + rest.len();
        let (mut first, mut rest) = (first, rest);
        loop {
            let here = left.min(self.buffer_bytes);
            let hint = |descriptor: &Descriptor| host.prefetch(descriptor[0], here);
            let Some((index, descriptor)) = self.ring.next(host, tail, hint) else { return false };
            left -= here;
            let address = descriptor[0];
            // An address that leads nowhere takes its bytes with it, as on any bus; the descriptor is done all the same.
            let begin = first.len().min(here);
            if begin > 0 {
                let _ = host.write_memory(address, &first[..begin]);
            }
            let _ = host.write_memory(address.wrapping_add(begin as u64), &rest[..here - begin]);
            (first, rest) = (&first[begin..], &rest[here - begin..]);
            let mut status = status::DD;
            if left == 0 {
                status |= sorted.status | status::EOP;
                if vlan.is_some() {
                    status |= status::VP;
                }
            }
            let tag = u64::from(vlan.filter(|_| left == 0).unwrap_or(0));
            let written = if self.is_legacy {
                [descriptor[0], legacy(status, here) | tag << 48]
            } else {
                let first = if left == 0 { first_word(sorted, shows_hash) } else { 0 };
                [first, u64::from(status) | (here as u64) << 32 | tag << 48]
            };
            self.finished.push(host, &self.ring, index, written, left == 0);
            if left == 0 {
                return true;
            }
        }
    }
}

/// The first half of an advanced descriptor: types, and the hash.
#[inline]
fn first_word(sorted: &Sorted, shows_hash: bool) -> u64 {
    match sorted.hash {
        Some(hash) if shows_hash => {
            u64::from(sorted.kind | u32::from(hash.kind)) | u64::from(hash.value) << 32
        }
        _ => u64::from(sorted.kind),
    }
}

/// The second half of a legacy descriptor, without its tag (section 7.1.5): length, status and errors, each of a byte.
fn legacy(status: u32, bytes: usize) -> u64 {
    let errors = u64::from(status >> 24 & 0xc0 | status >> 29 & 1);
    bytes as u64 | u64::from(status & 0xff) << 32 | errors << 40
}
