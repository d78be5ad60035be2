//! [`Tester`]: a peer that generates test traffic and counts it.
//!
//! Frames of the in-band test protocol (`coppice-traffic`) control it. A frame costs a few stores on its way
//! out and a bit in a table on its way back; the only clock is the device's.

mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use coppice_traffic::{Control, Message, Report, STREAMS, decode};

use crate::queue::Queue;
use crate::{Frame, LossCounters, Peer};
use stream::Stream;

/// The most queued reports. A client that requests more without reading them loses some, and requests them
/// again.
const REPORTS: usize = 64;

/// The generator and sink of test traffic at the end of a wire.
pub struct Tester {
    mac: [u8; 6],
    /// Each stream is created by the first frame that names it.
    streams: Box<[Option<Box<Stream>>]>,
    /// The streams that are being sent, in the order of their turns.
    running: Vec<usize>,
    reports: Queue,
    /// The earliest time at which a frame of [`Self::running`] is due; `None` if there are none.
    due_ps: Option<u64>,
    damaged: u64,
    losses: Arc<LossCounters>,
}

impl Tester {
    /// The default address of a tester: locally administered.
    pub const MAC: [u8; 6] = [0x02, 0xc0, 0, 0, 0, 0xfe];

    /// A tester with this address. It takes frames to all addresses.
    pub fn new(mac: [u8; 6]) -> Self {
        Self {
            mac,
            streams: (0..STREAMS).map(|_| None).collect(),
            running: Vec::new(),
            reports: Queue::new(REPORTS),
            due_ps: None,
            damaged: 0,
            losses: Arc::default(),
        }
    }

    /// Executes a request and queues its report.
    fn handle_request(&mut self, request: &Control, guest: [u8; 6], now_ns: u64) {
        let index = usize::from(request.stream());
        let stream = self.streams[index].get_or_insert_with(Stream::new);
        let refusal = match request {
            Control::Start(start) => stream.start(start, self.mac, now_ns).err(),
            Control::Stop(_) => {
                stream.stop();
                None
            }
            Control::Reset(reset) => {
                stream.reset(reset);
                None
            }
            Control::Ask(_) => None,
        };
        let mut report = Report::to(request);
        (report.refusal, report.damaged, report.now_ns) = (refusal, self.damaged, now_ns);
        stream.report(&mut report);
        self.running.retain(|running| *running != index);
        if report.is_running {
            self.running.push(index);
        }
        self.update_due();
        let mut frame = [0; Report::FRAME_BYTES];
        if let Ok(bytes) = report.encode(guest, self.mac, &mut frame) {
            // A client that lets the queue run full has to request again.
            if !self.reports.push(&frame[..bytes], None) {
                self.losses.peer_full.add(1);
            }
        }
    }

    fn update_due(&mut self) {
        let running = self.running.iter().filter_map(|&index| self.streams[index].as_ref());
        self.due_ps = running.map(|stream| stream.due_ps()).min();
    }

    /// Returns the index of the stream that is sent next.
    #[inline]
    fn next_stream(&self) -> Option<usize> {
        if let [only] = self.running[..] {
            return Some(only);
        }
        let due = |&&index: &&usize| self.streams[index].as_ref().map(|stream| stream.due_ps());
        self.running.iter().min_by_key(due).copied()
    }
}

impl Peer for Tester {
    #[inline]
    fn take(&mut self, frame: &[u8], now_ns: u64) {
        match decode(frame) {
            Ok(Message::Test(test)) => {
                let stream = self.streams[usize::from(test.stream)].get_or_insert_with(Stream::new);
                if !stream.take(frame, test, now_ns) {
                    self.damaged += 1;
                    self.losses.ignored.add(1);
                }
            }
            Ok(Message::Control(request)) => {
                let mut guest = [0; 6];
                guest.copy_from_slice(&frame[6..12]);
                self.handle_request(&request, guest, now_ns);
            }
            // The report of another tester, or a frame that an operating system sends by itself.
            Ok(Message::Report(_)) | Err(coppice_traffic::DecodeError::Foreign { .. }) => {
                self.losses.ignored.add(1);
            }
            Err(_) => {
                self.damaged += 1;
                self.losses.ignored.add(1);
            }
        }
    }

    #[inline]
    fn give(&mut self, now_ns: u64) -> Option<Frame<'_>> {
        if !self.reports.is_empty() {
            return self.reports.pop();
        }
        if self.due_ps? > now_ns.saturating_mul(stream::PS_PER_NS) {
            return None;
        }
        let index = self.next_stream()?;
        let stream = self.streams[index].as_mut()?;
        stream.prepare(now_ns);
        if let [_] = self.running[..]
            && stream.is_running()
        {
            self.due_ps = Some(stream.due_ps());
        } else {
            // Behind the others, so that streams that are due at the same time take turns.
            let is_running = stream.is_running();
            self.running.retain(|running| *running != index);
            if is_running {
                self.running.push(index);
            }
            self.update_due();
        }
        Some(Frame { bytes: self.streams[index].as_ref()?.frame(), damage: None })
    }

    fn due_ns(&self) -> Option<u64> {
        if self.reports.is_empty() { self.due_ps.map(|due| due.div_ceil(stream::PS_PER_NS)) } else { Some(0) }
    }

    fn losses(&self) -> Arc<LossCounters> {
        self.losses.clone()
    }
}

impl fmt::Debug for Tester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a tester that sends {} streams", self.running.len())
    }
}
