//! [`Player`] and [`Recorder`]: captures as the peer of a wire.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Reader, Record, Writer, report_end};
use crate::{Frame, LossCounters, Peer};

/// The gap between the last frame and the first one of the next round.
const ROUND_GAP_NS: u64 = 1000;

/// Records the frames that it takes.
pub struct Recorder {
    writer: Writer,
    losses: Arc<LossCounters>,
}

impl Recorder {
    /// Records into a file, which is created or replaced.
    ///
    /// # Errors
    /// The error of the host if the file cannot be created or written.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self { writer: Writer::create(path)?, losses: Arc::default() })
    }
}

impl Peer for Recorder {
    fn take(&mut self, frame: &[u8], now_ns: u64) {
        if !self.writer.put(frame, now_ns) {
            self.losses.refused.add(1);
        }
    }

    fn give(&mut self, now_ns: u64) -> Option<Frame<'_>> {
        self.writer.idle(now_ns);
        None
    }

    fn due_ns(&self) -> Option<u64> {
        None
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.losses.clone()
    }
}

/// Sends the frames of a capture.
pub struct Player {
    reader: Reader,
    /// The record of frames from the device.
    recorder: Option<Recorder>,
    losses: Arc<LossCounters>,
    /// The next frame.
    next: Option<Record>,
    current: Vec<u8>,
    /// The device's time less the capture's, in this round; known after the first call.
    shift_ns: Option<u64>,
    keeps_times: bool,
    repeats: bool,
}

impl Player {
    /// Plays a file: at its own times or as fast as the wire, once or repeatedly. Frames from the device go
    /// to `recorder`, if there is one.
    ///
    /// # Errors
    /// The error of the host if the file cannot be read; `InvalidData` if it is not a capture or its first
    /// frame is damaged.
    pub fn new(
        path: &Path,
        keeps_times: bool,
        repeats: bool,
        recorder: Option<Recorder>,
    ) -> io::Result<Self> {
        let mut reader = Reader::open(path)?;
        let next = reader.next(Vec::new())?;
        let losses = recorder.as_ref().map(Peer::losses).unwrap_or_default();
        Ok(Self { reader, recorder, losses, next, current: Vec::new(), shift_ns: None, keeps_times, repeats })
    }

    /// Reads the frame after `done_ns` of the capture's time, into the buffer of the frame before.
    fn read_on(&mut self, done_ns: u64) {
        let buffer = std::mem::take(&mut self.current);
        let next = self.reader.next(buffer).and_then(|next| {
            if next.is_some() || !self.repeats {
                return Ok(next);
            }
            self.reader.rewind()?;
            let first = self.reader.next(Vec::new())?;
            if let (Some(shift), Some(first)) = (&mut self.shift_ns, &first) {
                *shift = shift.wrapping_add(done_ns.wrapping_sub(first.time_ns)).wrapping_add(ROUND_GAP_NS);
            }
            Ok(first)
        });
        self.next = next.unwrap_or_else(|error| {
            report_end(&error);
            None
        });
    }
}

impl Peer for Player {
    fn take(&mut self, frame: &[u8], now_ns: u64) {
        match &mut self.recorder {
            Some(recorder) => recorder.take(frame, now_ns),
            None => self.losses.ignored.add(1),
        }
    }

    fn give(&mut self, now_ns: u64) -> Option<Frame<'_>> {
        let time_ns = self.next.as_ref().map(|record| record.time_ns);
        if let Some(time_ns) = time_ns {
            self.shift_ns.get_or_insert(now_ns.wrapping_sub(time_ns));
        }
        if self.due_ns().is_none_or(|due| due > now_ns) {
            if let Some(recorder) = &mut self.recorder {
                recorder.give(now_ns);
            }
            return None;
        }
        let record = self.next.take()?;
        self.read_on(record.time_ns);
        self.current = record.bytes;
        Some(Frame { bytes: &self.current, damage: None })
    }

    fn due_ns(&self) -> Option<u64> {
        let record = self.next.as_ref()?;
        let due = |shift: u64| record.time_ns.wrapping_add(shift);
        Some(if self.keeps_times { self.shift_ns.map_or(0, due) } else { 0 })
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.losses.clone()
    }
}
