//! [`Frame`]: the frame's bytes within a packet, with any head. [`Frames`]: the same within a batch.

use core::ops::Range;

use coppice_rref::{Lent, RRef};

use crate::{Batch, Packet, PacketHead};

/// Access to the frame of a packet. Borrowers write the head, so each method checks it against the packet's
/// real size.
pub trait Frame {
    /// The bytes of the frame; empty if the packet is spare.
    fn frame(&self) -> &[u8];
    /// The bytes of the frame, writable.
    fn frame_mut(&mut self) -> &mut [u8];
    /// The size of the longest frame that fits into this packet, from the frame's start on.
    fn room(&self) -> usize;
    /// Sets the length of the frame to `len` bytes without changing the bytes, and clears all offload
    /// requests of the head. Returns the bytes that fit: if they are fewer than `len`, a device refuses the
    /// frame ([`Refusal::TooLong`](super::Refusal)).
    fn set_frame(&mut self, len: usize) -> &mut [u8];
}

/// A length as a head stores it. No packet has room for a length that a head cannot store.
fn bytes(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn range(head: &PacketHead, capacity: usize) -> Range<usize> {
    let start = (head.start() as usize).min(capacity);
    start..start + (head.len() as usize).min(capacity - start)
}

macro_rules! frame_of {
    ($Reference:ident) => {
        impl Frame for $Reference<Packet> {
            #[inline]
            fn frame(&self) -> &[u8] {
                &self.bytes()[range(self.head(), self.capacity())]
            }

            #[inline]
            fn frame_mut(&mut self) -> &mut [u8] {
                let range = range(self.head(), self.capacity());
                &mut self.bytes_mut()[range]
            }

            #[inline]
            fn room(&self) -> usize {
                self.capacity().saturating_sub(self.head().start() as usize)
            }

            #[inline]
            fn set_frame(&mut self, len: usize) -> &mut [u8] {
                self.head_mut().set_frame(bytes(len));
                self.frame_mut()
            }
        }
    };
}

frame_of!(RRef);
frame_of!(Lent);

/// Access to the frames of a batch in place, without taking packets out.
pub trait Frames {
    /// The frame of the packet at `index`; empty if that is spare, `None` if there is none.
    fn frame_at(&self, index: usize) -> Option<&[u8]>;
    /// The frame of the packet at `index`, writable.
    fn frame_at_mut(&mut self, index: usize) -> Option<&mut [u8]>;
    /// Makes `write` fill the packet at `index`. `write` receives all bytes from the frame's start on, and
    /// returns the length of its frame; 0 leaves the packet spare. Returns that length; `None` if there is no
    /// such packet. A frame that is longer than the packet is not cut off: a device refuses it
    /// ([`Refusal::TooLong`](super::Refusal)).
    fn write_frame_at(&mut self, index: usize, write: impl FnOnce(&mut [u8]) -> usize) -> Option<usize>;
}

impl Frames for RRef<Batch> {
    #[inline]
    fn frame_at(&self, index: usize) -> Option<&[u8]> {
        Some(self.get(index)?.frame())
    }

    #[inline]
    fn frame_at_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        let packet = self.get(index)?;
        let range = range(packet.head(), packet.capacity());
        self.bytes_at_mut(index)?.get_mut(range)
    }

    #[inline]
    fn write_frame_at(&mut self, index: usize, write: impl FnOnce(&mut [u8]) -> usize) -> Option<usize> {
        let start = self.get(index)?.head().start() as usize;
        let room = self.bytes_at_mut(index)?.get_mut(start..).unwrap_or_default();
        let len = write(room);
        self.get_mut(index)?.set_frame(bytes(len));
        Some(len)
    }
}
