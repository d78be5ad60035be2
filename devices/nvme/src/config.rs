//! [`NvmeConfig`], the properties of a device.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, FileDisk, FileDiskError, MemoryDisk};
use crate::fault_injection::Rule;

/// The largest number of I/O queue pairs, which keeps the vector table and the doorbells small.
pub(crate) const QUEUES_LIMIT: u16 = 128;

/// Block sizes in bytes, by LBA format index.
pub(crate) const FORMATS: [u32; 2] = [512, 4096];

/// The properties of a device. [`parse`](Self::parse) reads them from text; all but the namespaces have
/// defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvmeConfig {
    /// The storage of each namespace; namespace ids count from 1.
    pub namespaces: Vec<Backing>,
    /// Block size of all namespaces before a format: 512 or 4096 bytes (default 512).
    pub lba_bytes: u32,
    /// Number of I/O queue pairs, 1 to 128 (default 8). The device has one interrupt vector more.
    pub queues: u16,
    /// CAP.MQES: the largest queue has one entry more (default 1023).
    pub mqes: u16,
    /// MDTS: a transfer has at most 2^`mdts` pages of 4 KiB (default 5, 128 KiB); 0 is no limit.
    pub mdts: u8,
    /// CAP.DSTRD: the distance of doorbells is 4 << `stride` bytes (default 0).
    pub stride: u8,
    /// Volatile write cache per namespace, in bytes (default 1 MiB); with 0, VWC reports no cache.
    pub cache_bytes: u64,
    /// If set, a flush of a file waits for the host's own disk (default no).
    pub sync: bool,
    /// The minimum duration of an I/O command (default 0).
    pub latency_ns: u64,
    /// The additional duration per KiB of data (default 0).
    pub latency_per_kib_ns: u64,
    /// The time from CC.EN to CSTS.RDY (default 0).
    pub ready_ns: u64,
    /// The time for which the device's thread polls after work before it sleeps (default 50 us).
    pub spin_ns: u64,
    /// The rules of fault injection.
    pub faults: Vec<Rule>,
    /// If set, no faults are injected into admin commands (default no).
    pub spare_admin: bool,
    /// The seed of the random numbers of fault injection.
    pub seed: u64,
    /// Serial number, at most 20 ASCII characters.
    pub serial: String,
}

/// The storage of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Memory, initially zero, which is freed with the device.
    Memory {
        /// The size.
        bytes: u64,
    },
    /// An existing file.
    File {
        /// The path of the file.
        path: PathBuf,
    },
}

impl Default for NvmeConfig {
    fn default() -> Self {
        Self {
            namespaces: Vec::new(),
            lba_bytes: 512,
            queues: 8,
            mqes: 1023,
            mdts: 5,
            stride: 0,
            cache_bytes: 1 << 20,
            sync: false,
            latency_ns: 0,
            latency_per_kib_ns: 0,
            ready_ns: 0,
            spin_ns: 50_000,
            faults: Vec::new(),
            spare_admin: false,
            seed: 1,
            serial: "COPPICE-1".into(),
        }
    }
}

impl NvmeConfig {
    /// The defaults, with one namespace of `bytes` in memory.
    pub fn memory(bytes: u64) -> Self {
        Self { namespaces: vec![Backing::Memory { bytes }], ..Self::default() }
    }

    /// Opens the disks of the namespaces.
    ///
    /// # Errors
    /// [`ConfigError::File`] if a file is not usable as a disk.
    pub fn open_disks(&self) -> Result<Vec<Arc<dyn Disk>>, ConfigError> {
        let block = u64::from(self.lba_bytes);
        self.namespaces
            .iter()
            .map(|backing| {
                Ok(match backing {
                    Backing::Memory { bytes } => Arc::new(MemoryDisk::new(*bytes)) as Arc<dyn Disk>,
                    Backing::File { path } => {
                        Arc::new(FileDisk::open(path, block, self.sync).map_err(ConfigError::File)?)
                    }
                })
            })
            .collect()
    }

    /// Refuses values outside of the limits of a device.
    pub(crate) fn check(&self, disks: &[Arc<dyn Disk>]) -> Result<(), ConfigError> {
        if disks.is_empty() {
            return Err(ConfigError::NoNamespace);
        }
        if !FORMATS.contains(&self.lba_bytes) {
            return Err(ConfigError::LbaBytes { lba_bytes: self.lba_bytes });
        }
        if !(1..=QUEUES_LIMIT).contains(&self.queues) {
            return Err(ConfigError::Queues { queues: self.queues });
        }
        // A queue has at least two entries (Base, section 3.1.3.1).
        if self.mqes == 0 {
            return Err(ConfigError::Mqes);
        }
        if self.mdts > 15 {
            return Err(ConfigError::Mdts { mdts: self.mdts });
        }
        if self.stride > 8 {
            return Err(ConfigError::Stride { stride: self.stride });
        }
        if self.serial.len() > 20 || !self.serial.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(ConfigError::Serial { serial: self.serial.clone() });
        }
        for disk in disks {
            let bytes = disk.bytes();
            if bytes == 0 || !bytes.is_multiple_of(u64::from(self.lba_bytes)) {
                return Err(ConfigError::DiskBytes { bytes, lba_bytes: self.lba_bytes });
            }
        }
        Ok(())
    }
}

/// The error for a device that cannot be created.
#[derive(Debug)]
pub enum ConfigError {
    /// The device has no namespace.
    NoNamespace,
    /// A block size other than 512 and 4096.
    LbaBytes {
        /// The refused value.
        lba_bytes: u32,
    },
    /// A number of queue pairs outside of 1 to 128.
    Queues {
        /// The refused value.
        queues: u16,
    },
    /// An MQES of 0: queues have at least two entries.
    Mqes,
    /// An MDTS of more than 128 MiB.
    Mdts {
        /// The refused value.
        mdts: u8,
    },
    /// A doorbell distance of more than 1 KiB.
    Stride {
        /// The refused value.
        stride: u8,
    },
    /// A serial number of more than 20 characters, or not of printable ASCII.
    Serial {
        /// The refused value.
        serial: String,
    },
    /// A disk that is empty, or not a multiple of a block.
    DiskBytes {
        /// The size of the disk.
        bytes: u64,
        /// The size of a block.
        lba_bytes: u32,
    },
    /// A file that is not usable as a disk.
    File(FileDiskError),
    /// The host cannot start a thread.
    Thread(std::io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNamespace => f.write_str("no disk: give `memory=SIZE` or `file=PATH`"),
            Self::LbaBytes { lba_bytes } => {
                write!(f, "blocks of {lba_bytes} bytes: only 512 and 4096 are offered")
            }
            Self::Queues { queues } => {
                write!(f, "{queues} I/O queue pairs: 1 to {QUEUES_LIMIT} are possible")
            }
            Self::Mqes => f.write_str("mqes is 0: queues have at least two entries, so 1 is the least"),
            Self::Mdts { mdts } => write!(f, "mdts is {mdts}: 15 (128 MiB) is the most"),
            Self::Stride { stride } => write!(f, "stride is {stride}: 8 is the most"),
            Self::Serial { serial } => write!(f, "serial `{serial}`: at most 20 printable ASCII characters"),
            Self::DiskBytes { bytes, lba_bytes } => {
                write!(f, "a disk of {bytes} bytes is no whole number of {lba_bytes}-byte blocks")
            }
            Self::File(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start the device's thread: {error}"),
        }
    }
}

impl std::error::Error for ConfigError {}
