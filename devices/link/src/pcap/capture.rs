//! [`Capture`]: a record of what passes between a wire and its end.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Writer;
use crate::{End, Frame, LossCounters, Waker};

/// An end, with all frames that it takes and gives in a file that tcpdump and Wireshark read.
///
/// Which direction a frame took is not in the format; addresses tell.
pub struct Capture {
    end: Box<dyn End>,
    writer: Writer,
}

impl Capture {
    /// Records into a file, which is made or replaced.
    ///
    /// # Errors
    /// What the host says.
    pub fn new(end: Box<dyn End>, path: &Path) -> io::Result<Self> {
        Ok(Self { end, writer: Writer::create(path)? })
    }
}

impl End for Capture {
    fn take(&mut self, frame: &[u8], now_ns: u64) {
        // With or without a record, the frame goes on.
        let _ = self.writer.put(frame, now_ns);
        self.end.take(frame, now_ns);
    }

    fn give(&mut self, now_ns: u64) -> Option<Frame<'_>> {
        let Some(frame) = self.end.give(now_ns) else {
            self.writer.idle(now_ns);
            return None;
        };
        let _ = self.writer.put(frame.bytes, now_ns);
        Some(frame)
    }

    fn due_ns(&self) -> Option<u64> {
        self.end.due_ns()
    }

    fn is_up(&self) -> bool {
        self.end.is_up()
    }

    fn attach(&mut self, waker: Waker) {
        self.end.attach(waker);
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.end.losses()
    }
}
