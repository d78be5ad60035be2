//! [`Test`]: the variable part of a test frame.

use crate::bytes::{U48, check16, get, put};
use crate::error::DecodeError;
use crate::message::{KIND_TEST, MARK, STREAMS};

/// One frame of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Test {
    /// The stream, below [`STREAMS`].
    pub stream: u16,
    /// The sequence number of the frame, 48 bits.
    pub sequence: u64,
    /// The time of sending by the sender's clock, 48 bits of nanoseconds: it wraps after 78 hours.
    pub sent_ns: u64,
}

impl Test {
    /// Bytes of the message, without filler.
    pub const BYTES: usize = 18;

    /// Writes the message to the beginning of the buffer.
    ///
    /// # Panics
    /// When the buffer is shorter than [`Self::BYTES`].
    #[inline]
    pub fn put(self, message: &mut [u8]) {
        let (high, low) = self.words();
        put::<8>(message, 0, high);
        put::<8>(message, 8, low);
        put::<2>(message, 16, u64::from(check16(high, low)));
    }

    /// Reads the message from the beginning of the buffer.
    ///
    /// # Errors
    /// [`DecodeError`] when the buffer does not hold a complete, intact test message.
    #[inline]
    pub fn get(message: &[u8]) -> Result<Self, DecodeError> {
        if message.len() < Self::BYTES {
            return Err(DecodeError::TooShort { bytes: message.len(), least: Self::BYTES });
        }
        let (high, low) = (get::<8>(message, 0), get::<8>(message, 8));
        let (expected, found) = (check16(high, low), get::<2>(message, 16) as u16);
        let (mark, kind, stream) = ((high >> 56) as u8, (high >> 48) as u8, (high >> 32) as u16);
        if mark != MARK {
            return Err(DecodeError::Mark { found: mark });
        }
        if kind != KIND_TEST {
            return Err(DecodeError::Kind { kind });
        }
        if expected != found {
            return Err(DecodeError::Check { expected: expected.into(), found: found.into() });
        }
        if stream >= STREAMS {
            return Err(DecodeError::Stream { stream });
        }
        Ok(Self { stream, sequence: (high & 0xffff_ffff) << 16 | low >> 48, sent_ns: low & U48 })
    }

    /// Returns the latency, if the sender's clock is the reader's.
    #[inline]
    pub const fn age_ns(self, now_ns: u64) -> u64 {
        now_ns.wrapping_sub(self.sent_ns) & U48
    }

    const fn words(self) -> (u64, u64) {
        let sequence = self.sequence & U48;
        let high =
            (MARK as u64) << 56 | (KIND_TEST as u64) << 48 | (self.stream as u64) << 32 | sequence >> 16;
        (high, sequence << 48 | self.sent_ns & U48)
    }
}
