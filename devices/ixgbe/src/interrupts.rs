//! Interrupt causes, masks and vectors (82599 datasheet, section 7.3.1 to 7.3.4).
//!
//! IVAR maps the cause of a queue to a vector, and IVAR_MISC maps the other causes to one. An event makes its
//! vector *pending*, until its message is sent or its cause is cleared. The message is sent when the mask
//! allows it and the vector's interval is over.
//!
//! No interrupt is missed: either the driver sees the data of an event, or the event leaves its vector
//! pending.
//! - The device stores the data of the event (a descriptor, LINKS), sets the cause, and then sets the pending
//!   bit. The driver has the pending bit cleared, then the cause, and then reads the data. Each of these is
//!   one atomic change of the word, and the changes of a word have one order. If the driver's change of the
//!   pending word comes last, it has seen the device's, and with it all earlier stores of the device; else
//!   the bit stays set. A bit that is set already is therefore set again: a load that finds it set may be
//!   older than the driver's clearing, with the store of the descriptor not visible yet.
//! - A driver that reads EICR relies on the value of the read. A cause that the read does not return was set
//!   after it, and its pending bit after that, so the clearing of the pending bit, which came first, did not
//!   hit it. The other order of the two could leave a cause set without a message. This one can at worst send
//!   a message for a cause that was read.
//! - Pending bits and masks are changed by one side each and then read by both, in the one order of all
//!   `SeqCst` accesses. So the device's thread sees the mask, or the write of the mask sees the pending bit
//!   and signals the thread.

use device_bus::DmaPort;

use super::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::map::{
    EIAC, EIAM, EIAM_EX, EICR, EICS, EICS_EX, EIMC, EIMC_EX, EIMS, EIMS_EX, EITR, GPIE, GPIE_EIAME,
    GPIE_MSIX, GPIE_OCD, IVAR_MISC,
};
use crate::registers::Image;

/// The number of MSI-X vectors.
pub(crate) const VECTORS: u16 = 64;
/// The causes of queues, which are vectors.
const QUEUE_CAUSES: u32 = 0xffff;
/// The cause of a link status change.
pub(crate) const CAUSE_LINK: u32 = 1 << 20;
/// The cause of a frame lost for want of room in the packet buffer.
pub(crate) const CAUSE_MISSED: u32 = 1 << 17;
/// The causes that a read clears while GPIE.OCD is set: bits 16 to 29.
const OTHER_CLEARED: u32 = 0x3fff_0000;
/// The cause of the timer, which has a vector of its own.
const CAUSE_TIMER: u32 = 1 << 30;
/// All causes that are not a queue's; bit 31 is none.
const OTHER_CAUSES: u32 = 0x7fff_0000;

/// Causes and masks, shared by drivers' threads and the device's thread.
#[derive(Default)]
pub(crate) struct Interrupts {
    causes: AtomicU32,
    /// The mask of queue vectors; a set bit enables.
    mask: AtomicU64,
    /// The mask of other causes; a set bit enables.
    other_mask: AtomicU32,
    pending: AtomicU64,
    other_pending: AtomicU32,
    auto_clear: AtomicU32,
    auto_mask: AtomicU64,
    other_auto_mask: AtomicU32,
}

impl Interrupts {
    pub(crate) fn reset(&self) {
        for word in [&self.mask, &self.pending, &self.auto_mask] {
            word.store(0, Ordering::Relaxed);
        }
        for word in
            [&self.causes, &self.other_mask, &self.other_pending, &self.auto_clear, &self.other_auto_mask]
        {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Signals an event of the queues whose vectors are `vectors`.
    #[inline]
    pub(crate) fn queue_events(&self, vectors: u64) {
        self.causes.fetch_or(vectors as u32 & QUEUE_CAUSES, Ordering::SeqCst);
        self.pending.fetch_or(vectors, Ordering::SeqCst);
    }

    /// Signals an event that is not a queue's.
    pub(crate) fn other_event(&self, cause: u32) {
        self.causes.fetch_or(cause, Ordering::SeqCst);
        self.other_pending.fetch_or(cause, Ordering::SeqCst);
    }

    /// Reads the register at `offset`, if it is an interrupt register.
    pub(crate) fn read(&self, offset: u64, image: &Image) -> Option<u32> {
        let low = |mask: u64| mask as u32 & QUEUE_CAUSES;
        Some(match offset {
            EICR => self.take_causes(image),
            EIMS => low(self.mask.load(Ordering::SeqCst)) | self.other_mask.load(Ordering::SeqCst),
            EIAC => self.auto_clear.load(Ordering::Relaxed),
            EIAM => {
                low(self.auto_mask.load(Ordering::Relaxed)) | self.other_auto_mask.load(Ordering::Relaxed)
            }
            _ if half(EIMS_EX, offset).is_some() => {
                (self.mask.load(Ordering::SeqCst) >> half(EIMS_EX, offset)?) as u32
            }
            _ if half(EIAM_EX, offset).is_some() => {
                (self.auto_mask.load(Ordering::Relaxed) >> half(EIAM_EX, offset)?) as u32
            }
            // These are write-only.
            EICS | EIMC => 0,
            _ if half(EICS_EX, offset).or(half(EIMC_EX, offset)).is_some() => 0,
            _ => return None,
        })
    }

    /// Writes the register at `offset`, if it is an interrupt register. Returns true if the device's thread
    /// has to look.
    pub(crate) fn write(&self, offset: u64, value: u32) -> Option<bool> {
        let queues = u64::from(value & QUEUE_CAUSES);
        let others = value & OTHER_CAUSES;
        Some(match offset {
            EICR => {
                // A vector whose cause was seen is not pending any more.
                self.pending.fetch_and(!queues, Ordering::SeqCst);
                self.other_pending.fetch_and(!others, Ordering::SeqCst);
                self.causes.fetch_and(!value, Ordering::SeqCst);
                false
            }
            EICS => {
                self.queue_events(queues);
                self.other_event(others);
                true
            }
            EIMS => {
                self.mask.fetch_or(queues, Ordering::SeqCst);
                self.other_mask.fetch_or(others, Ordering::SeqCst);
                self.has_ready()
            }
            EIMC => {
                self.mask.fetch_and(!queues, Ordering::SeqCst);
                self.other_mask.fetch_and(!others, Ordering::SeqCst);
                false
            }
            EIAC => {
                self.auto_clear.store(value, Ordering::Relaxed);
                false
            }
            EIAM => {
                let kept = self.auto_mask.load(Ordering::Relaxed) & !u64::from(QUEUE_CAUSES);
                self.auto_mask.store(kept | queues, Ordering::Relaxed);
                self.other_auto_mask.store(others, Ordering::Relaxed);
                false
            }
            _ => {
                let wide = |first| half(first, offset).map(|shift| u64::from(value) << shift);
                if let Some(bits) = wide(EIMS_EX) {
                    self.mask.fetch_or(bits, Ordering::SeqCst);
                    self.has_ready()
                } else if let Some(bits) = wide(EIMC_EX) {
                    self.mask.fetch_and(!bits, Ordering::SeqCst);
                    false
                } else if let Some(bits) = wide(EICS_EX) {
                    self.queue_events(bits);
                    true
                } else if let Some(bits) = wide(EIAM_EX) {
                    let shift = half(EIAM_EX, offset)?;
                    let kept = self.auto_mask.load(Ordering::Relaxed) & !(0xffff_ffff << shift);
                    self.auto_mask.store(kept | bits, Ordering::Relaxed);
                    false
                } else {
                    return None;
                }
            }
        })
    }

    /// Returns true if a vector or cause is pending and enabled.
    #[inline]
    pub(crate) fn has_ready(&self) -> bool {
        self.pending.load(Ordering::SeqCst) & self.mask.load(Ordering::SeqCst) != 0
            || self.other_pending.load(Ordering::SeqCst) & self.other_mask.load(Ordering::SeqCst) != 0
    }

    /// Reads EICR, which clears it, except for causes that clear themselves (section 7.3.4.3).
    fn take_causes(&self, image: &Image) -> u32 {
        let cleared = if image.get(GPIE) & GPIE_OCD == 0 { u32::MAX } else { OTHER_CLEARED };
        self.pending.fetch_and(!u64::from(cleared & QUEUE_CAUSES), Ordering::SeqCst);
        self.other_pending.fetch_and(!cleared, Ordering::SeqCst);
        let causes = self.causes.fetch_and(!cleared, Ordering::SeqCst);
        if image.get(GPIE) & GPIE_MSIX == 0 {
            // Without MSI-X the read applies the automatic mask.
            self.mask.fetch_and(!self.auto_mask.load(Ordering::Relaxed), Ordering::SeqCst);
            self.other_mask.fetch_and(!self.other_auto_mask.load(Ordering::Relaxed), Ordering::SeqCst);
        }
        causes
    }
}

/// The shift of a register's value in a pair of registers that hold 64 bits.
fn half(first: u64, offset: u64) -> Option<u32> {
    match offset.checked_sub(first)? {
        0 => Some(0),
        4 => Some(32),
        _ => None,
    }
}

/// Returns the vector of an IVAR field, if it is valid.
pub(crate) fn vector_of(field: u32) -> Option<u8> {
    (field & 0x80 != 0).then_some((field & 0x3f) as u8)
}

/// The earliest time of each vector's next message. For the device's thread.
pub(crate) struct Throttle {
    next_ns: [u64; VECTORS as usize],
    throttled_until_ns: Option<u64>,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self { next_ns: [0; VECTORS as usize], throttled_until_ns: None }
    }

    /// The time at which a throttled message can be sent; `None` if there is none, or it is masked now.
    #[inline]
    pub(crate) fn due_ns(&self, interrupts: &Interrupts) -> Option<u64> {
        self.throttled_until_ns.filter(|_| interrupts.has_ready())
    }

    /// Sends the pending messages that are enabled and not throttled.
    #[inline]
    pub(crate) fn signal(&mut self, interrupts: &Interrupts, image: &Image, port: &DmaPort, now_ns: u64) {
        if interrupts.has_ready() {
            self.throttled_until_ns = self.send(interrupts, image, port, now_ns);
        }
    }

    /// Sends the pending messages that are enabled. Returns the time at which the first throttled one can be
    /// sent.
    fn send(&mut self, interrupts: &Interrupts, image: &Image, port: &DmaPort, now_ns: u64) -> Option<u64> {
        let uses_msix = image.get(GPIE) & GPIE_MSIX != 0;
        let mut due = None;
        let mut throttled = |at: u64| due = Some(due.map_or(at, |due: u64| due.min(at)));
        let mut ready = interrupts.pending.load(Ordering::SeqCst) & interrupts.mask.load(Ordering::SeqCst);
        while ready != 0 {
            let vector = ready.trailing_zeros() as u8;
            let bit = 1 << vector;
            ready &= !bit;
            let sent = if uses_msix { vector } else { 0 };
            if let Err(at) = self.admit(sent, image, now_ns) {
                throttled(at);
                continue;
            }
            interrupts.pending.fetch_and(!bit, Ordering::SeqCst);
            if uses_msix {
                let cleared = bit as u32 & QUEUE_CAUSES & interrupts.auto_clear.load(Ordering::Relaxed);
                if cleared != 0 && vector < 16 {
                    interrupts.causes.fetch_and(!cleared, Ordering::SeqCst);
                }
                if image.get(GPIE) & GPIE_EIAME != 0 {
                    let masked = bit & interrupts.auto_mask.load(Ordering::Relaxed);
                    interrupts.mask.fetch_and(!masked, Ordering::SeqCst);
                }
            }
            // A closed port sends nothing, as without bus mastering; a driver that opens it starts over.
            let _ = port.raise(sent.into());
        }
        let others =
            interrupts.other_pending.load(Ordering::SeqCst) & interrupts.other_mask.load(Ordering::SeqCst);
        for (causes, shift) in [(others & CAUSE_TIMER, 0), (others & !CAUSE_TIMER, 8)] {
            if causes == 0 {
                continue;
            }
            let vector = vector_of(image.get(IVAR_MISC) >> shift);
            let Some(vector) = (if uses_msix { vector } else { Some(0) }) else { continue };
            if let Err(at) = self.admit(vector, image, now_ns) {
                throttled(at);
                continue;
            }
            interrupts.other_pending.fetch_and(!causes, Ordering::SeqCst);
            if uses_msix {
                let cleared = causes & interrupts.auto_clear.load(Ordering::Relaxed);
                interrupts.causes.fetch_and(!cleared, Ordering::SeqCst);
                if image.get(GPIE) & GPIE_EIAME != 0 {
                    let masked = causes & interrupts.other_auto_mask.load(Ordering::Relaxed);
                    interrupts.other_mask.fetch_and(!masked, Ordering::SeqCst);
                }
            }
            let _ = port.raise(vector.into());
        }
        due
    }

    /// Admits a message of `vector`, or returns the time at which it may be sent (EITR, section 7.3.2.1: the
    /// interval is in units of 2 us, from bit 3 on).
    fn admit(&mut self, vector: u8, image: &Image, now_ns: u64) -> Result<(), u64> {
        let next = &mut self.next_ns[usize::from(vector) % usize::from(VECTORS)];
        if now_ns < *next {
            return Err(*next);
        }
        let interval = u64::from(image.get(eitr(vector)) >> 3 & 0x1ff);
        *next = now_ns + interval * 2000;
        Ok(())
    }
}

/// The offset of a vector's EITR: the first 24 are apart from the rest.
fn eitr(vector: u8) -> u64 {
    let vector = u64::from(vector);
    if vector < 24 { EITR + 4 * vector } else { 0x1_2300 + 4 * (vector - 24) }
}
