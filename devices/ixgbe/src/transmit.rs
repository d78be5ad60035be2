//! [`Sender`]: sends frames from the buffers of queues to the wire (82599 datasheet, section 7.2).

use device_bus::Host;

use crate::filter::{AddressKind, address_kind};
use crate::interrupts::vector_of;
use crate::map::*;
use crate::offload::{Context, Offload, fill_in, segment};
use crate::registers::{Registers, signal, tx_queue};
use crate::ring::{BATCH, Descriptor, Ring};
use crate::statistics::{Counter, SETS, size_class};

/// The longest frame that the device takes: 15.5 KiB (section 1.3).
const FRAME_BYTES: usize = 15_872;
/// The largest packet that it segments (section 7.2.4).
const PACKET_BYTES: usize = 1 << 18;
const SHORTEST_BYTES: usize = 60;
const FCS_BYTES: usize = 4;

/// Bits of the second word of descriptors (section 7.2.3.2).
mod bits {
    pub(super) const EOP: u64 = 1 << 24;
    pub(super) const IFCS: u64 = 1 << 25;
    pub(super) const IC: u64 = 1 << 26;
    pub(super) const RS: u64 = 1 << 27;
    pub(super) const DEXT: u64 = 1 << 29;
    pub(super) const VLE: u64 = 1 << 30;
    pub(super) const TSE: u64 = 1 << 31;
    pub(super) const DD: u64 = 1 << 32;
    pub(super) const IXSM: u64 = 1 << 40;
    pub(super) const TXSM: u64 = 1 << 41;
    /// DTYP of a context descriptor, and the mask of the field.
    pub(super) const CONTEXT: u64 = 2 << 20;
    pub(super) const KIND: u64 = 0xf << 20;
}

/// The destination of frames.
pub(crate) trait FrameSink {
    /// Returns true if a frame can be sent now.
    fn is_free(&self) -> bool;
    /// Sends a frame, without FCS.
    fn send(&mut self, frame: &[u8]);
}

/// An enabled transmit queue.
struct TxQueue {
    ring: Ring,
    contexts: [Context; 2],
    /// The frame that is being gathered, at the start of a buffer whose other bytes are stale: clearing them
    /// for each frame would take as long as copying it.
    frame: Vec<u8>,
    len: usize,
    /// The first descriptor of the frame; `None` between frames.
    first: Option<Descriptor>,
    /// The reason why the frame is not sent, if there is one.
    fault: Option<FrameFault>,
    /// TDWBAL and TDWBAH: the address of the head write-back, if it is enabled.
    head_address: Option<u64>,
    vector: u64,
    set: usize,
}

/// The reason why a frame is not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FrameFault {
    Unreadable,
    TooLong,
}

/// The transmit side of the device, from the queues to the wire.
pub(crate) struct Sender {
    queues: Vec<Option<Box<TxQueue>>>,
    /// The indices of the enabled queues.
    enabled: Vec<u8>,
    /// The position in `enabled` of the queue that was served last.
    turn: usize,
    is_on: bool,
    /// The EtherType of inserted VLAN tags.
    vlan_type: u16,
}

impl Sender {
    pub(crate) fn new() -> Self {
        Self {
            queues: (0..QUEUES).map(|_| None).collect(),
            enabled: Vec::with_capacity(QUEUES),
            turn: 0,
            is_on: false,
            vlan_type: 0,
        }
    }

    /// Drops all queues and their frames.
    pub(crate) fn reset(&mut self, registers: &Registers) {
        for queue in self.queues.iter_mut().filter_map(Option::take) {
            queue.end(registers);
        }
        self.enabled.clear();
        self.is_on = false;
    }

    /// Updates the state that is derived from registers, and follows the enable bits of queues.
    pub(crate) fn update(&mut self, registers: &Registers) {
        let image = &registers.image;
        let control = image.get(DMATXCTL);
        self.is_on = control & DMATXCTL_TE != 0 && image.get(RTTDCS) & RTTDCS_ARBDIS == 0;
        self.vlan_type = (control >> 16) as u16;
        self.enabled.clear();
        for index in 0..QUEUES {
            let base = tx_queue(index as u64);
            let shared = &registers.tx[index];
            let queue = &mut self.queues[index];
            match (registers.is_enable_requested(base), queue.is_some()) {
                (true, false) => {
                    *queue = Ring::new(registers, base, shared).map(|ring| Box::new(TxQueue::new(ring)));
                    shared.set_enabled(queue.is_some());
                }
                (false, true) => {
                    if let Some(queue) = queue.take() {
                        queue.end(registers);
                    }
                    shared.set_enabled(false);
                }
                _ => {}
            }
            let Some(queue) = queue else { continue };
            self.enabled.push(index as u8);
            let low = image.get(base + queue::TDWBAL);
            let address = u64::from(low & !3) | u64::from(image.get(base + queue::TDWBAH)) << 32;
            queue.head_address = (low & 1 != 0).then_some(address);
            let entry = image.get(IVAR + index as u64 / 2 * 4) >> (16 * (index % 2) + 8);
            queue.vector = vector_of(entry).map_or(0, |vector| 1 << vector);
            let sets = image.get(TQSM + index as u64 / 4 * 4) >> (8 * (index % 4));
            queue.set = (sets & 0xf) as usize % SETS;
        }
    }

    /// Returns true if a queue has a descriptor to process.
    #[inline]
    pub(crate) fn has_work(&self, registers: &Registers) -> bool {
        self.is_on
            && self.enabled.iter().any(|&index| {
                let queue = self.queues[usize::from(index)].as_ref();
                queue.is_some_and(|queue| queue.ring.available(registers.tx[usize::from(index)].tail()) > 0)
            })
    }

    /// Processes up to a batch of descriptors, queue by queue. Returns true if there were any.
    pub(crate) fn send(&mut self, host: &dyn Host, registers: &Registers, sink: &mut impl FrameSink) -> bool {
        let queues = self.enabled.len();
        let mut vectors = 0;
        let mut left = BATCH;
        let mut worked = false;
        for _ in 0..queues {
            if left == 0 || !sink.is_free() {
                break;
            }
            self.turn = if self.turn + 1 >= queues { 0 } else { self.turn + 1 };
            let index = usize::from(self.enabled[self.turn]);
            let Some(queue) = &mut self.queues[index] else { continue };
            let before = queue.ring.head();
            let reported = queue.work(host, registers, index, self.vlan_type, sink, &mut left);
            if queue.ring.head() != before {
                worked = true;
                registers.tx[index].set_head(queue.ring.head());
            }
            if reported {
                vectors |= queue.vector;
            }
        }
        if vectors != 0 {
            registers.interrupts.queue_events(vectors);
        }
        worked
    }
}

impl TxQueue {
    fn new(ring: Ring) -> Self {
        Self {
            ring,
            contexts: [Context::default(); 2],
            frame: vec![0; FRAME_BYTES],
            len: 0,
            first: None,
            fault: None,
            head_address: None,
            vector: 0,
            set: 0,
        }
    }

    /// Processes descriptors. Returns true if one was reported to the driver.
    fn work(
        &mut self,
        host: &dyn Host,
        registers: &Registers,
        index: usize,
        vlan_type: u16,
        sink: &mut impl FrameSink,
        left: &mut usize,
    ) -> bool {
        let tail = registers.tx[index].tail();
        // Registers that the driver wrote before this tail apply to the frames up to it, and are read first.
        if registers.work_signal.is_set(signal::CONFIG) {
            return false;
        }
        let mut reported = None;
        while *left > 0 && (self.first.is_some() || sink.is_free()) {
            let hint = |descriptor: &Descriptor| host.prefetch(descriptor[0], data_bytes(descriptor));
            let Some((at, descriptor)) = self.ring.next(host, tail, hint) else { break };
            *left -= 1;
            if descriptor[1] & bits::DEXT != 0 && descriptor[1] & bits::KIND == bits::CONTEXT {
                self.contexts[(descriptor[1] >> 36 & 1) as usize] = Context::parse(descriptor);
            } else {
                self.gather(host, descriptor);
                if descriptor[1] & bits::EOP != 0 {
                    self.finish(registers, vlan_type, sink);
                }
            }
            if descriptor[1] & bits::RS != 0 {
                reported = Some(at);
                if self.head_address.is_none() {
                    let done = ((descriptor[1] | bits::DD) >> 32) as u32;
                    // The driver of a ring that cannot be written is not told, as on any bus.
                    let _ = host.publish_u32(self.ring.address(at) + 12, done);
                }
            }
        }
        if let (Some(at), Some(address)) = (reported, self.head_address) {
            let head = if at + 1 == self.ring.count() { 0 } else { at + 1 };
            let _ = host.publish_u32(address, head);
        }
        reported.is_some()
    }

    /// Ends the queue, when it is disabled or the device is reset.
    fn end(&self, registers: &Registers) {
        registers.losses.unfinished.add(u64::from(self.first.is_some()));
    }

    /// Adds the data of a descriptor to the frame.
    #[inline]
    fn gather(&mut self, host: &dyn Host, descriptor: Descriptor) {
        let first = *self.first.get_or_insert(descriptor);
        let limit = if first[1] & bits::TSE != 0 { PACKET_BYTES } else { FRAME_BYTES };
        let end = self.len + data_bytes(&descriptor);
        if self.fault.is_some() {
            return;
        }
        if end > limit {
            self.fault = Some(FrameFault::TooLong);
            return;
        }
        if end > self.frame.len() {
            self.frame.resize(end, 0);
        }
        if host.read_memory(descriptor[0], &mut self.frame[self.len..end]).is_err() {
            self.fault = Some(FrameFault::Unreadable);
        }
        self.len = end;
    }

    /// Sends the frame, which is complete.
    #[inline]
    fn finish(&mut self, registers: &Registers, vlan_type: u16, sink: &mut impl FrameSink) {
        let Some(first) = self.first.take() else { return };
        let mut len = std::mem::take(&mut self.len);
        if first[1] & bits::IFCS == 0 {
            // The driver has appended the FCS itself, and frames here have none.
            len = len.saturating_sub(FCS_BYTES);
        }
        match self.fault.take() {
            Some(FrameFault::Unreadable) => return registers.losses.unreadable.add(1),
            Some(FrameFault::TooLong) => return registers.losses.too_long.add(1),
            None if len == 0 => return registers.losses.empty.add(1),
            None => {}
        }
        let statistics = (registers, self.set);
        let is_legacy = first[1] & bits::DEXT == 0;
        let offloads =
            if is_legacy { bits::IC | bits::VLE } else { bits::VLE | bits::TSE | bits::IXSM | bits::TXSM };
        if first[1] & offloads == 0 {
            if len < SHORTEST_BYTES {
                self.frame[len..SHORTEST_BYTES].fill(0);
            }
            return emit(&self.frame[..len.max(SHORTEST_BYTES)], statistics, sink);
        }
        self.frame.truncate(len);
        self.apply_offloads(first[1], vlan_type, |frame| {
            if frame.len() < SHORTEST_BYTES {
                frame.resize(SHORTEST_BYTES, 0);
            }
            emit(frame, statistics, sink);
        });
        if self.frame.len() < FRAME_BYTES {
            self.frame.resize(FRAME_BYTES, 0);
        }
    }

    /// Applies the offloads of the first descriptor's second word. `each` receives the frames to be sent.
    fn apply_offloads(&mut self, word: u64, vlan_type: u16, mut each: impl FnMut(&mut Vec<u8>)) {
        if word & bits::DEXT == 0 {
            if word & bits::IC != 0 {
                legacy_checksum(&mut self.frame, word);
            }
            if word & bits::VLE != 0 {
                insert_tag(&mut self.frame, vlan_type, (word >> 48) as u16);
            }
            return each(&mut self.frame);
        }
        let context = self.contexts[(word >> 36 & 1) as usize];
        let offload = Offload { network: word & bits::IXSM != 0, transport: word & bits::TXSM != 0 };
        let mut tagged = |frame: &mut Vec<u8>| {
            if word & bits::VLE != 0 {
                insert_tag(frame, vlan_type, context.vlan);
            }
            each(frame);
        };
        if word & bits::TSE != 0 {
            segment(&self.frame, &context, offload, |mut part| tagged(&mut part));
        } else {
            fill_in(&mut self.frame, &context, offload);
            tagged(&mut self.frame);
        }
    }
}

/// Sends a frame and counts it.
#[inline]
fn emit(frame: &[u8], (registers, set): (&Registers, usize), sink: &mut impl FrameSink) {
    sink.send(frame);
    let bytes = frame.len() + FCS_BYTES;
    let statistics = &registers.statistics;
    statistics.add(Counter::GOOD_SENT, 1);
    statistics.add(Counter::GOOD_SENT_BYTES, bytes as u64);
    statistics.add(Counter::TOTAL_SENT, 1);
    statistics.add_at(Counter::SENT_SIZES, size_class(bytes), 1);
    statistics.add_at(Counter::QUEUE_SENT, set, 1);
    statistics.add_at(Counter::QUEUE_SENT_BYTES, set, bytes as u64);
    match address_kind(frame) {
        AddressKind::Unicast => {}
        AddressKind::Multicast => statistics.add(Counter::MULTICAST_SENT, 1),
        AddressKind::Broadcast => statistics.add(Counter::BROADCAST_SENT, 1),
    }
}

fn data_bytes(descriptor: &Descriptor) -> usize {
    (descriptor[1] & 0xffff) as usize
}

fn insert_tag(frame: &mut Vec<u8>, kind: u16, tag: u16) {
    if frame.len() >= 12 {
        let [a, b] = kind.to_be_bytes();
        let [c, d] = tag.to_be_bytes();
        frame.splice(12..12, [a, b, c, d]);
    }
}

/// Inserts the checksum of a legacy descriptor: from CSS on, at CSO (section 7.2.3.2.2).
fn legacy_checksum(frame: &mut [u8], word: u64) {
    let (offset, start) = ((word >> 16 & 0xff) as usize, (word >> 40 & 0xff) as usize);
    if start < frame.len() && offset + 2 <= frame.len() {
        let sum = !crate::headers::sum(&frame[start..], 0);
        frame[offset..offset + 2].copy_from_slice(&sum.to_be_bytes());
    }
}
