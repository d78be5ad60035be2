//! [`ReceiveRing`]: buffers that the device fills (82599 datasheet, section 7.1.8 and 7.1.9).

use alloc::boxed::Box;
use alloc::sync::Arc;

use coppice_hardware::{DescriptorRing, DmaBuffer, DmaMemory, Registers};

use crate::Fault;
use crate::descriptor::{Received, is_damaged, is_last, is_plain, is_received, received_len};
use crate::format::PacketFormat;
use crate::losses::LossCounters;
use crate::transmit::{Held, fill};

/// So many buffers are collected before the device is told of them, unless it has few left.
const ANNOUNCE_EVERY: u32 = 32;

/// How far ahead is looked for descriptors that are done although the next is not.
const LOOK_AHEAD: u32 = 64;
/// A part of a frame that goes on fills its buffer, but for an FCS that reached into the next one and was stripped.
const FCS_BYTES: u32 = 4;

/// Descriptors and the buffers that they are for. Positions count on for ever, as in [`crate::transmit::TransmitRing`].
///
/// # Invariants
/// - `next <= announced <= filled`, and less than all slots are between `next` and `filled`.
/// - The slots from `next` to `filled` have a buffer each, with room for `packet_bytes` from where a frame begins; the others
///   have none.
pub(crate) struct ReceiveRing<F: PacketFormat> {
    ring: DescriptorRing,
    slots: Box<[Option<F::Buffer>]>,
    mask: u32,
    next: u32,
    announced: u32,
    filled: u32,
    packet_bytes: u32,
    /// A descriptor that seems to have been left out.
    skipped: Option<u32>,
    register: usize,
    queue: u16,
    /// Frames that were dropped for an error, and for having more parts than were asked for.
    pub(crate) dropped: u64,
    losses: Arc<LossCounters>,
}

impl<F: PacketFormat> ReceiveRing<F> {
    /// Of `depth` descriptors, a power of two, in `memory`, for buffers of `packet_bytes`; `register` is its RDT.
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

    /// How many buffers it takes.
    #[inline(always)]
    pub(crate) fn room(&self) -> u32 {
        self.mask - self.held()
    }

    /// How many it has.
    #[inline(always)]
    pub(crate) fn held(&self) -> u32 {
        self.filled.wrapping_sub(self.next)
    }

    /// Takes a buffer to be filled, or gives it back: there is no room, or none in it.
    #[inline(always)]
    pub(crate) fn give(&mut self, buffer: F::Buffer) -> Result<(), F::Buffer> {
        let (range, start) = (buffer.dma_range(self.ring.dma_space()), F::start(&buffer));
        if start >= range.len() {
            return Err(buffer);
        }
        let room = (range.len() - start) as u32;
        self.take(Held { buffer, address: range.addr(start), room })
    }

    /// Takes a buffer whose frame begins where it is to begin, as [`Self::give`].
    #[inline(always)]
    pub(crate) fn take(&mut self, held: Held<F::Buffer>) -> Result<(), F::Buffer> {
        self.offer(held).map_err(|held| held.buffer)
    }

    /// As [`Self::take`], and gives it back with all that is known of it.
    #[inline(always)]
    pub(crate) fn offer(&mut self, held: Held<F::Buffer>) -> Result<(), Held<F::Buffer>> {
        if self.room() == 0 || held.room < self.packet_bytes {
            return Err(held);
        }
        // The second word is the address of a header buffer, which there is none of, and says "not done".
        self.ring.write(self.filled, [held.address.to_bits(), 0]);
        fill(&mut self.slots[(self.filled & self.mask) as usize], held.buffer);
        self.filled = self.filled.wrapping_add(1);
        Ok(())
    }

    /// Tells the device of buffers, when they are many or it has not more than these: one store.
    #[inline(always)]
    pub(crate) fn announce(&mut self, registers: &Registers) {
        self.announce_for(registers, 0);
    }

    /// The same when so many frames are about to leave, each of which may bring one back.
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

    /// Tells the device of all buffers.
    #[inline]
    pub(crate) fn announce_all(&mut self, registers: &Registers) {
        if self.announced != self.filled {
            self.announced = self.filled;
            registers.write32(self.register, self.filled & self.mask);
        }
    }

    /// Whether the device has filled one.
    #[inline(always)]
    pub(crate) fn has_new(&self) -> bool {
        self.next != self.filled && is_received(self.ring.read_second(self.next))
    }

    /// Whether the device has left the next descriptor out, which it does in order; it did if that is so at two looks.
    pub(crate) fn look_for_skipped(&mut self) -> Result<(), Fault> {
        let given = self.announced.wrapping_sub(self.next);
        let done = |ahead: u32| is_received(self.ring.read_second(self.next.wrapping_add(ahead)));
        let skipped = given > 1 && (1..given.min(LOOK_AHEAD)).any(done) && !done(0);
        let before = core::mem::replace(&mut self.skipped, skipped.then_some(self.next));
        if skipped && before == Some(self.next) {
            let (queue, index) = (self.queue, (self.next & self.mask) as u16);
            return Err(Fault::SkippedDescriptor { queue, index });
        }
        Ok(())
    }

    /// Hands over frames, whole ones, until `most` buffers. Answers how many buffers.
    ///
    /// # Errors
    /// When the device has written what cannot be.
    #[inline(always)]
    pub(crate) fn poll(
        &mut self,
        most: usize,
        mut take: impl FnMut(F::Buffer, Received),
    ) -> Result<usize, Fault> {
        let mut count = 0;
        while count < most && self.next != self.filled {
            let second = self.ring.read_second(self.next);
            if !is_plain(second) {
                if !is_received(second) {
                    break;
                }
                match self.odd(most, most - count, &mut take)? {
                    Some(taken) => count += taken,
                    None => break,
                }
                continue;
            }
            let (buffer, received) = self.next_part(second)?;
            take(buffer, received);
            count += 1;
        }
        Ok(count)
    }

    /// The buffer of the next descriptor, which was read as done.
    #[inline(always)]
    fn next_part(&mut self, second: u64) -> Result<(F::Buffer, Received), Fault> {
        let len = received_len(second);
        if len == 0 || len > self.packet_bytes || self.next == self.announced {
            return Err(self.impossible(second));
        }
        let first = self.ring.read_first(self.next);
        let Some(buffer) = self.slots[(self.next & self.mask) as usize].take() else {
            return Err(self.impossible(second));
        };
        self.next = self.next.wrapping_add(1);
        Ok((buffer, Received::new(first, second)))
    }

    #[cold]
    fn impossible(&self, second: u64) -> Fault {
        self.impossible_at(self.next, second)
    }

    fn impossible_at(&self, at: u32, second: u64) -> Fault {
        let (queue, index) = (self.queue, (at & self.mask) as u16);
        if at == self.announced {
            Fault::UnaskedDescriptor { queue, index, word: second }
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

    /// A frame in several parts, or a damaged one, which is dropped. `None` if it is not all there, or has no room among the
    /// `left` that are still wanted.
    #[cold]
    fn odd(
        &mut self,
        most: usize,
        left: usize,
        take: &mut impl FnMut(F::Buffer, Received),
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
        // With the FCS stripped, the last part may have nothing left.
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
            let (buffer, received) = self.next_part(second)?;
            take(buffer, if part + 1 == filled { received.ended(last) } else { received });
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

    /// The next buffer is to be filled once more.
    fn recycle(&mut self) -> Result<(), Fault> {
        let second = self.ring.read_second(self.next);
        let buffer = self.slots[(self.next & self.mask) as usize].take();
        let Some(buffer) = buffer.filter(|_| self.next != self.announced) else {
            return Err(self.impossible(second));
        };
        self.next = self.next.wrapping_add(1);
        // There is room, and was in the buffer.
        let _ = self.give(buffer);
        Ok(())
    }

    /// Counts frames that the device has written and that were not handed over: they are lost.
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

    /// Starts over with all buffers that it has, the device having been stopped.
    pub(crate) fn restart(&mut self) {
        self.count_unpolled();
        let held = self.held();
        self.slots.rotate_left((self.next & self.mask) as usize);
        (self.next, self.announced, self.filled) = (0, 0, 0);
        self.ring.clear();
        for index in 0..held {
            if let Some(buffer) = self.slots[index as usize].take() {
                // It was given before.
                let _ = self.give(buffer);
            }
        }
    }

    /// Empties it, the device having been stopped.
    pub(crate) fn take_all(&mut self, all: impl FnMut(F::Buffer)) {
        self.count_unpolled();
        self.slots.iter_mut().filter_map(Option::take).for_each(all);
        (self.next, self.announced, self.filled) = (0, 0, 0);
    }

    /// Never lets go of what the device may still write.
    pub(crate) fn leak(&mut self) {
        self.count_unpolled();
        self.slots.iter_mut().filter_map(Option::take).for_each(core::mem::forget);
    }
}
