//! The errors of decoding and of encoding.

use core::fmt;

/// The reason why bytes are not a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The frame is shorter than its message.
    TooShort {
        /// Bytes of the frame.
        bytes: usize,
        /// The minimum number of bytes.
        least: usize,
    },
    /// The frame is of another protocol.
    Foreign {
        /// Its EtherType.
        ether_type: u16,
    },
    /// The message does not begin with [`MARK`](crate::MARK).
    Mark {
        /// The first byte.
        found: u8,
    },
    /// The kind of message is unknown.
    Kind {
        /// The kind found.
        kind: u8,
    },
    /// The stream is not below [`STREAMS`](crate::STREAMS).
    Stream {
        /// The stream found.
        stream: u16,
    },
    /// The message is damaged.
    Check {
        /// The checksum of its bytes.
        expected: u32,
        /// The checksum that it carries.
        found: u32,
    },
    /// A field has an undefined value.
    Field {
        /// The offset in the message.
        offset: usize,
        /// The value found.
        value: u64,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { bytes, least } => {
                write!(f, "a frame of {bytes} bytes: its message needs {least}")
            }
            Self::Foreign { ether_type } => {
                write!(f, "a frame of another protocol, EtherType {ether_type:#06x}")
            }
            Self::Mark { found } => write!(f, "a message that begins with {found:#04x}"),
            Self::Kind { kind } => write!(f, "unknown kind {kind} of message"),
            Self::Stream { stream } => write!(f, "there is no stream {stream}"),
            Self::Check { expected, found } => {
                write!(f, "a damaged message: its checksum is {found:#x}, that of its bytes {expected:#x}")
            }
            Self::Field { offset, value } => {
                write!(f, "undefined value {value:#x} at byte {offset} of a message")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// The reason why a message cannot be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EncodeError {
    /// The buffer is too short.
    NoRoom {
        /// Bytes of the buffer.
        bytes: usize,
        /// Bytes of the frame.
        least: usize,
    },
    /// The test frame is longer than the maximum.
    TooLong {
        /// The requested length.
        bytes: usize,
        /// The maximum.
        most: usize,
    },
    /// The stream is not below [`STREAMS`](crate::STREAMS).
    Stream {
        /// The requested stream.
        stream: u16,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom { bytes, least } => {
                write!(f, "a frame of {bytes} bytes: this message needs {least}")
            }
            Self::TooLong { bytes, most } => write!(f, "a frame of {bytes} bytes: the maximum is {most}"),
            Self::Stream { stream } => write!(f, "there is no stream {stream}"),
        }
    }
}

impl core::error::Error for EncodeError {}
