//! [`PacketFormat`]: how a user's buffers say what is in them.

use core::fmt;

use coppice_hardware::DmaBuffer;

/// How the buffers of a [`crate::Queue`] say what is in them. A type without values: the driver holds the buffers themselves.
///
/// What a buffer says is believed only as far as its memory goes.
pub trait PacketFormat {
    /// A packet, with its memory.
    type Buffer: DmaBuffer;

    /// Where in the memory the frame begins, or is to begin.
    fn start(buffer: &Self::Buffer) -> usize;

    /// Bytes of the frame that are in this buffer; 0 if it is spare.
    fn len(buffer: &Self::Buffer) -> usize;

    /// Whether the frame goes on in the next buffer.
    fn continues(buffer: &Self::Buffer) -> bool;

    /// What the device is to fill in of the frame that begins here.
    fn offload(buffer: &Self::Buffer) -> Option<Offload>;

    /// Puts zeros behind the frame, so that it has `len` bytes. Answers whether there is room.
    fn pad(buffer: &mut Self::Buffer, len: usize) -> bool;
}

/// Which checksum of the layer above IP is to be filled in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What the device is to fill in of a frame that it sends. Where it fills in a transport checksum, the field has the sum of
/// the pseudo header, not complemented (82599 datasheet, section 7.2.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offload {
    /// The checksum of the IPv4 header.
    pub ip: bool,
    /// The checksum of TCP or UDP.
    pub transport: Option<Transport>,
    /// Bytes before the IP header.
    pub link_bytes: u8,
    /// Bytes of the IP header.
    pub network_bytes: u16,
}

/// Why a frame was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It is shorter than an Ethernet header.
    TooShort {
        /// Its bytes.
        bytes: usize,
    },
    /// It is longer than what was set up, or than its memory.
    TooLong {
        /// Its bytes.
        bytes: usize,
        /// Most.
        most: usize,
    },
    /// It is in more buffers than the device takes.
    TooManyParts {
        /// Most.
        most: usize,
    },
    /// Its last part is missing, or a part is empty.
    Incomplete,
    /// What is to be filled in lies outside of it, or makes no sense.
    Offload(Offload),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { bytes } => write!(f, "a frame of {bytes} bytes is too short"),
            Self::TooLong { bytes, most } => write!(f, "a frame of {bytes} bytes, where {most} are possible"),
            Self::TooManyParts { most } => write!(f, "a frame in more than {most} buffers"),
            Self::Incomplete => f.write_str("a part of the frame is missing"),
            Self::Offload(offload) => write!(f, "impossible for that frame: {offload:?}"),
        }
    }
}

impl core::error::Error for Refusal {}
