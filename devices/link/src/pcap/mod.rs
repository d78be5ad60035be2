//! Capture files in libpcap's format (`pcap-savefile`, version 2.4): written with nanoseconds, read with
//! micro- or nanoseconds and in either byte order.
//!
//! The format is two fixed headers, which are written out here; the use of a crate would take more code.

mod capture;
mod replay;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use capture::Capture;
pub use replay::{Player, Recorder};

const MAGIC_NS: u32 = 0xa1b2_3c4d;
const MAGIC_US: u32 = 0xa1b2_c3d4;
const HEADER_BYTES: usize = 24;
const RECORD_BYTES: usize = 16;
/// Ethernet without FCS.
const LINK_ETHERNET: u32 = 1;
/// The most bytes of a frame: more than any frame has, and tcpdump's default.
const SNAP_BYTES: u32 = 262_144;
/// The age at which buffered frames are written out while the wire is idle.
const FLUSH_NS: u64 = 100_000_000;

/// A capture that is being written.
struct Writer {
    /// `None` after an error.
    file: Option<BufWriter<File>>,
    /// The wall-clock time of the device's time 0, known from the first frame on.
    epoch: Option<Duration>,
    flushed_ns: u64,
    is_dirty: bool,
}

impl Writer {
    fn create(path: &Path) -> io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&MAGIC_NS.to_le_bytes())?;
        file.write_all(&[2, 0, 4, 0])?;
        // Time zone and accuracy, which no reader uses.
        file.write_all(&[0; 8])?;
        file.write_all(&SNAP_BYTES.to_le_bytes())?;
        file.write_all(&LINK_ETHERNET.to_le_bytes())?;
        file.flush()?;
        Ok(Self { file: Some(file), epoch: None, flushed_ns: 0, is_dirty: false })
    }

    /// Records a frame. Returns false after a write error: the frames that were buffered then are lost as
    /// well, and their number is unknown.
    fn put(&mut self, frame: &[u8], now_ns: u64) -> bool {
        let epoch = *self.epoch.get_or_insert_with(|| {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            wall.saturating_sub(Duration::from_nanos(now_ns))
        });
        let time = epoch + Duration::from_nanos(now_ns);
        let kept = frame.len().min(SNAP_BYTES as usize);
        let mut record = [0; RECORD_BYTES];
        // 32 bits of seconds are enough until 2106.
        let words = [time.as_secs() as u32, time.subsec_nanos(), kept as u32, frame.len() as u32];
        for (bytes, word) in record.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        self.attempt(|file| file.write_all(&record).and_then(|()| file.write_all(&frame[..kept])));
        self.is_dirty = true;
        self.file.is_some()
    }

    /// Writes out buffered frames while the wire is idle, for readers that follow the file.
    fn idle(&mut self, now_ns: u64) {
        if self.is_dirty && now_ns.saturating_sub(self.flushed_ns) > FLUSH_NS {
            self.attempt(|file| file.flush());
            (self.flushed_ns, self.is_dirty) = (now_ns, false);
        }
    }

    fn attempt(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) {
        if let Some(file) = &mut self.file
            && let Err(error) = write(file)
        {
            report_end(&error);
            self.file = None;
        }
    }
}

/// A capture that is being read.
struct Reader {
    file: BufReader<File>,
    is_swapped: bool,
    ns_per_fraction: u64,
}

/// One frame of a capture.
struct Record {
    time_ns: u64,
    bytes: Vec<u8>,
}

impl Reader {
    fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::new(File::open(path)?);
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header).map_err(|_| invalid("it is too short for a capture"))?;
        let magic = word(&header, 0, false);
        let (is_swapped, ns_per_fraction) = match (magic, magic.swap_bytes()) {
            (MAGIC_NS, _) => (false, 1),
            (MAGIC_US, _) => (false, 1000),
            (_, MAGIC_NS) => (true, 1),
            (_, MAGIC_US) => (true, 1000),
            _ => {
                return Err(invalid(
                    "it is not a capture in libpcap's format (pcapng can be converted to it)",
                ));
            }
        };
        // The upper bits are the length of the FCS, if there is one.
        let link = word(&header, 20, is_swapped) & 0xffff;
        if link != LINK_ETHERNET {
            return Err(invalid(&format!("its link type is {link}, and Ethernet is {LINK_ETHERNET}")));
        }
        Ok(Self { file, is_swapped, ns_per_fraction })
    }

    /// Reads the next frame into the buffer of an earlier one. Returns `None` at the end.
    fn next(&mut self, mut buffer: Vec<u8>) -> io::Result<Option<Record>> {
        let mut header = [0; RECORD_BYTES];
        match self.file.read(&mut header[..1])? {
            0 => return Ok(None),
            _ => self.file.read_exact(&mut header[1..]).map_err(|_| invalid("it ends within a frame"))?,
        }
        let [seconds, fraction, kept, _] =
            [0, 4, 8, 12].map(|at| u64::from(word(&header, at, self.is_swapped)));
        if kept > u64::from(SNAP_BYTES) {
            return Err(invalid(&format!("it has a frame of {kept} bytes")));
        }
        buffer.resize(kept as usize, 0);
        self.file.read_exact(&mut buffer).map_err(|_| invalid("it ends within a frame"))?;
        let time_ns = seconds * 1_000_000_000 + fraction * self.ns_per_fraction;
        Ok(Some(Record { time_ns, bytes: buffer }))
    }

    fn rewind(&mut self) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(HEADER_BYTES as u64)).map(|_| ())
    }
}

fn word(bytes: &[u8], at: usize, is_swapped: bool) -> u32 {
    let word = u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if is_swapped { word.swap_bytes() } else { word }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Reports the end of a capture to the user. The wire goes on without it.
fn report_end(error: &io::Error) {
    // If standard error is closed, there is no place for the message.
    let _ = writeln!(io::stderr(), "a capture ends here: {error}");
}
