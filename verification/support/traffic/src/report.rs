//! [`Report`]: what became of a stream.

use core::fmt;

use crate::Control;
use crate::bytes::{get, put};
use crate::error::{DecodeError, EncodeError};
use crate::message::{KIND_ASK, KIND_REPORT, KIND_RESET, begin, open, seal};

/// How long frames were on their way: upper bounds of what so many of them took, an eighth too large at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Latency {
    /// Half of them.
    pub p50_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1000.
    pub p999_ns: u64,
    /// All of them, exactly.
    pub max_ns: u64,
}

/// Why a request was not done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The frame is too short or too long for a test.
    FrameBytes,
    /// More frames in a second than there are nanoseconds.
    Rate,
}

const REFUSALS: [Refusal; 2] = [Refusal::FrameBytes, Refusal::Rate];

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FrameBytes => {
                write!(f, "test frames have {} to {} bytes", crate::SHORTEST_FRAME, crate::LONGEST_FRAME)
            }
            Self::Rate => f.write_str("no tester sends more than a frame in a nanosecond"),
        }
    }
}

/// What became of a stream since its counts began. Times are nanoseconds of the tester's clock; 0 where nothing happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Which stream.
    pub stream: u16,
    /// The request that this answers.
    pub request: u32,
    /// What kind of request it was: [`Report::answers`].
    kind: u8,
    /// Why nothing was done.
    pub refusal: Option<Refusal>,
    /// Whether the tester sends the stream at the moment.
    pub is_running: bool,
    /// When this was written.
    pub now_ns: u64,
    /// Frames that the tester has sent.
    pub sent: u64,
    /// Bytes of these, without FCS.
    pub sent_bytes: u64,
    /// When the first of these was.
    pub sent_first_ns: u64,
    /// And the last.
    pub sent_last_ns: u64,
    /// Frames that came (back), each number once.
    pub returned: u64,
    /// Bytes of these, without FCS.
    pub returned_bytes: u64,
    /// When the first of these came.
    pub returned_first_ns: u64,
    /// And the last.
    pub returned_last_ns: u64,
    /// Numbers below the highest that came which did not come, so far.
    pub lost: u64,
    /// Frames that came behind one with a higher number. They are not lost.
    pub late: u64,
    /// Frames that came again, or so late that nobody knows any more whether they did.
    pub twice: u64,
    /// Frames whose message or filler was damaged. It is not known of which stream, so each stream's report has all of them since the tester was made.
    pub damaged: u64,
    /// Frames with numbers from before the counts began.
    pub stale: u64,
    /// How long those took that the tester has sent itself.
    pub latency: Latency,
    /// How long the tester was not run by its host while it had frames to send, and sent none for that reason.
    pub stalled_ns: u64,
}

/// The numbers from byte 12 on.
const NUMBERS: usize = 19;
const FIRST: usize = 12;
const BYTES: usize = FIRST + 8 * NUMBERS + 4;

impl Report {
    /// Bytes of the frame that [`Self::encode`] writes.
    pub const FRAME_BYTES: usize = 14 + BYTES;

    /// The answer to a request, with nothing counted yet.
    pub fn to(request: &Control) -> Self {
        Self { stream: request.stream(), request: request.request(), kind: request.kind(), ..Self::default() }
    }

    /// Whether this answers that request.
    pub fn answers(&self, request: &Control) -> bool {
        (self.stream, self.request, self.kind) == (request.stream(), request.request(), request.kind())
    }

    /// Frames of the tester's that have not come back: lost, or on their way.
    pub const fn missing(&self) -> u64 {
        self.sent.saturating_sub(self.returned)
    }

    /// Writes it as a frame, and says how long that is.
    ///
    /// # Errors
    /// [`EncodeError`].
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
        // Controls have the kinds from 2 on.
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

    /// In the order in which they stand in a message.
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
