//! [`Frame`]: the bytes of a packet that are its frame, whatever its head says.

use core::ops::Range;

use coppice_rref::{Lent, RRef};

use super::{Packet, PacketHead};

/// A packet as its frame. A head is written by borrowers, so each of these looks at it against the packet's true size.
pub trait Frame {
    /// The bytes of the frame; none if the packet is spare.
    fn frame(&self) -> &[u8];
    /// The bytes of the frame, to change.
    fn frame_mut(&mut self) -> &mut [u8];
    /// Most bytes that a frame in this packet can have, from where it starts.
    fn room(&self) -> usize;
    /// Gives the packet a frame of `len` bytes, or of as many as fit, whose bytes are what they were; and takes back all else that the head
    /// asked for.
    fn set_frame(&mut self, len: usize) -> &mut [u8];
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
                let len = len.min(self.room());
                self.head_mut().set_frame(len as u32);
                self.frame_mut()
            }
        }
    };
}

frame_of!(RRef);
frame_of!(Lent);
