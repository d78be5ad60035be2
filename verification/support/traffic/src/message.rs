//! [`Message`]: any message of the protocol, and [`decode`].

use crate::bytes::{check32, get, put};
use crate::control::Control;
use crate::error::{DecodeError, EncodeError};
use crate::frame::{ETHERNET, SHORTEST_FRAME, message_offset, put_ethernet};
use crate::report::Report;
use crate::test::Test;

/// The first byte of each message.
pub const MARK: u8 = 0xc7;
/// The number of streams.
pub const STREAMS: u16 = 64;

pub(crate) const KIND_TEST: u8 = 1;
pub(crate) const KIND_START: u8 = 2;
pub(crate) const KIND_STOP: u8 = 3;
pub(crate) const KIND_ASK: u8 = 4;
pub(crate) const KIND_RESET: u8 = 5;
pub(crate) const KIND_REPORT: u8 = 6;

/// The content of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// A test frame of a stream.
    Test(Test),
    /// A request of a guest.
    Control(Control),
    /// A reply of the tester.
    Report(Report),
}

/// Decodes a frame.
///
/// # Errors
/// [`DecodeError`] when the frame is not a message of this protocol, or a damaged one.
#[inline]
pub fn decode(frame: &[u8]) -> Result<Message, DecodeError> {
    let offset = message_offset(frame)?;
    let message = &frame[offset..];
    match message {
        [MARK, KIND_TEST, ..] => Test::get(message).map(Message::Test),
        [MARK, KIND_REPORT, ..] => Report::get(message).map(Message::Report),
        [MARK, ..] => Control::get(message).map(Message::Control),
        [found, ..] => Err(DecodeError::Mark { found: *found }),
        [] => Err(DecodeError::TooShort { bytes: frame.len(), least: offset + 1 }),
    }
}

/// Starts a plain frame whose message has `bytes` bytes, zero but for its beginning. Returns the message and
/// the length of the frame.
pub(crate) fn begin(
    frame: &mut [u8],
    destination: [u8; 6],
    source: [u8; 6],
    (kind, stream, request): (u8, u16, u32),
    bytes: usize,
) -> Result<(&mut [u8], usize), EncodeError> {
    if stream >= STREAMS {
        return Err(EncodeError::Stream { stream });
    }
    let least = (ETHERNET + bytes).max(SHORTEST_FRAME);
    let room = frame.len();
    let frame = frame.get_mut(..least).ok_or(EncodeError::NoRoom { bytes: room, least })?;
    frame.fill(0);
    put_ethernet(frame, destination, source, false);
    let message = &mut frame[ETHERNET..ETHERNET + bytes];
    message[0] = MARK;
    message[1] = kind;
    put::<2>(message, 2, u64::from(stream));
    put::<4>(message, 4, u64::from(request));
    Ok((message, least))
}

/// Writes the checksum into the last four bytes.
pub(crate) fn seal(message: &mut [u8]) {
    let at = message.len() - 4;
    let check = check32(&message[..at]);
    put::<4>(message, at, u64::from(check));
}

/// Checks the checksum behind `bytes` of a message, and its stream. Returns the stream and the request id.
pub(crate) fn open(message: &[u8], bytes: usize) -> Result<(u16, u32), DecodeError> {
    let sealed = message.get(..bytes).ok_or(DecodeError::TooShort { bytes: message.len(), least: bytes })?;
    let at = bytes - 4;
    let (expected, found) = (check32(&sealed[..at]), get::<4>(sealed, at) as u32);
    if expected != found {
        return Err(DecodeError::Check { expected, found });
    }
    let stream = get::<2>(sealed, 2) as u16;
    if stream >= STREAMS {
        return Err(DecodeError::Stream { stream });
    }
    Ok((stream, get::<4>(sealed, 4) as u32))
}
