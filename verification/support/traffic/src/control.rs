//! [`Control`]: the requests of a guest to the tester.

use crate::bytes::{U48, get, put};
use crate::error::{DecodeError, EncodeError};
use crate::message::{KIND_ASK, KIND_RESET, KIND_START, KIND_STOP, begin, open, seal};

/// Starts a stream, in place of the tester's current stream with this number. The sequence numbers continue,
/// and the counts start from zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// The stream.
    pub stream: u16,
    /// The guest's id of this request.
    pub request: u32,
    /// Bytes of each frame, without FCS: [`SHORTEST_FRAME`](crate::SHORTEST_FRAME) to
    /// [`LONGEST_FRAME`](crate::LONGEST_FRAME).
    pub frame_bytes: u16,
    /// The average rate in frames per second; 0 for the rate of the wire.
    pub frames_per_second: u64,
    /// The number of frames after which the stream ends; 0 for no end.
    pub count: u64,
    /// The number of back-to-back frames before a pause that restores the rate; 0 means 1.
    pub burst: u32,
    /// The destination address.
    pub destination: [u8; 6],
    /// The number of flows, in IPv4 and UDP, over which the frames are distributed; 0 for plain frames.
    pub flows: u16,
    /// True if the filler of returning frames is checked, too.
    pub checks_filler: bool,
}

/// Stops a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// The stream.
    pub stream: u16,
    /// The guest's id of this request.
    pub request: u32,
}

/// Requests a report and has no other effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The stream.
    pub stream: u16,
    /// The guest's id of this request.
    pub request: u32,
}

/// Resets the counts of a stream, which the guest sends from then on; the tester sends none of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reset {
    /// The stream.
    pub stream: u16,
    /// The guest's id of this request.
    pub request: u32,
    /// The first sequence number that counts, 48 bits: frames with a lower one are from before the reset.
    pub base: u64,
}

/// A request to the tester.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Starts a stream.
    Start(Start),
    /// Stops a stream.
    Stop(Stop),
    /// Requests a report.
    Ask(Ask),
    /// Resets the counts.
    Reset(Reset),
}

const START_BYTES: usize = 44;
const PLAIN_BYTES: usize = 12;
const RESET_BYTES: usize = 20;

impl Control {
    /// The bytes of the frame that [`Self::encode`] writes.
    pub const FRAME_BYTES: usize = crate::SHORTEST_FRAME;

    /// Returns the stream of the request.
    pub const fn stream(&self) -> u16 {
        match self {
            Self::Start(Start { stream, .. })
            | Self::Stop(Stop { stream, .. })
            | Self::Ask(Ask { stream, .. })
            | Self::Reset(Reset { stream, .. }) => *stream,
        }
    }

    /// Returns the guest's id of the request.
    pub const fn request(&self) -> u32 {
        match self {
            Self::Start(Start { request, .. })
            | Self::Stop(Stop { request, .. })
            | Self::Ask(Ask { request, .. })
            | Self::Reset(Reset { request, .. }) => *request,
        }
    }

    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Start(_) => KIND_START,
            Self::Stop(_) => KIND_STOP,
            Self::Ask(_) => KIND_ASK,
            Self::Reset(_) => KIND_RESET,
        }
    }

    /// Writes the request as a frame and returns the frame's length.
    ///
    /// # Errors
    /// [`EncodeError`] when the frame does not fit, or the stream is out of range.
    pub fn encode(
        &self,
        destination: [u8; 6],
        source: [u8; 6],
        frame: &mut [u8],
    ) -> Result<usize, EncodeError> {
        let bytes = match self {
            Self::Start(_) => START_BYTES,
            Self::Stop(_) | Self::Ask(_) => PLAIN_BYTES,
            Self::Reset(_) => RESET_BYTES,
        };
        let names = (self.kind(), self.stream(), self.request());
        let (message, len) = begin(frame, destination, source, names, bytes)?;
        match self {
            Self::Start(start) => {
                put::<2>(message, 8, start.frame_bytes.into());
                put::<2>(message, 10, start.flows.into());
                put::<4>(message, 12, start.burst.into());
                put::<8>(message, 16, start.frames_per_second);
                put::<8>(message, 24, start.count);
                message[32..38].copy_from_slice(&start.destination);
                message[38] = start.checks_filler.into();
            }
            Self::Reset(reset) => put::<6>(message, 8, reset.base & U48),
            Self::Stop(_) | Self::Ask(_) => {}
        }
        seal(message);
        Ok(len)
    }

    pub(crate) fn get(message: &[u8]) -> Result<Self, DecodeError> {
        let kind = message[1..].first().copied();
        match kind {
            Some(KIND_START) => {
                let (stream, request) = open(message, START_BYTES)?;
                if message[38] > 1 {
                    return Err(DecodeError::Field { offset: 38, value: message[38].into() });
                }
                let mut destination = [0; 6];
                destination.copy_from_slice(&message[32..38]);
                Ok(Self::Start(Start {
                    stream,
                    request,
                    frame_bytes: get::<2>(message, 8) as u16,
                    flows: get::<2>(message, 10) as u16,
                    burst: get::<4>(message, 12) as u32,
                    frames_per_second: get::<8>(message, 16),
                    count: get::<8>(message, 24),
                    destination,
                    checks_filler: message[38] == 1,
                }))
            }
            Some(KIND_STOP) => {
                open(message, PLAIN_BYTES).map(|(stream, request)| Self::Stop(Stop { stream, request }))
            }
            Some(KIND_ASK) => {
                open(message, PLAIN_BYTES).map(|(stream, request)| Self::Ask(Ask { stream, request }))
            }
            Some(KIND_RESET) => open(message, RESET_BYTES)
                .map(|(stream, request)| Self::Reset(Reset { stream, request, base: get::<6>(message, 8) })),
            Some(kind) => Err(DecodeError::Kind { kind }),
            None => Err(DecodeError::TooShort { bytes: message.len(), least: 2 }),
        }
    }
}
