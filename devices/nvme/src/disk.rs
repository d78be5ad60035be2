//! What a namespace stores, without the volatile cache in front of it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Looks at a piece; false ends the transfer.
pub type Give<'a> = &'a mut dyn FnMut(&[u8]) -> bool;
/// Fills a piece; false ends the transfer.
pub type Fetch<'a> = &'a mut dyn FnMut(&mut [u8]) -> bool;

/// Non-volatile bytes. The controller keeps ranges within [`bytes`](Self::bytes).
pub trait Disk: Send + Sync {
    /// Capacity.
    fn bytes(&self) -> u64;

    /// Shows `bytes` at `offset` to `sink`, in pieces in order; stops when it answers false.
    ///
    /// # Errors
    /// The host's, if the medium cannot be read.
    fn read(&self, offset: u64, bytes: u64, sink: Give<'_>) -> io::Result<()>;

    /// Has `source` fill `bytes` at `offset`, in pieces in order; stops when it answers false, and what that piece then
    /// holds is anything.
    ///
    /// # Errors
    /// The host's, if the medium cannot be written.
    fn write(&self, offset: u64, bytes: u64, source: Fetch<'_>) -> io::Result<()>;

    /// Makes `bytes` at `offset` zero.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.write(offset, bytes, &mut |piece| {
            piece.fill(0);
            true
        })
    }

    /// Makes sure that what was written survives whatever the disk is meant to survive.
    ///
    /// # Errors
    /// The host's.
    fn flush(&self) -> io::Result<()>;
}

/// A disk in memory. Share it by an `Arc` to look at what a controller stored, or to plug it into another one.
pub struct MemoryDisk {
    bytes: Mutex<Vec<u8>>,
}

impl MemoryDisk {
    /// `bytes` zeros. They take host memory once written.
    pub fn new(bytes: u64) -> Self {
        Self::from(vec![0; bytes as usize])
    }

    /// The whole disk, as it is without what only a volatile cache holds. Controllers wait while this is held.
    pub fn contents(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Vec<u8>> for MemoryDisk {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes: Mutex::new(bytes) }
    }
}

impl Disk for MemoryDisk {
    fn bytes(&self) -> u64 {
        self.contents().len() as u64
    }

    fn read(&self, offset: u64, bytes: u64, sink: Give<'_>) -> io::Result<()> {
        let contents = self.contents();
        let range = offset as usize..(offset + bytes) as usize;
        sink(contents.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: u64, source: Fetch<'_>) -> io::Result<()> {
        let mut contents = self.contents();
        let range = offset as usize..(offset + bytes) as usize;
        source(contents.get_mut(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk in a file, which others may read meanwhile.
pub struct FileDisk {
    file: File,
    bytes: u64,
    /// Whether a flush waits for the host's own disk.
    sync: bool,
    /// The piece under way.
    piece: Mutex<Vec<u8>>,
}

/// How much of a file is read or written at once.
const PIECE_BYTES: u64 = 128 << 10;

impl FileDisk {
    /// Opens a file that exists, whose size must be a multiple of `block_bytes`, and not 0.
    ///
    /// What was written survives the end of this process at once, and the end of the host after a flush if `sync`.
    ///
    /// # Errors
    /// [`FileDiskError`], with the path.
    pub fn open(path: &Path, block_bytes: u64, sync: bool) -> Result<Self, FileDiskError> {
        let failed = |error| FileDiskError::Io { path: path.into(), error };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes == 0 || !bytes.is_multiple_of(block_bytes) {
            return Err(FileDiskError::Size { path: path.into(), bytes, block_bytes });
        }
        Ok(Self { file, bytes, sync, piece: Mutex::new(Vec::new()) })
    }

    fn each_piece(
        &self,
        offset: u64,
        bytes: u64,
        mut work: impl FnMut(u64, &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut piece = self.piece.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < bytes {
            let now = PIECE_BYTES.min(bytes - done);
            // Grows once, to the largest piece that was ever wanted.
            if (piece.len() as u64) < now {
                piece.resize(now as usize, 0);
            }
            if !work(offset + done, &mut piece[..now as usize])? {
                break;
            }
            done += now;
        }
        Ok(())
    }
}

impl Disk for FileDisk {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&self, offset: u64, bytes: u64, sink: Give<'_>) -> io::Result<()> {
        self.each_piece(offset, bytes, |place, piece| {
            self.file.read_exact_at(piece, place)?;
            Ok(sink(piece))
        })
    }

    fn write(&self, offset: u64, bytes: u64, source: Fetch<'_>) -> io::Result<()> {
        self.each_piece(offset, bytes, |place, piece| {
            if !source(piece) {
                return Ok(false);
            }
            self.file.write_all_at(piece, place)?;
            Ok(true)
        })
    }

    fn flush(&self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }
}

/// A file that cannot be a disk.
#[derive(Debug)]
pub enum FileDiskError {
    /// The host refused.
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Its size is no whole number of blocks, or 0.
    Size {
        /// Which file.
        path: PathBuf,
        /// How large it is.
        bytes: u64,
        /// How large a block is.
        block_bytes: u64,
    },
}

impl fmt::Display for FileDiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "{}: {error}", path.display()),
            Self::Size { path, bytes: 0, .. } => write!(f, "{}: an empty file is no disk", path.display()),
            Self::Size { path, bytes, block_bytes } => {
                write!(
                    f,
                    "{}: {bytes} bytes are no whole number of {block_bytes}-byte blocks",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for FileDiskError {}
