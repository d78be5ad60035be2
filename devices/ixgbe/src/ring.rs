//! A ring of descriptors as the device goes round it.

use device_bus::Host;

use crate::map::queue;
use crate::registers::{Queue, Registers};

/// A descriptor: two little-endian words.
pub(crate) type Descriptor = [u64; 2];

pub(crate) const DESCRIPTOR_BYTES: u64 = 16;
/// How many descriptors are read at once, and written at once. The 82599 holds as many of a queue (section 7.1.7).
pub(crate) const BATCH: usize = 64;
/// The most descriptors that a ring's length register can say: 20 bits of bytes, in units of 128.
const LENGTH_MASK: u32 = 0xf_ff80;

/// Where the ring is, how far the device has got, and descriptors that it has read ahead.
pub(crate) struct Ring {
    base: u64,
    count: u32,
    /// The next descriptor to work on.
    head: u32,
    fetched: [Descriptor; BATCH],
    at: usize,
    len: usize,
    /// Its descriptors could not be read: it stands until it is enabled anew.
    is_broken: bool,
}

impl Ring {
    /// As the registers from `base` on say; `None` if they say that there is nothing.
    pub(crate) fn new(registers: &Registers, base: u64, queue: &Queue) -> Option<Self> {
        let image = &registers.image;
        let count = (image.get(base + queue::LEN) & LENGTH_MASK) / DESCRIPTOR_BYTES as u32;
        let address = u64::from(image.get(base + queue::BAL)) | u64::from(image.get(base + queue::BAH)) << 32;
        let head = queue.head();
        (count > 0).then_some(Self {
            // Rings are aligned to 128 bytes (section 8.2.3.8.1).
            base: address & !0x7f,
            count,
            head: if head < count { head } else { 0 },
            fetched: [[0; 2]; BATCH],
            at: 0,
            len: 0,
            is_broken: false,
        })
    }

    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// How many descriptors are the device's. A tail that is beyond the ring gives it none.
    #[inline]
    pub(crate) fn available(&self, tail: u32) -> u32 {
        if tail >= self.count || self.is_broken {
            0
        } else if tail >= self.head {
            tail - self.head
        } else {
            tail + self.count - self.head
        }
    }

    /// Bus address of a descriptor.
    pub(crate) fn address(&self, index: u32) -> u64 {
        self.base.wrapping_add(u64::from(index) * DESCRIPTOR_BYTES)
    }

    /// The next descriptor and its index, if the device has one. `foresee` sees those that are read ahead.
    #[inline]
    pub(crate) fn next(
        &mut self,
        host: &dyn Host,
        tail: u32,
        foresee: impl FnMut(&Descriptor),
    ) -> Option<(u32, Descriptor)> {
        if self.at == self.len && !self.fetch(host, tail, foresee) {
            return None;
        }
        let found = (self.head, self.fetched[self.at]);
        self.at += 1;
        self.head = if self.head + 1 == self.count { 0 } else { self.head + 1 };
        Some(found)
    }

    /// Reads ahead, up to where the ring ends.
    fn fetch(&mut self, host: &dyn Host, tail: u32, foresee: impl FnMut(&Descriptor)) -> bool {
        let most = self.available(tail).min(self.count - self.head).min(BATCH as u32) as usize;
        if most == 0 {
            return false;
        }
        let mut bytes = [0; BATCH * DESCRIPTOR_BYTES as usize];
        let bytes = &mut bytes[..most * DESCRIPTOR_BYTES as usize];
        if host.read_memory(self.address(self.head), bytes).is_err() {
            self.is_broken = true;
            return false;
        }
        for (descriptor, words) in self.fetched.iter_mut().zip(bytes.as_chunks::<8>().0.as_chunks::<2>().0) {
            *descriptor = words.map(u64::from_le_bytes);
        }
        self.fetched[..most].iter().for_each(foresee);
        (self.at, self.len) = (0, most);
        true
    }
}

/// Descriptors that are done and not written back yet: neighbours.
pub(crate) struct Finished {
    first: u32,
    len: usize,
    /// Frames that end in them.
    frames: u64,
    /// Frames of descriptors that could not be written back.
    lost: u64,
    descriptors: [Descriptor; BATCH],
}

impl Finished {
    pub(crate) const fn new() -> Self {
        Self { first: 0, len: 0, frames: 0, lost: 0, descriptors: [[0; 2]; BATCH] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds the one with `index`, which is the next; `is_last` if a frame ends in it.
    #[inline]
    pub(crate) fn push(
        &mut self,
        host: &dyn Host,
        ring: &Ring,
        index: u32,
        descriptor: Descriptor,
        is_last: bool,
    ) {
        if self.len == BATCH || self.first + self.len as u32 != index {
            self.flush(host, ring);
        }
        if self.len == 0 {
            self.first = index;
        }
        self.descriptors[self.len] = descriptor;
        self.len += 1;
        self.frames += u64::from(is_last);
    }

    /// Writes them back.
    pub(crate) fn flush(&mut self, host: &dyn Host, ring: &Ring) {
        if self.len > 0 {
            // Where a ring cannot be written to, its driver learns nothing, as on any bus.
            let written = host.publish_descriptors(ring.address(self.first), &self.descriptors[..self.len]);
            if written.is_err() {
                self.lost += self.frames;
            }
            (self.len, self.frames) = (0, 0);
        }
    }

    /// Frames that the driver does not learn of, since this was last asked.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}
