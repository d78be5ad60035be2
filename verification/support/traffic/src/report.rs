//! [`Report`]: the counts of a stream.

use core::fmt;

use crate::Control;
use crate::bytes::{get, put};
use crate::error::{DecodeError, EncodeError};
use crate::message::{KIND_ASK, KIND_REPORT, KIND_RESET, begin, open, seal};

/// The latency of frames: upper bounds of quantiles, too large by at most an eighth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Latency {
    /// The median.
    pub p50_ns: u64,
    /// The 99 % quantile.
    pub p99_ns: u64,
    /// The 99.9 % quantile.
    pub p999_ns: u64,
    /// The exact maximum.
    pub max_ns: u64,
}

/// The reason why a request was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The frame length is not one of test frames.
    FrameBytes,
    /// The rate is above one frame per nanosecond.
    Rate,
}

const REFUSALS: [Refusal; 2] = [Refusal::FrameBytes, Refusal::Rate];

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameBytes => {
                write!(
                    f,
                    "a test frame must have {} to {} bytes",
                    crate::SHORTEST_FRAME,
                    crate::LONGEST_FRAME
                )
            }
            Self::Rate => f.write_str("the rate is above one frame per nanosecond"),
        }
    }
}

/// The counts of a stream since their reset. Times are nanoseconds of the tester's clock; 0 if there was no
/// such event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The stream.
    pub stream: u16,
    /// The id of the request.
    pub request: u32,
    /// The kind of the request: [`Report::answers`].
    kind: u8,
    /// The reason why the request was refused.
    pub refusal: Option<Refusal>,
    /// True if the tester currently sends the stream.
    pub is_running: bool,
    /// The time of the report.
    pub now_ns: u64,
    /// Frames that the tester has sent.
    pub sent: u64,
    /// Bytes of these frames, without FCS.
    pub sent_bytes: u64,
    /// The time of the first sent frame.
    pub sent_first_ns: u64,
    /// The time of the last sent frame.
    pub sent_last_ns: u64,
    /// Frames that returned or arrived, each number once.
    pub returned: u64,
    /// Bytes of these frames, without FCS.
    pub returned_bytes: u64,
    /// The time of the first received frame.
    pub returned_first_ns: u64,
    /// The time of the last received frame.
    pub returned_last_ns: u64,
    /// Missing numbers below the highest received one.
    pub lost: u64,
    /// Frames that came after one with a higher number. They are not lost.
    pub late: u64,
    /// Duplicates, including frames so late that this is unknown.
    pub twice: u64,
    /// Frames with a damaged message or filler. Their stream is unknown, so the report of each stream has the
    /// total since the tester was created.
    pub damaged: u64,
    /// Frames with numbers from before the reset.
    pub stale: u64,
    /// The latency of the frames that the tester itself has sent.
    pub latency: Latency,
    /// The time in which the tester's host did not run it although frames were due, and none was sent for
    /// that reason.
    pub stalled_ns: u64,
}

/// The count of numbers from byte 12 on.
const NUMBERS: usize = 19;
const FIRST: usize = 12;
const BYTES: usize = FIRST + 8 * NUMBERS + 4;

impl Report {
    /// The bytes of the frame that [`Self::encode`] writes.
    pub const FRAME_BYTES: usize = 14 + BYTES;

    /// Returns the reply to a request, with all counts zero.
    pub fn to(request: &Control) -> Self {
        Self { stream: request.stream(), request: request.request(), kind: request.kind(), ..Self::default() }
    }

    /// Returns true if this is the reply to that request.
    pub fn answers(&self, request: &Control) -> bool {
        (self.stream, self.request, self.kind) == (request.stream(), request.request(), request.kind())
    }

    /// Returns the number of the tester's frames that have not returned: lost or in transit.
    pub const fn missing(&self) -> u64 {
        self.sent.saturating_sub(self.returned)
    }

    /// Writes the report as a frame and returns the frame's length.
    ///
    /// # Errors
    /// [`EncodeError`] when the frame does not fit.
    pub fn encode(
        &self,
        destination: [u8; 6],
        source: [u8; 6],
        frame: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let names = (KIND_REPORT, self.stream, self.request);
        let (message, len) = begin(frame, destination, source, names, BYTES)?;
        message[8] = self.kind;
        let refusal = REFUSALS.iter().position(|one| Some(*one) == self.refusal);
        message[9] = refusal.map_or(0, |index| index as u8 + 1);
        message[10] = self.is_running.into();
        let mut copy = *self;
        for (index, number) in copy.numbers().into_iter().enumerate() {
            put::<8>(message, FIRST + 8 * index, *number);
        }
        seal(message);
        Ok(len)
    }

    pub(crate) fn get(message: &[u8]) -> Result<Self, DecodeError> {
        let (stream, request) = open(message, BYTES)?;
        let kind = message[8];
        let refusal = match usize::from(message[9]) {
            0 => None,
            code => {
                let refusal = REFUSALS.get(code - 1).copied();
                Some(refusal.ok_or(DecodeError::Field { offset: 9, value: code as u64 })?)
            }
        };
        for (offset, most) in [(10, 1), (11, 0)] {
            if message[offset] > most {
                return Err(DecodeError::Field { offset, value: message[offset].into() });
            }
        }
        // Requests have the kinds from 2 on.
        if !(2..=KIND_RESET.max(KIND_ASK)).contains(&kind) {
            return Err(DecodeError::Field { offset: 8, value: kind.into() });
        }
        let mut report =
            Self { stream, request, kind, refusal, is_running: message[10] == 1, ..Self::default() };
        for (index, number) in report.numbers().into_iter().enumerate() {
            *number = get::<8>(message, FIRST + 8 * index);
        }
        Ok(report)
    }

    /// Returns the numbers in the order of the message.
    fn numbers(&mut self) -> [&mut u64; NUMBERS] {
        [
            &mut self.now_ns,
            &mut self.sent,
            &mut self.sent_bytes,
            &mut self.sent_first_ns,
            &mut self.sent_last_ns,
            &mut self.returned,
            &mut self.returned_bytes,
            &mut self.returned_first_ns,
            &mut self.returned_last_ns,
            &mut self.lost,
            &mut self.late,
            &mut self.twice,
            &mut self.damaged,
            &mut self.stale,
            &mut self.latency.p50_ns,
            &mut self.latency.p99_ns,
            &mut self.latency.p999_ns,
            &mut self.latency.max_ns,
            &mut self.stalled_ns,
        ]
    }
}
