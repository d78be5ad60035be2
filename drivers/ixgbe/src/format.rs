//! [`PacketFormat`]: the layout of a client's packets.

use core::fmt;

use coppice_hardware::DmaBuffer;

/// The layout of the packets of a [`crate::Queue`]. The implementing type has no values: the driver holds the
/// packets themselves.
///
/// The driver checks everything that a packet says about itself against the size of its memory.
pub trait PacketFormat {
    /// A packet with its memory.
    type Packet: DmaBuffer;

    /// Returns the offset in the memory at which the frame begins or will begin.
    fn start(packet: &Self::Packet) -> usize;

    /// Returns the number of bytes of the frame in this packet; 0 if the packet is spare.
    fn len(packet: &Self::Packet) -> usize;

    /// Returns true if the frame continues in the next packet.
    fn continues(packet: &Self::Packet) -> bool;

    /// Returns the checksums that the device has to insert into the frame that begins here.
    fn offload(packet: &Self::Packet) -> Option<Offload>;

    /// Appends zeros to the frame up to a length of `len` bytes. Returns false if there is no room.
    fn pad(packet: &mut Self::Packet, len: usize) -> bool;
}

/// The transport protocol of a checksum to insert.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// The checksums that the device inserts into a frame. For a transport checksum, the client has stored the
/// sum of the pseudo header in the checksum field, not complemented (82599 datasheet, section 7.2.5).
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

/// The reason why a frame was not sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The frame is shorter than an Ethernet header.
    TooShort {
        /// The length of the frame in bytes.
        bytes: usize,
    },
    /// The frame is longer than configured, or than its memory.
    TooLong {
        /// The length of the frame in bytes.
        bytes: usize,
        /// The largest possible length in bytes.
        most: usize,
    },
    /// The frame has more parts than the driver accepts.
    TooManyParts {
        /// The largest number of parts.
        most: usize,
    },
    /// The last part of the frame is missing, or a part is empty.
    Incomplete,
    /// The requested checksums lie outside of the frame, or the request is inconsistent.
    Offload(Offload),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { bytes } => write!(f, "a frame of {bytes} bytes is too short"),
            Self::TooLong { bytes, most } => {
                write!(f, "a frame of {bytes} bytes is too long: at most {most} are possible")
            }
            Self::TooManyParts { most } => write!(f, "a frame in more than {most} packets"),
            Self::Incomplete => f.write_str("a part of the frame is missing"),
            Self::Offload(offload) => write!(f, "invalid offload for the frame: {offload:?}"),
        }
    }
}

impl core::error::Error for Refusal {}
