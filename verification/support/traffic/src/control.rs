//! [`Control`]: what a guest asks of the tester.

use crate::bytes::{U48, get, put};
use crate::error::{DecodeError, EncodeError};
use crate::message::{KIND_ASK, KIND_RESET, KIND_START, KIND_STOP, begin, open, seal};

/// Has the tester send a stream, from now on and in place of what it sent of it before. The stream's numbers go on where they were,
/// and its counts begin anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Start {
    /// Which stream.
    pub stream: u16,
    /// The guest's name for this request.
    pub request: u32,
    /// How long each frame is, without FCS: [`SHORTEST_FRAME`](crate::SHORTEST_FRAME) to [`LONGEST_FRAME`](crate::LONGEST_FRAME).
    pub frame_bytes: u16,
    /// How many frames in a second, on average; 0 for as many as the wire carries.
    pub frames_per_second: u64,
    /// After how many frames it ends; 0 for none.
    pub count: u64,
    /// How many frames follow each other directly, before there is a pause that makes up for it; 0 is 1.
    pub burst: u32,
    /// To whom.
    pub destination: [u8; 6],
    /// Among how many flows frames alternate, in IPv4 and UDP; 0 for plain frames.
    pub flows: u16,
    /// Whether the filler of those that come back is looked at, too.
    pub checks_filler: bool,
}

/// Has the tester send no more of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stop {
    /// Which stream.
    pub stream: u16,
    /// The guest's name for this request.
    pub request: u32,
}

/// Asks for a report, and nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Which stream.
    pub stream: u16,
    /// The guest's name for this request.
    pub request: u32,
}

/// Has the tester count a stream anew; it is the guest's from then on, and the tester sends none of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reset {
    /// Which stream.
    pub stream: u16,
    /// The guest's name for this request.
    pub request: u32,
    /// The first number that counts, 48 bits: frames with a lower one are left over from before.
    pub base: u64,
}

/// A request to the tester.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Control {
    /// Send.
    Start(Start),
    /// Send no more.
    Stop(Stop),
    /// Report.
    Ask(Ask),
    /// Count anew.
    Reset(Reset),
}

const START_BYTES: usize = 44;
const PLAIN_BYTES: usize = 12;
const RESET_BYTES: usize = 20;

impl Control {
    /// Bytes of the frame that [`Self::encode`] writes.
    pub const FRAME_BYTES: usize = crate::SHORTEST_FRAME;

    /// Which stream it is about.
    pub const fn stream(&self) -> u16 {
        match self {
            Self::Start(Start { stream, .. })
            | Self::Stop(Stop { stream, .. })
            | Self::Ask(Ask { stream, .. })
            | Self::Reset(Reset { stream, .. }) => *stream,
        }
    }

    /// The guest's name for it.
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
