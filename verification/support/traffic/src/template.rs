//! [`Template`]: a test frame that is written once and then only renumbered.

use crate::error::EncodeError;
use crate::frame::{
    ETHERNET, FLOW_MESSAGE, LONGEST_FRAME, SHORTEST_FRAME, filler, put_ethernet, put_flow, put_flow_headers,
};
use crate::message::STREAMS;
use crate::test::Test;

/// The common properties of all frames of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The destination address.
    pub destination: [u8; 6],
    /// The source address.
    pub source: [u8; 6],
    /// The length in bytes, without FCS.
    pub bytes: usize,
    /// The number of flows over which the frames are distributed; 0 for plain frames.
    pub flows: u16,
}

/// The frames of a stream. The template holds no bytes: [`write`](Self::write) makes any number of frames,
/// and [`stamp`](Self::stamp) numbers any of them.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    shape: Shape,
    stream: u16,
    flow: u16,
}

impl Template {
    /// Returns the template of a stream.
    ///
    /// # Errors
    /// [`EncodeError`] when the stream or the length is out of range.
    pub fn new(stream: u16, shape: Shape) -> Result<Self, EncodeError> {
        if stream >= STREAMS {
            return Err(EncodeError::Stream { stream });
        }
        if shape.bytes < SHORTEST_FRAME {
            return Err(EncodeError::NoRoom { bytes: shape.bytes, least: SHORTEST_FRAME });
        }
        if shape.bytes > LONGEST_FRAME {
            return Err(EncodeError::TooLong { bytes: shape.bytes, most: LONGEST_FRAME });
        }
        Ok(Self { shape, stream, flow: 0 })
    }

    /// Returns the common properties of the frames.
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Writes all of a frame but its number to the beginning of `frame`, and returns its length.
    ///
    /// # Errors
    /// [`EncodeError::NoRoom`] when `frame` is too short.
    pub fn write(&self, frame: &mut [u8]) -> Result<usize, EncodeError> {
        let least = self.shape.bytes;
        let room = frame.len();
        let frame = frame.get_mut(..least).ok_or(EncodeError::NoRoom { bytes: room, least })?;
        put_ethernet(frame, self.shape.destination, self.shape.source, self.shape.flows > 0);
        if self.shape.flows > 0 {
            put_flow_headers(frame);
        }
        for (offset, byte) in frame.iter_mut().enumerate().skip(self.offset()) {
            *byte = filler(offset);
        }
        Ok(least)
    }

    /// Numbers a frame that [`Self::write`] has written.
    ///
    /// # Panics
    /// When `frame` is shorter than that.
    #[inline]
    pub fn stamp(&mut self, frame: &mut [u8], sequence: u64, sent_ns: u64) {
        if self.shape.flows > 1 {
            put_flow(frame, self.flow);
            self.flow = if self.flow + 1 == self.shape.flows { 0 } else { self.flow + 1 };
        }
        Test { stream: self.stream, sequence, sent_ns }.put(&mut frame[self.offset()..]);
    }

    #[inline]
    const fn offset(&self) -> usize {
        if self.shape.flows > 0 { FLOW_MESSAGE } else { ETHERNET }
    }
}
