//! [`Capture`]: records the frames between a wire and its peer.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::Writer;
use crate::{Frame, LossCounters, Peer, Waker};

/// A peer whose frames, in both directions, are recorded in a file that tcpdump and Wireshark read.
///
/// The format has no direction; the addresses show it.
pub struct Capture {
    peer: Box<dyn Peer>,
    writer: Writer,
}

impl Capture {
    /// Records into a file, which is created or replaced.
    ///
    /// # Errors
    /// The error of the host if the file cannot be created or written.
    pub fn new(peer: Box<dyn Peer>, path: &Path) -> io::Result<Self> {
        Ok(Self { peer, writer: Writer::create(path)? })
    }
}

impl Peer for Capture {
    fn take(&mut self, frame: &[u8], now_ns: u64) {
        // The frame goes on even if it cannot be recorded.
        let _ = self.writer.put(frame, now_ns);
        self.peer.take(frame, now_ns);
    }

    fn give(&mut self, now_ns: u64) -> Option<Frame<'_>> {
        let Some(frame) = self.peer.give(now_ns) else {
            self.writer.idle(now_ns);
            return None;
        };
        let _ = self.writer.put(frame.bytes, now_ns);
        Some(frame)
    }

    fn due_ns(&self) -> Option<u64> {
        self.peer.due_ns()
    }

    fn is_up(&self) -> bool {
        self.peer.is_up()
    }

    fn attach(&mut self, waker: Waker) {
        self.peer.attach(waker);
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.peer.losses()
    }
}
