//! What a device is like.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, FileDisk, FileDiskError, MemoryDisk};
use crate::fault_injection::Rule;

/// The most I/O queue pairs: their vectors and doorbells stay small.
pub(crate) const QUEUES_LIMIT: u16 = 128;

/// Block sizes by LBA format index.
pub(crate) const FORMATS: [u32; 2] = [512, 4096];

/// A device before it is made. [`parse`](Self::parse) reads it from text; the rest of the fields have defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NvmeConfig {
    /// One namespace each, numbered from 1.
    pub namespaces: Vec<Medium>,
    /// Block size of all namespaces at first: 512 or 4096 (default 512).
    pub lba_bytes: u32,
    /// I/O queue pairs, 1 to 128 (default 8). There is one interrupt more.
    pub queues: u16,
    /// CAP.MQES: the largest queue has one entry more (default 1023).
    pub mqes: u16,
    /// MDTS: a transfer has at most 2 to this power pages of 4 KiB (default 5, 128 KiB); 0 is no limit.
    pub mdts: u8,
    /// CAP.DSTRD: doorbells are 4 bytes shifted left by this apart (default 0).
    pub stride: u8,
    /// Volatile write cache per namespace, in bytes (default 1 MiB); 0 is none, and VWC says so.
    pub cache_bytes: u64,
    /// Whether a flush of a file waits for the host's own disk (default no).
    pub sync: bool,
    /// How long each I/O command takes at least (default 0).
    pub latency_ns: u64,
    /// How much longer for each KiB of data (default 0).
    pub latency_per_kib_ns: u64,
    /// From CC.EN to CSTS.RDY (default 0).
    pub ready_ns: u64,
    /// How long the device's thread polls after work before it sleeps (default 50 us).
    pub spin_ns: u64,
    /// What it does wrong.
    pub faults: Vec<Rule>,
    /// Whether fault injection leaves admin commands alone (default no).
    pub spare_admin: bool,
    /// What chance in fault injection is made of.
    pub seed: u64,
    /// Serial number, at most 20 ASCII characters.
    pub serial: String,
}

/// What a namespace's disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// Zeros in memory, gone with the device.
    Memory {
        /// How many.
        bytes: u64,
    },
    /// A file that exists.
    File {
        /// Which.
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
    /// The default with one namespace of memory.
    pub fn memory(bytes: u64) -> Self {
        Self { namespaces: vec![Medium::Memory { bytes }], ..Self::default() }
    }

    /// Opens what the namespaces are made of.
    ///
    /// # Errors
    /// [`ConfigError`] if one is no disk, or there is none.
    pub fn open_disks(&self) -> Result<Vec<Arc<dyn Disk>>, ConfigError> {
        let block = u64::from(self.lba_bytes);
        self.namespaces
            .iter()
            .map(|medium| {
                Ok(match medium {
                    Medium::Memory { bytes } => Arc::new(MemoryDisk::new(*bytes)) as Arc<dyn Disk>,
                    Medium::File { path } => {
                        Arc::new(FileDisk::open(path, block, self.sync).map_err(ConfigError::File)?)
                    }
                })
            })
            .collect()
    }

    /// Refuses what no device could be.
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
        // A queue has two entries at least (Base, section 3.1.3.1).
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

/// A device that cannot be made.
#[derive(Debug)]
pub enum ConfigError {
    /// It would store nothing.
    NoNamespace,
    /// Blocks have 512 or 4096 bytes.
    LbaBytes {
        /// As given.
        lba_bytes: u32,
    },
    /// 1 to 128 queue pairs.
    Queues {
        /// As given.
        queues: u16,
    },
    /// Queues have two entries at least.
    Mqes,
    /// More than 128 MiB in one transfer.
    Mdts {
        /// As given.
        mdts: u8,
    },
    /// Doorbells more than a KiB apart.
    Stride {
        /// As given.
        stride: u8,
    },
    /// No 20 printable ASCII characters.
    Serial {
        /// As given.
        serial: String,
    },
    /// A disk that is no whole number of blocks, or empty.
    DiskBytes {
        /// Its size.
        bytes: u64,
        /// The size of a block.
        lba_bytes: u32,
    },
    /// A file that is no disk.
    File(FileDiskError),
    /// The host has no thread to spare.
    Thread(std::io::Error),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoNamespace => f.write_str("no disk: say `memory=SIZE` or `file=PATH`"),
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
