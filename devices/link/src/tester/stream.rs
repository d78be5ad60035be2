//! [`Stream`]: sends the frames of one stream, and counts those that return.

use coppice_traffic::{
    Count, Counted, Histogram, Refusal, Report, Reset, Shape, Start, Template, Test, message_offset,
};

pub(super) const PS_PER_NS: u64 = 1000;
const PS_PER_S: u64 = 1_000_000_000_000;
/// Words of the table of received numbers, which tells a repetition from a new frame: 18 ms of the shortest
/// frames on 10 Gigabit Ethernet.
const WORDS: usize = 4096;
/// A longer pause is the host's, which ran another thread, and not the wire's. Frames that were not sent by
/// then were never offered.
const STALL_PS: u64 = 50_000_000;

/// A stream that the tester sends, or that a guest sends to it.
pub(super) struct Stream {
    sender: Option<Sender>,
    /// The number of the next frame.
    next: u64,
    is_running: bool,
    /// The last requests that were executed. A repetition is not executed again.
    started: Option<u32>,
    was_reset: Option<u32>,
    sent: u64,
    sent_first_ns: u64,
    sent_last_ns: u64,
    stalled_ps: u64,
    returned_bytes: u64,
    returned_first_ns: u64,
    returned_last_ns: u64,
    latency: Histogram,
    count: Count<WORDS>,
}

/// The sending side of a stream.
struct Sender {
    template: Template,
    frame: Vec<u8>,
    /// The time from which the next frame may be sent; 0 for at once.
    due_ps: u64,
    /// The time between the beginnings of bursts; 0 for as fast as the wire.
    interval_ps: u64,
    burst: u32,
    /// The frames left of the burst, and of the stream.
    left_of_burst: u32,
    left: u64,
    checks_filler: bool,
}

impl Stream {
    pub(super) fn new() -> Box<Self> {
        Box::new(Self {
            sender: None,
            next: 0,
            is_running: false,
            started: None,
            was_reset: None,
            sent: 0,
            sent_first_ns: 0,
            sent_last_ns: 0,
            stalled_ps: 0,
            returned_bytes: 0,
            returned_first_ns: 0,
            returned_last_ns: 0,
            latency: Histogram::new(),
            count: Count::new(0),
        })
    }

    pub(super) fn start(&mut self, start: &Start, source: [u8; 6], now_ns: u64) -> Result<(), Refusal> {
        if self.started == Some(start.request) {
            return Ok(());
        }
        let shape = Shape {
            destination: start.destination,
            source,
            bytes: start.frame_bytes.into(),
            flows: start.flows,
        };
        let template = Template::new(start.stream, shape).map_err(|_| Refusal::FrameBytes)?;
        let mut frame = vec![0; shape.bytes];
        template.write(&mut frame).map_err(|_| Refusal::FrameBytes)?;
        let burst = start.burst.max(1);
        let interval_ps = match start.frames_per_second {
            0 => 0,
            rate @ 1..=1_000_000_000 => {
                // The interval is below 2^72, and is kept below 2^63: a burst in some months.
                let interval = u128::from(PS_PER_S) * u128::from(burst) / u128::from(rate);
                interval.min(u128::from(u64::MAX >> 1)) as u64
            }
            _ => return Err(Refusal::Rate),
        };
        self.begin(self.next);
        self.sender = Some(Sender {
            template,
            frame,
            due_ps: if interval_ps == 0 { 0 } else { now_ns.saturating_mul(PS_PER_NS) },
            interval_ps,
            burst,
            left_of_burst: burst,
            left: if start.count == 0 { u64::MAX } else { start.count },
            checks_filler: start.checks_filler,
        });
        self.is_running = true;
        self.started = Some(start.request);
        Ok(())
    }

    pub(super) fn stop(&mut self) {
        self.is_running = false;
    }

    pub(super) fn reset(&mut self, reset: &Reset) {
        if self.was_reset != Some(reset.request) {
            self.begin(reset.base);
            self.sender = None;
            self.is_running = false;
            self.was_reset = Some(reset.request);
        }
    }

    /// Resets all counts; frames before number `base` are stale.
    fn begin(&mut self, base: u64) {
        self.count.reset(base);
        self.latency.clear();
        (self.sent, self.sent_first_ns, self.sent_last_ns, self.stalled_ps) = (0, 0, 0, 0);
        (self.returned_bytes, self.returned_first_ns, self.returned_last_ns) = (0, 0, 0);
    }

    #[inline]
    pub(super) const fn is_running(&self) -> bool {
        self.is_running
    }

    /// The time from which the next frame may be sent.
    #[inline]
    pub(super) fn due_ps(&self) -> u64 {
        self.sender.as_ref().map_or(u64::MAX, |sender| sender.due_ps)
    }

    /// The frame that [`Self::prepare`] has prepared.
    #[inline]
    pub(super) fn frame(&self) -> &[u8] {
        self.sender.as_ref().map_or(&[], |sender| &sender.frame)
    }

    /// Numbers the next frame, and computes the time of the one after it.
    #[inline]
    pub(super) fn prepare(&mut self, now_ns: u64) {
        let Some(sender) = &mut self.sender else { return };
        let now_ps = now_ns.saturating_mul(PS_PER_NS);
        if self.sent == 0 {
            self.sent_first_ns = now_ns;
        } else {
            // A frame that waits for the wire is late, too, but then another one was sent just before.
            let idle_since_ps = sender.due_ps.max(self.sent_last_ns * PS_PER_NS);
            let idle_ps = now_ps.saturating_sub(idle_since_ps);
            if idle_ps > STALL_PS {
                self.stalled_ps += idle_ps;
            }
        }
        sender.template.stamp(&mut sender.frame, self.next, now_ns);
        self.next += 1;
        self.sent += 1;
        self.sent_last_ns = now_ns;
        sender.left -= 1;
        self.is_running = sender.left > 0;
        if sender.interval_ps > 0 {
            sender.left_of_burst -= 1;
            if sender.left_of_burst == 0 {
                sender.left_of_burst = sender.burst;
                sender.due_ps = sender.due_ps.max(now_ps.saturating_sub(STALL_PS)) + sender.interval_ps;
            }
        }
    }

    /// Counts a frame that has returned. Returns false if it is damaged.
    #[inline]
    pub(super) fn take(&mut self, frame: &[u8], test: Test, now_ns: u64) -> bool {
        if let Some(sender) = &self.sender {
            if frame.len() != sender.frame.len() {
                return false;
            }
            // The bytes behind the message are the same in all frames of the stream.
            let is_whole = |offset| frame[offset + Test::BYTES..] == sender.frame[offset + Test::BYTES..];
            if sender.checks_filler && !message_offset(frame).is_ok_and(is_whole) {
                return false;
            }
        }
        if let Counted::Once { .. } = self.count.add(test.sequence) {
            if self.count.once() == 1 {
                self.returned_first_ns = now_ns;
            }
            self.returned_last_ns = now_ns;
            self.returned_bytes += frame.len() as u64;
            if self.sender.is_some() {
                self.latency.add(test.age_ns(now_ns));
            }
        }
        true
    }

    pub(super) fn report(&self, report: &mut Report) {
        report.is_running = self.is_running;
        report.sent = self.sent;
        report.sent_bytes = self.sent * self.frame().len() as u64;
        report.sent_first_ns = self.sent_first_ns;
        report.sent_last_ns = self.sent_last_ns;
        report.returned = self.count.once();
        report.returned_bytes = self.returned_bytes;
        report.returned_first_ns = self.returned_first_ns;
        report.returned_last_ns = self.returned_last_ns;
        report.lost = self.count.missing();
        report.late = self.count.late();
        report.twice = self.count.twice();
        report.stale = self.count.stale();
        report.latency = self.latency.latency();
        report.stalled_ns = self.stalled_ps / PS_PER_NS;
    }
}
