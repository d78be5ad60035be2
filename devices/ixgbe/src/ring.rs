//! [`Ring`]: a descriptor ring as the device reads it; [`WriteBack`]: the descriptors that it writes back.

use device_bus::Host;

use crate::map::queue;
use crate::registers::{Queue, Registers};

/// A descriptor: two little-endian words.
pub(crate) type Descriptor = [u64; 2];

pub(crate) const DESCRIPTOR_BYTES: u64 = 16;
/// The most descriptors that are read or written at once. The 82599 holds as many of a queue (section 7.1.7).
pub(crate) const BATCH: usize = 64;
/// The field of a ring's length register: 20 bits of bytes, in units of 128.
const LENGTH_MASK: u32 = 0xf_ff80;

/// The place of a ring, the device's position in it, and descriptors that were read ahead.
pub(crate) struct Ring {
    base: u64,
    count: u32,
    /// The index of the next descriptor.
    head: u32,
    fetched: [Descriptor; BATCH],
    at: usize,
    len: usize,
    /// True after a read of descriptors failed: the ring stands still until the queue is enabled again.
    is_broken: bool,
}

impl Ring {
    /// A ring as the registers from `base` on describe it; `None` if its length is 0.
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

    /// The number of descriptors that the device owns. A tail beyond the ring gives it none.
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

    /// The bus address of a descriptor.
    pub(crate) fn address(&self, index: u32) -> u64 {
        self.base.wrapping_add(u64::from(index) * DESCRIPTOR_BYTES)
    }

    /// Takes the next descriptor and its index, if the device owns one. `on_fetch` is called for each
    /// descriptor that is read ahead.
    #[inline]
    pub(crate) fn next(
        &mut self,
        host: &dyn Host,
        tail: u32,
        on_fetch: impl FnMut(&Descriptor),
    ) -> Option<(u32, Descriptor)> {
        if self.at == self.len && !self.fetch(host, tail, on_fetch) {
            return None;
        }
        let found = (self.head, self.fetched[self.at]);
        self.at += 1;
        self.head = if self.head + 1 == self.count { 0 } else { self.head + 1 };
        Some(found)
    }

    /// Reads ahead, at most to the end of the ring's memory.
    fn fetch(&mut self, host: &dyn Host, tail: u32, on_fetch: impl FnMut(&Descriptor)) -> bool {
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
        self.fetched[..most].iter().for_each(on_fetch);
        (self.at, self.len) = (0, most);
        true
    }
}

/// Consecutive descriptors that are done and not written back yet.
pub(crate) struct WriteBack {
    first: u32,
    len: usize,
    /// The number of frames that end in them.
    frames: u64,
    /// The number of frames whose descriptors could not be written back.
    lost: u64,
    descriptors: [Descriptor; BATCH],
}

impl WriteBack {
    pub(crate) const fn new() -> Self {
        Self { first: 0, len: 0, frames: 0, lost: 0, descriptors: [[0; 2]; BATCH] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds the descriptor with `index`, the next one; `is_last` if a frame ends in it.
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

    /// Writes all of them back.
    pub(crate) fn flush(&mut self, host: &dyn Host, ring: &Ring) {
        if self.len > 0 {
            // The driver of a ring that cannot be written is not told, as on any bus.
            let written = host.publish_descriptors(ring.address(self.first), &self.descriptors[..self.len]);
            if written.is_err() {
                self.lost += self.frames;
            }
            (self.len, self.frames) = (0, 0);
        }
    }

    /// Returns and resets the number of frames that the driver was not told of.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}
