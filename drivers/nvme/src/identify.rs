//! The data structures of Identify: the controller (Base figure 275) and its namespaces (NVM figure 97).

use core::fmt;

/// The size of each Identify data structure, in bytes.
pub(crate) const IDENTIFY_BYTES: usize = 4096;

/// Little-endian fields of a data structure.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("a slice of N bytes is an array of N")
    }

    pub(crate) fn u8(&self, at: usize) -> u8 {
        self.0[at]
    }

    pub(crate) fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes(at))
    }

    pub(crate) fn u128(&self, at: usize) -> u128 {
        u128::from_le_bytes(self.bytes(at))
    }
}

/// A controller's identity and limits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControllerInfo {
    /// Version of the specification: major in bits 31 to 16, minor in 15 to 8, tertiary in 7 to 0.
    pub version: u32,
    /// PCI vendor id.
    pub vendor: u16,
    /// Serial number, padded with spaces.
    pub serial: [u8; 20],
    /// Model, padded with spaces.
    pub model: [u8; 40],
    /// Firmware revision, padded with spaces.
    pub firmware: [u8; 8],
    /// The largest transfer of one command, in bytes.
    pub max_transfer_bytes: usize,
    /// The largest number of commands in flight in one queue.
    pub max_depth: u16,
    /// The number of I/O queues.
    pub queues: u16,
    /// True if completed writes may be lost with the power before they are flushed.
    pub volatile_write_cache: bool,
    /// True if Compare is supported.
    pub compare: bool,
    /// True if Write Zeroes is supported.
    pub write_zeroes: bool,
    /// True if Deallocate is supported.
    pub deallocate: bool,
    /// OAES: the notices that the controller can send.
    pub(crate) notices: u32,
    /// The number of Asynchronous Event Requests that the controller accepts.
    pub(crate) event_limit: u16,
    /// RTD3E, the time that a shutdown may take, if reported.
    pub(crate) shutdown_ns: Option<u64>,
    pub(crate) submission_entry: u8,
    pub(crate) completion_entry: u8,
    pub(crate) controller_type: u8,
}

impl ControllerInfo {
    /// Decodes the data structure, which does not contain `max_depth` and `queues`.
    pub(crate) fn decode(data: &[u8], version: u32, limit_bytes: usize) -> Self {
        let fields = Fields(data);
        // MDTS is a power of two in units of CAP.MPSMIN, which is 4 KiB: bring-up has refused any other.
        let mdts = match fields.u8(77) {
            0 => usize::MAX,
            mdts => 4096_usize.checked_shl(mdts.into()).filter(|bytes| *bytes >= 4096).unwrap_or(usize::MAX),
        };
        let oncs = fields.u16(520);
        let exit_us = fields.u32(88);
        Self {
            version,
            vendor: fields.u16(0),
            serial: fields.bytes(4),
            model: fields.bytes(24),
            firmware: fields.bytes(64),
            max_transfer_bytes: mdts.min(limit_bytes),
            max_depth: 0,
            queues: 0,
            volatile_write_cache: fields.u8(525) & 1 != 0,
            compare: oncs & 1 != 0,
            write_zeroes: oncs & 1 << 3 != 0,
            deallocate: oncs & 1 << 2 != 0,
            notices: fields.u32(92),
            event_limit: u16::from(fields.u8(259)) + 1,
            shutdown_ns: (exit_us != 0).then_some(u64::from(exit_us) * 1000),
            submission_entry: fields.u8(512),
            completion_entry: fields.u8(513),
            controller_type: fields.u8(111),
        }
    }

    /// Returns true if the controller supports the entry sizes set in CC: SQES and CQES hold the required
    /// size in bits 3 to 0 and the largest in bits 7 to 4.
    pub(crate) fn supports_entry_sizes(&self) -> bool {
        let takes = |sizes: u8, size: u8| sizes & 0xF <= size && size <= sizes >> 4;
        takes(self.submission_entry, 6) && takes(self.completion_entry, 4)
    }

    /// Returns true if a controller found after a reset is the same one.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (self.vendor, self.serial, self.model) == (other.vendor, other.serial, other.model)
            && self.max_transfer_bytes <= other.max_transfer_bytes
    }
}

/// A namespace that this driver can use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Namespace {
    pub(crate) id: u32,
    pub(crate) blocks: u64,
    pub(crate) block_shift: u8,
    pub(crate) write_protected: bool,
    pub(crate) unique: [u8; 16],
}

/// The reason why a namespace cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NamespaceRefusal {
    /// The namespace does not exist or is not attached.
    Inactive,
    /// The namespace is formatted with a format that the controller does not list.
    NoFormat {
        /// Index of the format.
        format: u8,
    },
    /// The block size is invalid.
    BlockSize {
        /// LBADS: the size as a power of two.
        exponent: u8,
    },
    /// A block is larger than the largest transfer.
    LargeBlocks {
        /// The size of a block in bytes.
        bytes: u64,
        /// The largest transfer of a command in bytes.
        limit: usize,
    },
    /// The blocks have metadata.
    Metadata {
        /// Bytes of metadata in each block.
        bytes: u16,
    },
    /// The namespace is formatted with protection information.
    Protection {
        /// DPS.
        settings: u8,
    },
    /// The controller refused Identify for the namespace.
    NotIdentified {
        /// The status of Identify.
        status: crate::Status,
    },
}

impl fmt::Display for NamespaceRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Inactive => f.write_str("is not active"),
            Self::NoFormat { format } => write!(f, "has format {format}, which the controller does not list"),
            Self::BlockSize { exponent } => write!(f, "has blocks of 2^{exponent} bytes"),
            Self::LargeBlocks { bytes, limit } => {
                write!(f, "has blocks of {bytes} bytes; a command moves at most {limit}")
            }
            Self::Metadata { bytes } => write!(f, "has {bytes} bytes of metadata in each block"),
            Self::Protection { settings } => {
                write!(f, "has end-to-end protection information (DPS {settings:#x})")
            }
            Self::NotIdentified { status } => write!(f, "is not identified: {status}"),
        }
    }
}

impl Namespace {
    /// Decodes the data structure of namespace `id`.
    pub(crate) fn decode(id: u32, data: &[u8], limit_bytes: usize) -> Result<Self, NamespaceRefusal> {
        let fields = Fields(data);
        let blocks = fields.u64(0);
        if blocks == 0 {
            return Err(NamespaceRefusal::Inactive);
        }
        // FLBAS: bits 3 to 0, and with more than 16 formats also bits 6 and 5 above them. NLBAF is 0-based.
        let (formats, flbas) = (u16::from(fields.u8(25)) + 1, fields.u8(26));
        let format = if formats > 16 { (flbas & 0xF) | (flbas >> 5 & 3) << 4 } else { flbas & 0xF };
        if u16::from(format) >= formats || format >= 64 {
            return Err(NamespaceRefusal::NoFormat { format });
        }
        let entry = fields.u32(128 + 4 * usize::from(format));
        let (metadata, exponent) = (entry as u16, (entry >> 16) as u8);
        // Blocks of less than 512 bytes are not allowed (NVM figure 98); 0 marks an unsupported format.
        if !(9..=31).contains(&exponent) {
            return Err(NamespaceRefusal::BlockSize { exponent });
        }
        if metadata != 0 {
            return Err(NamespaceRefusal::Metadata { bytes: metadata });
        }
        let settings = fields.u8(29);
        if settings & 0b111 != 0 {
            return Err(NamespaceRefusal::Protection { settings });
        }
        if 1 << exponent > limit_bytes {
            return Err(NamespaceRefusal::LargeBlocks { bytes: 1 << exponent, limit: limit_bytes });
        }
        // NGUID, or EUI64 if NGUID is zero.
        let mut unique = fields.bytes(104);
        if unique == [0; 16] {
            unique[..8].copy_from_slice(&fields.bytes::<8>(120));
        }
        let write_protected = fields.u8(99) & 1 != 0;
        Ok(Self { id, blocks, block_shift: exponent, write_protected, unique })
    }

    /// Returns the namespace identifier.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// Returns the size in blocks.
    pub const fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Returns the size of a block in bytes: a power of two, at least 512.
    pub const fn block_bytes(&self) -> u32 {
        1 << self.block_shift
    }

    /// Returns true if the namespace is read-only.
    pub const fn write_protected(&self) -> bool {
        self.write_protected
    }

    /// Returns NGUID, or EUI64 in the first 8 bytes, or zero.
    pub const fn unique_id(&self) -> [u8; 16] {
        self.unique
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A namespace of 1000 blocks with the formats 512, 4096, 4096 + 64.
    fn data() -> Vec<u8> {
        let mut data = vec![0; IDENTIFY_BYTES];
        data[0..8].copy_from_slice(&1000_u64.to_le_bytes());
        data[25] = 2;
        for (format, entry) in [9 << 16, 12 << 16, 12 << 16 | 64_u32].into_iter().enumerate() {
            data[128 + 4 * format..][..4].copy_from_slice(&entry.to_le_bytes());
        }
        data
    }

    #[test]
    fn each_format_is_accepted_or_refused_with_the_reason() {
        let mut data = data();
        let bytes =
            |data: &[u8]| Namespace::decode(1, data, 1 << 20).map(|namespace| namespace.block_bytes());
        assert_eq!(bytes(&data), Ok(512));
        data[26] = 1;
        assert_eq!(bytes(&data), Ok(4096));
        assert_eq!(
            Namespace::decode(1, &data, 2048),
            Err(NamespaceRefusal::LargeBlocks { bytes: 4096, limit: 2048 })
        );
        data[26] = 2;
        assert_eq!(bytes(&data), Err(NamespaceRefusal::Metadata { bytes: 64 }));
        data[26] = 3;
        assert_eq!(bytes(&data), Err(NamespaceRefusal::NoFormat { format: 3 }));
        data[26] = 0;
        data[29] = 1;
        assert_eq!(bytes(&data), Err(NamespaceRefusal::Protection { settings: 1 }));
        data[29] = 0;
        data[130] = 8;
        assert_eq!(bytes(&data), Err(NamespaceRefusal::BlockSize { exponent: 8 }));
        data[0..8].fill(0);
        assert_eq!(bytes(&data), Err(NamespaceRefusal::Inactive));
    }

    #[test]
    fn the_index_of_a_format_beyond_the_sixteenth_is_split() {
        let mut data = data();
        data[25] = 40;
        data[26] = 1 << 5 | 2;
        data[128 + 4 * 18..][..4].copy_from_slice(&(13_u32 << 16).to_le_bytes());
        assert_eq!(Namespace::decode(1, &data, 1 << 20).map(|namespace| namespace.block_bytes()), Ok(8192));
    }

    #[test]
    fn decoding_arbitrary_bytes_never_panics() {
        for fill in 0..=u8::MAX {
            let data = vec![fill; IDENTIFY_BYTES];
            let _ = Namespace::decode(1, &data, 1 << 20);
            let info = ControllerInfo::decode(&data, 0, 1 << 20);
            assert!((4096..=1 << 20).contains(&info.max_transfer_bytes));
        }
    }
}
