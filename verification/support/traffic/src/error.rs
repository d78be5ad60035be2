//! What is no message, and what fits no frame.

use core::fmt;

/// Bytes that are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The frame is shorter than its message.
    TooShort {
        /// Bytes of the frame.
        bytes: usize,
        /// Bytes that it has to have.
        least: usize,
    },
    /// A frame of another protocol.
    Foreign {
        /// Its EtherType.
        ether_type: u16,
    },
    /// The message does not begin with [`MARK`](crate::MARK).
    Mark {
        /// But with this.
        found: u8,
    },
    /// No kind of message.
    Kind {
        /// As found.
        kind: u8,
    },
    /// A stream beyond [`STREAMS`](crate::STREAMS).
    Stream {
        /// As found.
        stream: u16,
    },
    /// The message is damaged.
    Check {
        /// What its bytes come to.
        expected: u32,
        /// What it says.
        found: u32,
    },
    /// A field that means nothing.
    Field {
        /// Where in the message.
        offset: usize,
        /// As found.
        value: u64,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { bytes, least } => {
                write!(f, "a frame of {bytes} bytes: its message takes {least}")
            }
            Self::Foreign { ether_type } => {
                write!(f, "a frame of another protocol, EtherType {ether_type:#06x}")
            }
            Self::Mark { found } => write!(f, "a message that begins with {found:#04x}"),
            Self::Kind { kind } => write!(f, "there is no kind {kind} of message"),
            Self::Stream { stream } => write!(f, "there is no stream {stream}"),
            Self::Check { expected, found } => {
                write!(f, "a damaged message: its check is {found:#x}, its bytes come to {expected:#x}")
            }
            Self::Field { offset, value } => {
                write!(f, "{value:#x} at byte {offset} of a message means nothing")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// A message that cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodeError {
    /// There is no room for it.
    NoRoom {
        /// Bytes that there are.
        bytes: usize,
        /// Bytes that it takes.
        least: usize,
    },
    /// A test frame that is longer than any.
    TooLong {
        /// As asked for.
        bytes: usize,
        /// The longest.
        most: usize,
    },
    /// A stream beyond [`STREAMS`](crate::STREAMS).
    Stream {
        /// As asked for.
        stream: u16,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { bytes, least } => {
                write!(f, "a frame of {bytes} bytes: this message takes {least}")
            }
            Self::TooLong { bytes, most } => write!(f, "a frame of {bytes} bytes: {most} is the longest"),
            Self::Stream { stream } => write!(f, "there is no stream {stream}"),
        }
    }
}

impl core::error::Error for EncodeError {}
