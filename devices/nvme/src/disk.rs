//! [`Disk`], the non-volatile storage of a namespace, behind the volatile cache.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Consumes a chunk of data that was read; returns false to end the transfer.
pub type DataSink<'a> = &'a mut dyn FnMut(&[u8]) -> bool;
/// Fills a chunk with data to write; returns false to end the transfer.
pub type DataSource<'a> = &'a mut dyn FnMut(&mut [u8]) -> bool;

/// Non-volatile storage. The controller only accesses ranges within [`bytes`](Self::bytes).
pub trait Disk: Send + Sync {
    /// The capacity.
    fn bytes(&self) -> u64;

    /// Reads `bytes` at `offset` and passes them to `sink`, in chunks, in order, until `sink` returns false.
    ///
    /// # Errors
    /// The host's error if the medium cannot be read.
    fn read(&self, offset: u64, bytes: u64, sink: DataSink<'_>) -> io::Result<()>;

    /// Writes `bytes` at `offset` with the data of `source`, in chunks, in order, until `source` returns
    /// false; the content of that chunk is then undefined.
    ///
    /// # Errors
    /// The host's error if the medium cannot be written.
    fn write(&self, offset: u64, bytes: u64, source: DataSource<'_>) -> io::Result<()>;

    /// Zeroes `bytes` at `offset`.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    fn zero(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.write(offset, bytes, &mut |chunk| {
            chunk.fill(0);
            true
        })
    }

    /// Makes earlier writes durable, to the degree that the disk promises.
    ///
    /// # Errors
    /// The host's error if the data cannot be made durable.
    fn flush(&self) -> io::Result<()>;
}

/// A disk in memory. Sharing it by an `Arc` allows a test to inspect it, or to attach it to another
/// controller.
pub struct MemoryDisk {
    bytes: Mutex<Vec<u8>>,
}

impl MemoryDisk {
    /// A disk of `bytes` zeros. Pages take host memory once written.
    pub fn new(bytes: u64) -> Self {
        Self::from(vec![0; bytes as usize])
    }

    /// Locks the content of the disk, without data that only a volatile cache holds. Controllers wait for the
    /// guard.
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

    fn read(&self, offset: u64, bytes: u64, sink: DataSink<'_>) -> io::Result<()> {
        let contents = self.contents();
        let range = offset as usize..(offset + bytes) as usize;
        sink(contents.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, bytes: u64, source: DataSource<'_>) -> io::Result<()> {
        let mut contents = self.contents();
        let range = offset as usize..(offset + bytes) as usize;
        source(contents.get_mut(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A disk in a file, which other processes may read at the same time.
pub struct FileDisk {
    file: File,
    bytes: u64,
    /// If set, a flush waits for the host's own disk.
    sync: bool,
    /// The buffer of the transfer under way.
    buffer: Mutex<Vec<u8>>,
}

/// The largest part of a file that is read or written at once.
const CHUNK_BYTES: u64 = 128 << 10;

impl FileDisk {
    /// Opens an existing file, whose size must be a multiple of `block_bytes`, and not 0.
    ///
    /// Written data survives the end of this process at once, and with `sync` a crash of the host after a
    /// flush.
    ///
    /// # Errors
    /// [`FileDiskError::Io`] if the file cannot be opened for reading and writing, [`FileDiskError::Size`] if
    /// its size is not a multiple of `block_bytes` or 0.
    pub fn open(path: &Path, block_bytes: u64, sync: bool) -> Result<Self, FileDiskError> {
        let failed = |error| FileDiskError::Io { path: path.into(), error };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes == 0 || !bytes.is_multiple_of(block_bytes) {
            return Err(FileDiskError::Size { path: path.into(), bytes, block_bytes });
        }
        Ok(Self { file, bytes, sync, buffer: Mutex::new(Vec::new()) })
    }

    fn each_chunk(
        &self,
        offset: u64,
        bytes: u64,
        mut work: impl FnMut(u64, &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < bytes {
            let now = CHUNK_BYTES.min(bytes - done);
            // Grows to the largest chunk that was ever needed, and does not shrink.
            if (buffer.len() as u64) < now {
                buffer.resize(now as usize, 0);
            }
            if !work(offset + done, &mut buffer[..now as usize])? {
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

    fn read(&self, offset: u64, bytes: u64, sink: DataSink<'_>) -> io::Result<()> {
        self.each_chunk(offset, bytes, |at, chunk| {
            self.file.read_exact_at(chunk, at)?;
            Ok(sink(chunk))
        })
    }

    fn write(&self, offset: u64, bytes: u64, source: DataSource<'_>) -> io::Result<()> {
        self.each_chunk(offset, bytes, |at, chunk| {
            if !source(chunk) {
                return Ok(false);
            }
            self.file.write_all_at(chunk, at)?;
            Ok(true)
        })
    }

    fn flush(&self) -> io::Result<()> {
        if self.sync { self.file.sync_data() } else { Ok(()) }
    }
}

/// The error for a file that is not usable as a disk.
#[derive(Debug)]
pub enum FileDiskError {
    /// The host cannot open the file.
    Io {
        /// The path of the file.
        path: PathBuf,
        /// The error of the host.
        error: io::Error,
    },
    /// The size is not a multiple of a block, or 0.
    Size {
        /// The path of the file.
        path: PathBuf,
        /// The size of the file.
        bytes: u64,
        /// The size of a block.
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
