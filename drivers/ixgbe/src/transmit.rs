//! [`TransmitRing`]: packets that the device sends (82599 datasheet, section 7.2.3).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_hardware::{DescriptorRing, DmaAddr, DmaBuffer, DmaMemory, Registers};

use crate::descriptor::{self, LAST, RS};
use crate::format::{Offload, PacketFormat, Refusal, Transport};
use crate::losses::LossCounters;

/// The number of descriptors between two that request a status report. Sent packets are collected at least
/// once per this number.
pub(crate) const REPORT_EVERY: u32 = 32;
/// The largest number of packets per frame. The device accepts 40 (82599 datasheet, section 7.2.1.1); a
/// client with more parts has to copy.
pub(crate) const MAX_PARTS: usize = 32;
/// The shortest frame that the device sends; it pads it to 64 bytes with FCS. Shorter ones are dropped (82599
/// datasheet, section 7.2.3.2.4, PAYLEN).
const MIN_FRAME_BYTES: usize = 17;
/// The size of an Ethernet header in bytes.
const ETHERNET_HEADER: usize = 14;
/// The size of an IPv4 header without options.
const MIN_NETWORK_BYTES: u16 = 20;
/// MACLEN has 7 bits, IPLEN has 9.
const MAX_LINK_BYTES: u8 = 127;
const MAX_NETWORK_BYTES: u16 = 511;

/// A packet with its device address and room. Reusing a sent packet as a receive buffer needs both. They are
/// stored with the packet because reading them from its head again may miss the cache.
pub(crate) struct MappedPacket<P> {
    pub(crate) packet: P,
    /// The device address of its frame, and of the next frame in it.
    pub(crate) address: DmaAddr,
    /// Bytes from `address` to the end of the memory.
    pub(crate) room: u32,
}

/// A descriptor ring and its packets. Positions are free-running counters; a position modulo the number of
/// slots is the slot.
///
/// # Invariants
/// - `clean <= tail`, and fewer positions than slots are between them: a full ring would look like an empty
///   one.
/// - A slot before `clean` or from `tail` on is empty. A slot between them holds a packet unless its
///   descriptor is a context.
/// - `marks` are the positions whose reports are requested and not yet collected, in order; the newest is
///   before `tail`.
pub(crate) struct TransmitRing<F: PacketFormat> {
    ring: DescriptorRing,
    slots: Box<[Option<MappedPacket<F::Packet>>]>,
    mask: u32,
    clean: u32,
    tail: u32,
    announced: u32,
    /// Descriptors since the last mark.
    since_mark: u32,
    /// The second word of the last descriptor.
    last: u64,
    marks: Box<[u32]>,
    first_mark: u32,
    next_mark: u32,
    /// The content of the device's context 0.
    context: Option<Offload>,
    /// A frame in several packets that waits for room.
    chain: Vec<F::Packet>,
    register: usize,
    pub(crate) longest: usize,
    losses: Arc<LossCounters>,
}

impl<F: PacketFormat> TransmitRing<F> {
    /// Creates a ring of `depth` descriptors, a power of two, in `memory`; `register` is its TDT.
    pub(crate) fn new(
        memory: DmaMemory,
        depth: u32,
        register: usize,
        longest: usize,
        losses: Arc<LossCounters>,
    ) -> Self {
        Self {
            ring: DescriptorRing::new(memory, depth),
            slots: (0..depth).map(|_| None).collect(),
            mask: depth - 1,
            clean: 0,
            tail: 0,
            announced: 0,
            since_mark: 0,
            last: 0,
            // Each mark is a different descriptor, so there are at most `depth`.
            marks: (0..depth).map(|_| 0).collect(),
            first_mark: 0,
            next_mark: 0,
            context: None,
            chain: Vec::with_capacity(MAX_PARTS),
            register,
            longest,
            losses,
        }
    }

    pub(crate) fn descriptors(&self) -> &DescriptorRing {
        &self.ring
    }

    /// Returns the number of free descriptors.
    #[inline(always)]
    pub(crate) fn room(&self) -> u32 {
        self.mask - self.in_flight()
    }

    /// Returns the number of descriptors that the device owns.
    #[inline(always)]
    pub(crate) fn in_flight(&self) -> u32 {
        self.tail.wrapping_sub(self.clean)
    }

    /// Returns the position up to which packets were collected, for the hang check.
    pub(crate) fn progress(&self) -> u32 {
        self.clean
    }

    /// Writes descriptors for packets until `next` returns none or the ring is full; [`Self::announce`] has
    /// to follow. Passes refused packets to `back` with the reason, and spare ones with none. Returns the
    /// number of frames written.
    #[inline(always)]
    pub(crate) fn write(
        &mut self,
        mut next: impl FnMut() -> Option<F::Packet>,
        mut back: impl FnMut(F::Packet, Option<Refusal>),
    ) -> usize {
        let mut count = 0;
        if !self.chain.is_empty() {
            count += usize::from(self.push_chain());
        }
        // A frame may need a context descriptor besides its own.
        while self.room() >= 2 && self.chain.is_empty() {
            let Some(packet) = next() else { break };
            let len = F::len(&packet);
            if F::continues(&packet) {
                count += usize::from(self.collect_chain(packet, &mut next, &mut back));
                continue;
            }
            let (range, start) = (packet.dma_range(self.ring.dma_space()), F::start(&packet));
            let fits = len <= self.longest && start < range.len() && len <= range.len() - start;
            if len < MIN_FRAME_BYTES || !fits {
                count += usize::from(self.push_exceptional(packet, &mut back));
                continue;
            }
            let options = match F::offload(&packet) {
                None => LAST,
                Some(offload) if is_valid_for(&offload, len) => LAST | self.prepare(offload),
                Some(offload) => {
                    self.losses.refused.add(1);
                    back(packet, Some(Refusal::Offload(offload)));
                    continue;
                }
            };
            let room = range.len() - start;
            self.push(
                MappedPacket { packet, address: range.addr(start), room: room as u32 },
                len,
                len,
                options,
            );
            count += 1;
        }
        count
    }

    /// Writes a descriptor at the tail. The caller has checked that there is room.
    #[inline(always)]
    fn push(&mut self, mapped: MappedPacket<F::Packet>, len: usize, frame: usize, options: u64) {
        self.since_mark += 1;
        let mut words = descriptor::data(mapped.address, len, frame, options);
        if self.since_mark >= REPORT_EVERY && options & LAST != 0 {
            words[1] |= RS;
            self.mark();
        }
        self.last = words[1];
        self.ring.write(self.tail, words);
        fill(&mut self.slots[(self.tail & self.mask) as usize], mapped);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Records that the descriptor at the tail requests a report.
    #[inline(always)]
    fn mark(&mut self) {
        self.marks[(self.next_mark & self.mask) as usize] = self.tail;
        self.next_mark = self.next_mark.wrapping_add(1);
        self.since_mark = 0;
    }

    /// Notifies the device of all new descriptors, with one register write. The last descriptor requests a
    /// report, so that every packet is collected in the end.
    #[inline(always)]
    pub(crate) fn announce(&mut self, registers: &Registers) {
        if self.announced == self.tail {
            return;
        }
        if self.since_mark > 0 {
            self.tail = self.tail.wrapping_sub(1);
            self.mark();
            self.ring.write_second(self.tail, self.last | RS);
            self.tail = self.tail.wrapping_add(1);
        }
        self.announced = self.tail;
        registers.write32(self.register, self.tail & self.mask);
    }

    /// Handles a spare packet, and a frame that is too short or too long.
    #[cold]
    fn push_exceptional(
        &mut self,
        mut packet: F::Packet,
        back: &mut impl FnMut(F::Packet, Option<Refusal>),
    ) -> bool {
        let len = F::len(&packet);
        if len == 0 {
            back(packet, None);
            return false;
        }
        let most =
            packet.dma_range(self.ring.dma_space()).len().saturating_sub(F::start(&packet)).min(self.longest);
        let refusal = if len > most {
            Some(Refusal::TooLong { bytes: len, most })
        } else if len < ETHERNET_HEADER || !F::pad(&mut packet, MIN_FRAME_BYTES) {
            Some(Refusal::TooShort { bytes: len })
        } else {
            // A frame of this length cannot contain an IP header.
            F::offload(&packet).map(Refusal::Offload)
        };
        let (range, start) = (packet.dma_range(self.ring.dma_space()), F::start(&packet));
        let fits = start < range.len() && range.len() - start >= MIN_FRAME_BYTES;
        match refusal {
            None if fits => {
                let mapped =
                    MappedPacket { packet, address: range.addr(start), room: (range.len() - start) as u32 };
                self.push(mapped, MIN_FRAME_BYTES, MIN_FRAME_BYTES, LAST);
                true
            }
            refusal => {
                self.losses.refused.add(1);
                back(packet, refusal.or(Some(Refusal::TooShort { bytes: len })));
                false
            }
        }
    }

    /// Ensures that the device's context describes `offload`. A context costs a descriptor, so it is written
    /// only when it differs from the last (82599 datasheet, section 7.2.3.2.3). Returns the options for the
    /// data descriptor.
    #[inline]
    fn prepare(&mut self, offload: Offload) -> u64 {
        if self.context != Some(offload) {
            self.context = Some(offload);
            self.ring.write(self.tail, descriptor::context(&offload));
            self.tail = self.tail.wrapping_add(1);
            self.since_mark += 1;
        }
        descriptor::offload_options(&offload)
    }

    /// Collects all packets of the frame that begins with `first`, and writes it if it is valid and there is
    /// room.
    #[cold]
    fn collect_chain(
        &mut self,
        first: F::Packet,
        next: &mut impl FnMut() -> Option<F::Packet>,
        back: &mut impl FnMut(F::Packet, Option<Refusal>),
    ) -> bool {
        let (mut refusal, mut frame) = (None, 0_usize);
        let mut part = Some(first);
        while let Some(packet) = part {
            let (len, room) = (
                F::len(&packet),
                packet.dma_range(self.ring.dma_space()).len().saturating_sub(F::start(&packet)),
            );
            let continues = F::continues(&packet);
            frame = frame.saturating_add(len);
            let wrong = if len == 0 {
                Some(Refusal::Incomplete)
            } else if len > room {
                Some(Refusal::TooLong { bytes: len, most: room })
            } else if self.chain.len() == MAX_PARTS {
                Some(Refusal::TooManyParts { most: MAX_PARTS })
            } else {
                None
            };
            refusal = refusal.or(wrong);
            if self.chain.len() < MAX_PARTS {
                self.chain.push(packet);
            } else {
                back(packet, refusal);
            }
            if !continues {
                break;
            }
            part = next();
            if part.is_none() {
                refusal = refusal.or(Some(Refusal::Incomplete));
            }
        }
        if frame > self.longest {
            refusal = refusal.or(Some(Refusal::TooLong { bytes: frame, most: self.longest }));
        } else if frame < MIN_FRAME_BYTES {
            refusal = refusal.or(Some(Refusal::TooShort { bytes: frame }));
        }
        if let Some(offload) = self.chain.first().and_then(F::offload)
            && !is_valid_for(&offload, frame)
        {
            refusal = refusal.or(Some(Refusal::Offload(offload)));
        }
        if let Some(refusal) = refusal {
            self.losses.refused.add(1);
            for packet in self.chain.drain(..) {
                back(packet, Some(refusal));
            }
            return false;
        }
        self.push_chain()
    }

    /// Writes the waiting frame, which has been validated, if there is room.
    #[cold]
    fn push_chain(&mut self) -> bool {
        // One more for a context, which another frame may have changed since.
        if (self.room() as usize) < self.chain.len() + 1 {
            return false;
        }
        let mut chain = core::mem::take(&mut self.chain);
        let frame = chain.iter().map(F::len).sum();
        let options = match chain.first().and_then(F::offload) {
            None => 0,
            Some(offload) => self.prepare(offload),
        };
        let last = chain.len() - 1;
        for (index, packet) in chain.drain(..).enumerate() {
            let (range, start) = (packet.dma_range(self.ring.dma_space()), F::start(&packet));
            let len = F::len(&packet);
            let mapped =
                MappedPacket { packet, address: range.addr(start), room: (range.len() - start) as u32 };
            let end = if index == last { LAST } else { 0 };
            // The device takes a frame's options from its first descriptor.
            let options = if index == 0 { options } else { 0 };
            self.push(mapped, len, frame, options | end);
        }
        self.chain = chain;
        true
    }

    /// Returns true if the oldest requested report has arrived.
    #[inline(always)]
    pub(crate) fn has_sent(&self) -> bool {
        self.first_mark != self.next_mark && {
            let mark = self.marks[(self.first_mark & self.mask) as usize];
            descriptor::is_sent(self.ring.read_second(mark))
        }
    }

    /// Passes the packets of all sent frames to `sent`.
    #[inline(always)]
    pub(crate) fn reclaim(&mut self, mut sent: impl FnMut(MappedPacket<F::Packet>)) {
        while self.has_sent() {
            let mark = self.marks[(self.first_mark & self.mask) as usize];
            self.first_mark = self.first_mark.wrapping_add(1);
            while self.clean != mark.wrapping_add(1) {
                if let Some(mapped) = self.slots[(self.clean & self.mask) as usize].take() {
                    sent(mapped);
                }
                self.clean = self.clean.wrapping_add(1);
            }
        }
    }

    /// Offers the packets of sent frames, in order, until one is returned: that packet keeps its slot.
    pub(crate) fn reclaim_while(
        &mut self,
        mut offer: impl FnMut(MappedPacket<F::Packet>) -> Result<(), MappedPacket<F::Packet>>,
    ) {
        while self.has_sent() {
            let mark = self.marks[(self.first_mark & self.mask) as usize];
            while self.clean != mark.wrapping_add(1) {
                let slot = &mut self.slots[(self.clean & self.mask) as usize];
                if let Some(mapped) = slot.take()
                    && let Err(mapped) = offer(mapped)
                {
                    fill(slot, mapped);
                    return;
                }
                self.clean = self.clean.wrapping_add(1);
            }
            self.first_mark = self.first_mark.wrapping_add(1);
        }
    }

    /// Counts frames in the ring without a report that they were sent.
    fn count_unreported(&self) {
        let mut reported = self.clean;
        for ahead in 0..self.next_mark.wrapping_sub(self.first_mark) {
            let mark = self.marks[(self.first_mark.wrapping_add(ahead) & self.mask) as usize];
            // A later report makes up for a lost one.
            if descriptor::is_sent(self.ring.read_second(mark)) {
                reported = mark.wrapping_add(1);
            }
        }
        let mut frames = u32::from(!self.chain.is_empty());
        while reported != self.tail {
            let is_frame = self.slots[(reported & self.mask) as usize].is_some();
            frames += u32::from(is_frame && self.ring.read_second(reported) & LAST == LAST);
            reported = reported.wrapping_add(1);
        }
        if frames > 0 {
            self.losses.unreported.add(frames);
        }
    }

    /// Empties the ring and passes all packets to `all`. The device has been stopped.
    pub(crate) fn restart(&mut self, mut all: impl FnMut(F::Packet)) {
        self.count_unreported();
        self.chain.drain(..).for_each(&mut all);
        self.slots.iter_mut().filter_map(Option::take).for_each(|mapped| all(mapped.packet));
        self.ring.clear();
        (self.clean, self.tail, self.announced, self.since_mark) = (0, 0, 0, 0);
        (self.first_mark, self.next_mark) = (0, 0);
        self.context = None;
    }

    /// Leaks the packets, because the device may still read them.
    pub(crate) fn leak(&mut self) {
        self.count_unreported();
        self.slots.iter_mut().filter_map(Option::take).for_each(core::mem::forget);
    }
}

/// Returns true if the requested checksums lie within a frame of `len` bytes and a context can describe them.
#[inline]
fn is_valid_for(offload: &Offload, len: usize) -> bool {
    let &Offload { ip, transport, link_bytes, network_bytes } = offload;
    // The end of the checksum field in its header (RFC 793, section 3.1; RFC 768).
    let checksum_end = match transport {
        Some(Transport::Tcp) => 18,
        Some(Transport::Udp) => 8,
        None => 0,
    };
    (ETHERNET_HEADER as u8..=MAX_LINK_BYTES).contains(&link_bytes)
        && (MIN_NETWORK_BYTES..=MAX_NETWORK_BYTES).contains(&network_bytes)
        && (ip || transport.is_some())
        && usize::from(link_bytes) + usize::from(network_bytes) + checksum_end <= len
}

/// Puts a packet into an empty slot. An assignment would check for a value to drop, for each packet.
#[inline(always)]
pub(crate) fn fill<P>(slot: &mut Option<P>, packet: P) {
    core::mem::forget(slot.replace(packet));
}
