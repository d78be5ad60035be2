//! [`Tester`]: who makes traffic and counts it.
//!
//! It does what frames of the in-band test protocol (`coppice-traffic`) ask of it. A frame costs a few stores on its way out and a bit
//! in a table on its way back; no clock is read but the device's.

mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use coppice_traffic::{Control, Message, Report, STREAMS, decode};

use crate::queue::Queue;
use crate::{End, Frame, LossCounters};
use stream::Stream;

/// Answers that wait. Who asks more often than it listens loses some, and asks again.
const ANSWERS: usize = 64;

/// The generator and sink at a wire's end.
pub struct Tester {
    mac: [u8; 6],
    /// Made when they are first heard of.
    streams: Box<[Option<Box<Stream>>]>,
    /// Those that are being sent, and where the next comes from.
    running: Vec<usize>,
    answers: Queue,
    /// The earliest that a frame of [`Self::running`] is due; `None` if there are none.
    due_ps: Option<u64>,
    damaged: u64,
    losses: Arc<LossCounters>,
}

impl Tester {
    /// The address that a tester has if nobody says otherwise: locally administered.
    pub const MAC: [u8; 6] = [0x02, 0xc0, 0, 0, 0, 0xfe];

    /// A tester with this address. It takes all frames, whoever they are for.
    pub fn new(mac: [u8; 6]) -> Self {
        Self {
            mac,
            streams: (0..STREAMS).map(|_| None).collect(),
            running: Vec::new(),
            answers: Queue::new(ANSWERS),
            due_ps: None,
            damaged: 0,
            losses: Arc::default(),
        }
    }

    /// Does what is asked and answers.
    fn obey(&mut self, request: &Control, guest: [u8; 6], now_ns: u64) {
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
        self.look_at_dues();
        let mut frame = [0; Report::FRAME_BYTES];
        if let Ok(bytes) = report.encode(guest, self.mac, &mut frame) {
            // A full queue is the fault of who asks.
            if !self.answers.push(&frame[..bytes], None) {
                self.losses.end_full.add(1);
            }
        }
    }

    fn look_at_dues(&mut self) {
        let dues = self.running.iter().filter_map(|&index| self.streams[index].as_ref());
        self.due_ps = dues.map(|stream| stream.due_ps()).min();
    }

    /// Which stream is to be sent next.
    #[inline]
    fn next_stream(&self) -> Option<usize> {
        if let [only] = self.running[..] {
            return Some(only);
        }
        let due = |&&index: &&usize| self.streams[index].as_ref().map(|stream| stream.due_ps());
        self.running.iter().min_by_key(due).copied()
    }
}

impl End for Tester {
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
                self.obey(&request, guest, now_ns);
            }
            // Another tester's answer, or what an operating system sends by itself.
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
        if !self.answers.is_empty() {
            return self.answers.pop();
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
            // Behind the others, so that those that are due at the same time take turns.
            let goes_on = stream.is_running();
            self.running.retain(|running| *running != index);
            if goes_on {
                self.running.push(index);
            }
            self.look_at_dues();
        }
        Some(Frame { bytes: self.streams[index].as_ref()?.frame(), damage: None })
    }

    fn due_ns(&self) -> Option<u64> {
        if self.answers.is_empty() { self.due_ps.map(|due| due.div_ceil(stream::PS_PER_NS)) } else { Some(0) }
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
