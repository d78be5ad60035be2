//! [`Frame`]: the bytes of a packet that are its frame, whatever its head says. [`Frames`]: the same in a batch.

use core::ops::Range;

use coppice_rref::{Lent, RRef};

use super::{Batch, Packet, PacketHead};

/// A packet as its frame. A head is written by borrowers, so each of these looks at it against the packet's true size.
pub trait Frame {
    /// The bytes of the frame; none if the packet is spare.
    fn frame(&self) -> &[u8];
    /// The bytes of the frame, to change.
    fn frame_mut(&mut self) -> &mut [u8];
    /// Most bytes that a frame in this packet can have, from where it starts.
    fn room(&self) -> usize;
    /// Gives the packet a frame of `len` bytes, whose bytes are what they were; and takes back all else that the head asked for. Returns
    /// as many of the bytes as fit: if that is less than `len`, a device refuses the frame ([`Refusal::TooLong`](super::Refusal)).
    fn set_frame(&mut self, len: usize) -> &mut [u8];
}

/// A length as a head holds it. No packet has room for what a head cannot say.
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

/// A batch as frames, where they lie: nothing is taken out and put back.
pub trait Frames {
    /// The bytes of the `index`th packet's frame; none if it is spare.
    fn frame_at(&self, index: usize) -> Option<&[u8]>;
    /// The same, to change.
    fn frame_at_mut(&mut self, index: usize) -> Option<&mut [u8]>;
    /// Has `write` make a frame in the `index`th packet: it is given all bytes from where a frame starts, and returns how many of them
    /// are the frame; 0 leaves the packet spare. Returns that number. If it is more than the packet has room for, nothing is cut off: a
    /// device refuses the frame ([`Refusal::TooLong`](super::Refusal)).
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
