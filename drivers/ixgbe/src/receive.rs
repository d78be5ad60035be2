//! [`ReceiveRing`]: packets that the device fills (82599 datasheet, sections 7.1.8 and 7.1.9).

use alloc::boxed::Box;
use alloc::sync::Arc;

use coppice_hardware::{DescriptorRing, DmaBuffer, DmaMemory, Registers};

use crate::Fault;
use crate::descriptor::{Received, is_damaged, is_last, is_plain, is_received, received_len};
use crate::format::PacketFormat;
use crate::losses::LossCounters;
use crate::transmit::{MappedPacket, fill};

/// The number of packets that are collected before the device is notified, unless it has few left.
const ANNOUNCE_EVERY: u32 = 32;

/// The number of descriptors ahead of the next that are checked for being done out of order.
const SKIP_CHECK_AHEAD: u32 = 64;
/// A part that does not end its frame fills its packet, except for an FCS that reached into the next one and
/// was stripped.
const FCS_BYTES: u32 = 4;

/// A descriptor ring and its packets. Positions are free-running counters, as in
/// [`crate::transmit::TransmitRing`].
///
/// # Invariants
/// - `next <= announced <= filled`, and fewer positions than slots are between `next` and `filled`.
/// - The slots from `next` to `filled` hold a packet each, with room for `packet_bytes` from its frame's
///   start on; the others are empty.
pub(crate) struct ReceiveRing<F: PacketFormat> {
    ring: DescriptorRing,
    slots: Box<[Option<F::Packet>]>,
    mask: u32,
    next: u32,
    announced: u32,
    filled: u32,
    packet_bytes: u32,
    /// A descriptor that may have been skipped.
    skipped: Option<u32>,
    register: usize,
    queue: u16,
    /// Frames that were dropped: damaged, or in more parts than the caller takes.
    pub(crate) dropped: u64,
    losses: Arc<LossCounters>,
}

impl<F: PacketFormat> ReceiveRing<F> {
    /// Creates a ring of `depth` descriptors, a power of two, in `memory`, for packets of `packet_bytes`;
    /// `register` is its RDT.
    pub(crate) fn new(
        memory: DmaMemory,
        depth: u32,
        packet_bytes: u32,
        register: usize,
        queue: u16,
        losses: Arc<LossCounters>,
    ) -> Self {
        Self {
            ring: DescriptorRing::new(memory, depth),
            slots: (0..depth).map(|_| None).collect(),
            mask: depth - 1,
            next: 0,
            announced: 0,
            filled: 0,
            packet_bytes,
            skipped: None,
            register,
            queue,
            dropped: 0,
            losses,
        }
    }

    pub(crate) fn descriptors(&self) -> &DescriptorRing {
        &self.ring
    }

    /// Returns the number of packets that the ring has room for.
    #[inline(always)]
    pub(crate) fn room(&self) -> u32 {
        self.mask - self.held()
    }

    /// Returns the number of packets in the ring.
    #[inline(always)]
    pub(crate) fn held(&self) -> u32 {
        self.filled.wrapping_sub(self.next)
    }

    /// Adds a packet to the ring. Returns it if the ring is full or the packet too small.
    #[inline(always)]
    pub(crate) fn post(&mut self, packet: F::Packet) -> Result<(), F::Packet> {
        let (range, start) = (packet.dma_range(self.ring.dma_space()), F::start(&packet));
        if start >= range.len() {
            return Err(packet);
        }
        let room = (range.len() - start) as u32;
        self.post_mapped(MappedPacket { packet, address: range.addr(start), room })
    }

    /// Adds a packet whose address and room are known, as [`Self::post`].
    #[inline(always)]
    pub(crate) fn post_mapped(&mut self, mapped: MappedPacket<F::Packet>) -> Result<(), F::Packet> {
        self.offer(mapped).map_err(|mapped| mapped.packet)
    }

    /// Adds a packet as [`Self::post_mapped`]. On refusal returns it with its address and room.
    #[inline(always)]
    pub(crate) fn offer(&mut self, mapped: MappedPacket<F::Packet>) -> Result<(), MappedPacket<F::Packet>> {
        if self.room() == 0 || mapped.room < self.packet_bytes {
            return Err(mapped);
        }
        // The second word is the address of a header buffer, which is not used, and clears the done bit.
        self.ring.write(self.filled, [mapped.address.to_bits(), 0]);
        fill(&mut self.slots[(self.filled & self.mask) as usize], mapped.packet);
        self.filled = self.filled.wrapping_add(1);
        Ok(())
    }

    /// Notifies the device of new packets with one register write, if they are many or the device has no more
    /// than these.
    #[inline(always)]
    pub(crate) fn announce(&mut self, registers: &Registers) {
        self.announce_for(registers, 0);
    }

    /// The same before `frames` frames are sent, each of which may cause one to be received.
    #[inline(always)]
    pub(crate) fn announce_for(&mut self, registers: &Registers, frames: u32) {
        let fresh = self.filled.wrapping_sub(self.announced);
        if fresh == 0 {
            return;
        }
        let has = self.announced.wrapping_sub(self.next);
        if fresh >= ANNOUNCE_EVERY || fresh >= has || frames >= has {
            self.announce_all(registers);
        }
    }

    /// Notifies the device of all new packets.
    #[inline]
    pub(crate) fn announce_all(&mut self, registers: &Registers) {
        if self.announced != self.filled {
            self.announced = self.filled;
            registers.write32(self.register, self.filled & self.mask);
        }
    }

    /// Returns true if the device has filled a packet.
    #[inline(always)]
    pub(crate) fn has_new(&self) -> bool {
        self.next != self.filled && is_received(self.ring.read_second(self.next))
    }

    /// Checks that the device has not skipped the next descriptor, since it fills them in order. A descriptor
    /// has been skipped if it looks so in two checks.
    pub(crate) fn check_skipped(&mut self) -> Result<(), Fault> {
        let given = self.announced.wrapping_sub(self.next);
        let done = |ahead: u32| is_received(self.ring.read_second(self.next.wrapping_add(ahead)));
        let skipped = given > 1 && (1..given.min(SKIP_CHECK_AHEAD)).any(done) && !done(0);
        let before = core::mem::replace(&mut self.skipped, skipped.then_some(self.next));
        if skipped && before == Some(self.next) {
            let (queue, index) = (self.queue, (self.next & self.mask) as u16);
            return Err(Fault::SkippedDescriptor { queue, index });
        }
        Ok(())
    }

    /// Passes packets of whole frames to `take`, at most `most` packets, and returns their number.
    ///
    /// # Errors
    /// When the device has written an impossible descriptor.
    #[inline(always)]
    pub(crate) fn poll(
        &mut self,
        most: usize,
        mut take: impl FnMut(F::Packet, Received),
    ) -> Result<usize, Fault> {
        let mut count = 0;
        while count < most && self.next != self.filled {
            let second = self.ring.read_second(self.next);
            if !is_plain(second) {
                if !is_received(second) {
                    break;
                }
                match self.take_exceptional(most, most - count, &mut take)? {
                    Some(taken) => count += taken,
                    None => break,
                }
                continue;
            }
            let (packet, received) = self.next_part(second)?;
            take(packet, received);
            count += 1;
        }
        Ok(count)
    }

    /// Takes the packet of the next descriptor, which has been read as done.
    #[inline(always)]
    fn next_part(&mut self, second: u64) -> Result<(F::Packet, Received), Fault> {
        let len = received_len(second);
        if len == 0 || len > self.packet_bytes || self.next == self.announced {
            return Err(self.impossible(second));
        }
        let first = self.ring.read_first(self.next);
        let Some(packet) = self.slots[(self.next & self.mask) as usize].take() else {
            return Err(self.impossible(second));
        };
        self.next = self.next.wrapping_add(1);
        Ok((packet, Received::new(first, second)))
    }

    #[cold]
    fn impossible(&self, second: u64) -> Fault {
        self.impossible_at(self.next, second)
    }

    fn impossible_at(&self, at: u32, second: u64) -> Fault {
        let (queue, index) = (self.queue, (at & self.mask) as u16);
        if at == self.announced {
            Fault::UnexpectedDescriptor { queue, index, word: second }
        } else {
            Fault::WrongLength {
                queue,
                index,
                bytes: received_len(second),
                most: self.packet_bytes,
                word: second,
            }
        }
    }

    /// Handles a frame in several parts, and drops a damaged one. Returns `None` if the frame is incomplete,
    /// or has more parts than the `left` packets that the caller still takes.
    #[cold]
    fn take_exceptional(
        &mut self,
        most: usize,
        left: usize,
        take: &mut impl FnMut(F::Packet, Received),
    ) -> Result<Option<usize>, Fault> {
        let mut parts = 0;
        let last = loop {
            let at = self.next.wrapping_add(parts);
            if at == self.filled {
                // A frame that fills the whole ring will never end.
                if parts < self.mask {
                    return Ok(None);
                }
                self.losses.too_many_parts.add(1);
                return self.drop_parts(parts).map(Some);
            }
            let second = self.ring.read_second(at);
            if !is_received(second) {
                return Ok(None);
            }
            if is_last(second) {
                parts += 1;
                break second;
            }
            let len = received_len(second);
            if at == self.announced || len > self.packet_bytes || len + FCS_BYTES < self.packet_bytes {
                return Err(self.impossible_at(at, second));
            }
            parts += 1;
        };
        // With the FCS stripped, the last part may be empty.
        let filled = if received_len(last) == 0 && parts > 1 { parts - 1 } else { parts };
        if is_damaged(last) || filled as usize > most {
            let losses = &self.losses;
            if is_damaged(last) {
                losses.damaged.add(1)
            } else {
                losses.too_many_parts.add(1)
            }
            return self.drop_parts(parts).map(Some);
        }
        if filled as usize > left {
            return Ok(None);
        }
        for part in 0..filled {
            let second = self.ring.read_second(self.next);
            let (packet, received) = self.next_part(second)?;
            take(packet, if part + 1 == filled { received.ended(last) } else { received });
        }
        if filled < parts {
            self.recycle()?;
        }
        Ok(Some(filled as usize))
    }

    fn drop_parts(&mut self, parts: u32) -> Result<usize, Fault> {
        self.dropped += 1;
        for _ in 0..parts {
            self.recycle()?;
        }
        Ok(0)
    }

    /// Puts the next packet back into the ring.
    fn recycle(&mut self) -> Result<(), Fault> {
        let second = self.ring.read_second(self.next);
        let packet = self.slots[(self.next & self.mask) as usize].take();
        let Some(packet) = packet.filter(|_| self.next != self.announced) else {
            return Err(self.impossible(second));
        };
        self.next = self.next.wrapping_add(1);
        // There is room, and the packet was large enough before.
        let _ = self.post(packet);
        Ok(())
    }

    /// Counts frames that the device has written and that were not polled: they are lost.
    fn count_unpolled(&self) {
        let (mut frames, mut is_within) = (0, false);
        for ahead in 0..self.announced.wrapping_sub(self.next) {
            let second = self.ring.read_second(self.next.wrapping_add(ahead));
            let is_part = is_received(second);
            frames += u32::from(is_part && !is_within);
            is_within = is_part && !is_last(second);
        }
        if frames > 0 {
            self.losses.unpolled.add(frames);
        }
    }

    /// Restarts the ring with all its packets. The device has been stopped.
    pub(crate) fn restart(&mut self) {
        self.count_unpolled();
        let held = self.held();
        self.slots.rotate_left((self.next & self.mask) as usize);
        (self.next, self.announced, self.filled) = (0, 0, 0);
        self.ring.clear();
        for index in 0..held {
            if let Some(packet) = self.slots[index as usize].take() {
                // The packet was accepted before.
                let _ = self.post(packet);
            }
        }
    }

    /// Empties the ring. The device has been stopped.
    pub(crate) fn take_all(&mut self, all: impl FnMut(F::Packet)) {
        self.count_unpolled();
        self.slots.iter_mut().filter_map(Option::take).for_each(all);
        (self.next, self.announced, self.filled) = (0, 0, 0);
    }

    /// Leaks the packets, because the device may still write to them.
    pub(crate) fn leak(&mut self) {
        self.count_unpolled();
        self.slots.iter_mut().filter_map(Option::take).for_each(core::mem::forget);
    }
}
