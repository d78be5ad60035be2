//! [`TransmitRing`]: frames on their way to the device (82599 datasheet, section 7.2.3).

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_hardware::{DescriptorRing, DmaAddr, DmaBuffer, DmaMemory, Registers};

use crate::descriptor::{self, LAST, RS};
use crate::format::{Offload, PacketFormat, Refusal, Transport};
use crate::losses::LossCounters;

/// After so many descriptors one asks for a report, and so often at least a batch's completion is looked at.
pub(crate) const REPORT_EVERY: u32 = 32;
/// Most buffers of a frame. The device takes 40 (82599 datasheet, section 7.2.1.1); who needs more copies.
pub(crate) const MOST_PARTS: usize = 32;
/// The shortest that the device takes and pads to 64 bytes with FCS; of less it makes nothing (82599 datasheet, section 7.2.3.2.4,
/// PAYLEN).
const LEAST_BYTES: usize = 17;
/// Bytes of an Ethernet header.
const ETHERNET_HEADER: usize = 14;
/// Of IPv4 without options.
const LEAST_NETWORK_BYTES: u16 = 20;
/// MACLEN has 7 bits, IPLEN has 9.
const MOST_LINK_BYTES: u8 = 127;
const MOST_NETWORK_BYTES: u16 = 511;

/// A buffer that is sent, and what its next use has to know: so that nobody has to look into it when it was sent, by when
/// its first lines may have left the nearest cache.
pub(crate) struct Held<B> {
    pub(crate) buffer: B,
    /// Where its frame begins, and the next one will.
    pub(crate) address: DmaAddr,
    /// Bytes from there on.
    pub(crate) room: u32,
}

/// Descriptors and the buffers that they are for. Positions count on for ever and mean the slot that they are modulo the number
/// of slots.
///
/// # Invariants
/// - `clean <= tail`, and less than all slots are between them: a full ring would look like an empty one.
/// - A slot before `clean` or from `tail` on is empty. One between them has a buffer unless its descriptor is a context.
/// - `marks` are the positions that report and were not seen to have done so, in order; the newest is before `tail`.
pub(crate) struct TransmitRing<F: PacketFormat> {
    ring: DescriptorRing,
    slots: Box<[Option<Held<F::Buffer>>]>,
    mask: u32,
    clean: u32,
    tail: u32,
    rung: u32,
    /// Descriptors since the last mark.
    unmarked: u32,
    /// The second word of the last descriptor.
    last: u64,
    marks: Box<[u32]>,
    first_mark: u32,
    next_mark: u32,
    /// What the device's context 0 holds.
    context: Option<Offload>,
    /// A frame in several buffers that waits for room.
    chain: Vec<F::Buffer>,
    register: usize,
    pub(crate) longest: usize,
    losses: Arc<LossCounters>,
}

impl<F: PacketFormat> TransmitRing<F> {
    /// Of `depth` descriptors, a power of two, in `memory`; `register` is its TDT.
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
            rung: 0,
            unmarked: 0,
            last: 0,
            // Each mark is another descriptor, so there are never more.
            marks: (0..depth).map(|_| 0).collect(),
            first_mark: 0,
            next_mark: 0,
            context: None,
            chain: Vec::with_capacity(MOST_PARTS),
            register,
            longest,
            losses,
        }
    }

    pub(crate) fn descriptors(&self) -> &DescriptorRing {
        &self.ring
    }

    /// Descriptors that can be written.
    #[inline(always)]
    pub(crate) fn room(&self) -> u32 {
        self.mask - self.in_flight()
    }

    /// Descriptors that the device has.
    #[inline(always)]
    pub(crate) fn in_flight(&self) -> u32 {
        self.tail.wrapping_sub(self.clean)
    }

    /// How far the device has come, for the watch.
    pub(crate) fn progress(&self) -> u32 {
        self.clean
    }

    /// Writes frames down until `next` has no more or there is no room; [`Self::announce`] follows. Gives to `back` the
    /// refused buffers, and with no reason those without a frame. Returns the number of frames that were written down.
    #[inline(always)]
    pub(crate) fn write(
        &mut self,
        mut next: impl FnMut() -> Option<F::Buffer>,
        mut back: impl FnMut(F::Buffer, Option<Refusal>),
    ) -> usize {
        let mut count = 0;
        if !self.chain.is_empty() {
            count += usize::from(self.push_chain());
        }
        // A context may be needed, and then the frame.
        while self.room() >= 2 && self.chain.is_empty() {
            let Some(buffer) = next() else { break };
            let len = F::len(&buffer);
            if F::continues(&buffer) {
                count += usize::from(self.collect_chain(buffer, &mut next, &mut back));
                continue;
            }
            let (range, start) = (buffer.dma_range(self.ring.dma_space()), F::start(&buffer));
            let fits = len <= self.longest && start < range.len() && len <= range.len() - start;
            if len < LEAST_BYTES || !fits {
                count += usize::from(self.push_odd(buffer, &mut back));
                continue;
            }
            let options = match F::offload(&buffer) {
                None => LAST,
                Some(offload) if is_possible(&offload, len) => LAST | self.prepare(offload),
                Some(offload) => {
                    self.losses.refused.add(1);
                    back(buffer, Some(Refusal::Offload(offload)));
                    continue;
                }
            };
            let room = range.len() - start;
            self.push(Held { buffer, address: range.addr(start), room: room as u32 }, len, len, options);
            count += 1;
        }
        count
    }

    /// Writes a descriptor behind the last. There is room.
    #[inline(always)]
    fn push(&mut self, held: Held<F::Buffer>, len: usize, frame: usize, options: u64) {
        self.unmarked += 1;
        let mut words = descriptor::data(held.address, len, frame, options);
        if self.unmarked >= REPORT_EVERY && options & LAST != 0 {
            words[1] |= RS;
            self.mark();
        }
        self.last = words[1];
        self.ring.write(self.tail, words);
        fill(&mut self.slots[(self.tail & self.mask) as usize], held);
        self.tail = self.tail.wrapping_add(1);
    }

    /// The descriptor at the tail reports.
    #[inline(always)]
    fn mark(&mut self) {
        self.marks[(self.next_mark & self.mask) as usize] = self.tail;
        self.next_mark = self.next_mark.wrapping_add(1);
        self.unmarked = 0;
    }

    /// Tells the device of all frames that it was not told of, by one store. The last of them reports, so that every buffer
    /// comes back.
    #[inline(always)]
    pub(crate) fn announce(&mut self, registers: &Registers) {
        if self.rung == self.tail {
            return;
        }
        if self.unmarked > 0 {
            self.tail = self.tail.wrapping_sub(1);
            self.mark();
            self.ring.write_second(self.tail, self.last | RS);
            self.tail = self.tail.wrapping_add(1);
        }
        self.rung = self.tail;
        registers.write32(self.register, self.tail & self.mask);
    }

    /// A frame that is too short, too long, or none.
    #[cold]
    fn push_odd(&mut self, mut buffer: F::Buffer, back: &mut impl FnMut(F::Buffer, Option<Refusal>)) -> bool {
        let len = F::len(&buffer);
        if len == 0 {
            back(buffer, None);
            return false;
        }
        let most =
            buffer.dma_range(self.ring.dma_space()).len().saturating_sub(F::start(&buffer)).min(self.longest);
        let refusal = if len > most {
            Some(Refusal::TooLong { bytes: len, most })
        } else if len < ETHERNET_HEADER || !F::pad(&mut buffer, LEAST_BYTES) {
            Some(Refusal::TooShort { bytes: len })
        } else {
            // Of so little nothing can be an IP header.
            F::offload(&buffer).map(Refusal::Offload)
        };
        let (range, start) = (buffer.dma_range(self.ring.dma_space()), F::start(&buffer));
        let fits = start < range.len() && range.len() - start >= LEAST_BYTES;
        match refusal {
            None if fits => {
                let held = Held { buffer, address: range.addr(start), room: (range.len() - start) as u32 };
                self.push(held, LEAST_BYTES, LEAST_BYTES, LAST);
                true
            }
            refusal => {
                self.losses.refused.add(1);
                back(buffer, refusal.or(Some(Refusal::TooShort { bytes: len })));
                false
            }
        }
    }

    /// Has the device's context say what a request needs. A new context costs a descriptor, so it is written only when it says
    /// something else than the last (82599 datasheet, section 7.2.3.2.3).
    #[inline]
    fn prepare(&mut self, offload: Offload) -> u64 {
        if self.context != Some(offload) {
            self.context = Some(offload);
            self.ring.write(self.tail, descriptor::context(&offload));
            self.tail = self.tail.wrapping_add(1);
            self.unmarked += 1;
        }
        descriptor::offload_options(&offload)
    }

    /// Takes all of a frame that begins with `first`, and writes it down if it is in order and there is room.
    #[cold]
    fn collect_chain(
        &mut self,
        first: F::Buffer,
        next: &mut impl FnMut() -> Option<F::Buffer>,
        back: &mut impl FnMut(F::Buffer, Option<Refusal>),
    ) -> bool {
        let (mut refusal, mut frame) = (None, 0_usize);
        let mut part = Some(first);
        while let Some(buffer) = part {
            let (len, room) = (
                F::len(&buffer),
                buffer.dma_range(self.ring.dma_space()).len().saturating_sub(F::start(&buffer)),
            );
            let continues = F::continues(&buffer);
            frame = frame.saturating_add(len);
            let wrong = if len == 0 {
                Some(Refusal::Incomplete)
            } else if len > room {
                Some(Refusal::TooLong { bytes: len, most: room })
            } else if self.chain.len() == MOST_PARTS {
                Some(Refusal::TooManyParts { most: MOST_PARTS })
            } else {
                None
            };
            refusal = refusal.or(wrong);
            if self.chain.len() < MOST_PARTS {
                self.chain.push(buffer);
            } else {
                back(buffer, refusal);
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
        } else if frame < LEAST_BYTES {
            refusal = refusal.or(Some(Refusal::TooShort { bytes: frame }));
        }
        if let Some(offload) = self.chain.first().and_then(F::offload)
            && !is_possible(&offload, frame)
        {
            refusal = refusal.or(Some(Refusal::Offload(offload)));
        }
        if let Some(refusal) = refusal {
            self.losses.refused.add(1);
            for buffer in self.chain.drain(..) {
                back(buffer, Some(refusal));
            }
            return false;
        }
        self.push_chain()
    }

    /// Writes down the frame that waits, if there is room. It was found in order.
    #[cold]
    fn push_chain(&mut self) -> bool {
        // One more for a context, which another frame may have changed meanwhile.
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
        for (index, buffer) in chain.drain(..).enumerate() {
            let (range, start) = (buffer.dma_range(self.ring.dma_space()), F::start(&buffer));
            let len = F::len(&buffer);
            let held = Held { buffer, address: range.addr(start), room: (range.len() - start) as u32 };
            let end = if index == last { LAST } else { 0 };
            // Options of the packet are taken from its first descriptor.
            let options = if index == 0 { options } else { 0 };
            self.push(held, len, frame, options | end);
        }
        self.chain = chain;
        true
    }

    /// Whether the oldest report has come.
    #[inline(always)]
    pub(crate) fn has_sent(&self) -> bool {
        self.first_mark != self.next_mark && {
            let mark = self.marks[(self.first_mark & self.mask) as usize];
            descriptor::is_sent(self.ring.read_second(mark))
        }
    }

    /// Hands over the buffers of all frames that were sent.
    #[inline(always)]
    pub(crate) fn reclaim(&mut self, mut sent: impl FnMut(Held<F::Buffer>)) {
        while self.has_sent() {
            let mark = self.marks[(self.first_mark & self.mask) as usize];
            self.first_mark = self.first_mark.wrapping_add(1);
            while self.clean != mark.wrapping_add(1) {
                if let Some(held) = self.slots[(self.clean & self.mask) as usize].take() {
                    sent(held);
                }
                self.clean = self.clean.wrapping_add(1);
            }
        }
    }

    /// Offers the buffers of frames that were sent, in order, until one is given back: it keeps its slot.
    pub(crate) fn reclaim_while(
        &mut self,
        mut offer: impl FnMut(Held<F::Buffer>) -> Result<(), Held<F::Buffer>>,
    ) {
        while self.has_sent() {
            let mark = self.marks[(self.first_mark & self.mask) as usize];
            while self.clean != mark.wrapping_add(1) {
                let slot = &mut self.slots[(self.clean & self.mask) as usize];
                if let Some(held) = slot.take()
                    && let Err(held) = offer(held)
                {
                    fill(slot, held);
                    return;
                }
                self.clean = self.clean.wrapping_add(1);
            }
            self.first_mark = self.first_mark.wrapping_add(1);
        }
    }

    /// Counts frames that were taken and of which no report says that they were sent.
    fn count_unreported(&self) {
        let mut reported = self.clean;
        for ahead in 0..self.next_mark.wrapping_sub(self.first_mark) {
            let mark = self.marks[(self.first_mark.wrapping_add(ahead) & self.mask) as usize];
            // A report that was lost is made up for by a later one.
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

    /// Empties it, the device having been stopped, and hands over all buffers.
    pub(crate) fn restart(&mut self, mut all: impl FnMut(F::Buffer)) {
        self.count_unreported();
        self.chain.drain(..).for_each(&mut all);
        self.slots.iter_mut().filter_map(Option::take).for_each(|held| all(held.buffer));
        self.ring.clear();
        (self.clean, self.tail, self.rung, self.unmarked) = (0, 0, 0, 0);
        (self.first_mark, self.next_mark) = (0, 0);
        self.context = None;
    }

    /// Never lets go of what the device may still read.
    pub(crate) fn leak(&mut self) {
        self.count_unreported();
        self.slots.iter_mut().filter_map(Option::take).for_each(core::mem::forget);
    }
}

/// Whether what is to be filled in lies within a frame of `len` bytes, and within what a context can say.
#[inline]
fn is_possible(offload: &Offload, len: usize) -> bool {
    let &Offload { ip, transport, link_bytes, network_bytes } = offload;
    // Where the checksum ends in its header (RFC 793, section 3.1; RFC 768).
    let checksum_end = match transport {
        Some(Transport::Tcp) => 18,
        Some(Transport::Udp) => 8,
        None => 0,
    };
    (ETHERNET_HEADER as u8..=MOST_LINK_BYTES).contains(&link_bytes)
        && (LEAST_NETWORK_BYTES..=MOST_NETWORK_BYTES).contains(&network_bytes)
        && (ip || transport.is_some())
        && usize::from(link_bytes) + usize::from(network_bytes) + checksum_end <= len
}

/// Puts a buffer into a slot that is empty. An assignment would look whether there is something to drop, for each packet.
#[inline(always)]
pub(crate) fn fill<B>(slot: &mut Option<B>, buffer: B) {
    core::mem::forget(slot.replace(buffer));
}
