//! [`Tester`]: a client of the traffic tester at the other end of the wire. Requests and reports travel as
//! frames.

use core::sync::atomic::{AtomicU32, Ordering};

use coppice_net::{MacAddr, SHORTEST_FRAME};
use coppice_runtime::time::tsc;
use coppice_traffic::{Ask, Control, Message, Report, Reset, Shape, Start, Stop, Template, Test, decode};

use crate::path::{Failure, FramePath};

/// The numbers of the tester's stream and of ours.
const THEIRS: u16 = 1;
const OURS: u16 = 2;
/// The size of an Ethernet header, in bytes.
const HEADER: usize = 14;
/// The time after which an unanswered request is sent again.
const REPEAT_NS: u64 = 2_000_000;
/// The number of attempts.
const ATTEMPTS: u32 = 1000;

/// The tester, as one client sees it.
pub(crate) struct Tester {
    ours: [u8; 6],
    tsc_hz: u64,
}

/// The number of the last request. A tester performs the request of each number once, for all clients
/// together.
static REQUEST: AtomicU32 = AtomicU32::new(0);

fn next_request() -> u32 {
    REQUEST.fetch_add(1, Ordering::Relaxed) + 1
}

/// The frames of our own stream, in sequence.
pub(crate) struct Stamp {
    header: [u8; HEADER],
    bytes: usize,
    sequence: u64,
}

impl Stamp {
    /// Writes the fields of the next frame that the tester reads, and returns its length.
    #[inline(always)]
    pub(crate) fn write(&mut self, frame: &mut [u8]) -> usize {
        frame[..HEADER].copy_from_slice(&self.header);
        Test { stream: OURS, sequence: self.sequence, sent_ns: 0 }.put(&mut frame[HEADER..]);
        self.sequence += 1;
        self.bytes
    }
}

/// Swaps the addresses of a frame: the sender becomes the receiver. A router rewrites each frame similarly.
#[inline(always)]
pub(crate) fn turn_back(frame: &mut [u8]) {
    if let Some((to, from)) = frame.get_mut(..12).and_then(|header| header.split_at_mut_checked(6)) {
        to.swap_with_slice(from);
    }
}

impl Tester {
    /// Creates the tester's client with this address.
    pub(crate) fn new(ours: MacAddr, tsc_hz: u64) -> Self {
        Self { ours: ours.0, tsc_hz }
    }

    /// Makes the tester send `count` frames (0: without end) of `bytes` bytes, at the given rate per second
    /// (0: line rate). Its answer arrives before the frames.
    pub(crate) fn start(
        &self,
        path: &mut impl FramePath,
        bytes: usize,
        count: u64,
        frames_per_second: u64,
    ) -> Result<(), Failure> {
        let request = next_request();
        let control = Control::Start(Start {
            stream: THEIRS,
            request,
            frame_bytes: bytes as u16,
            frames_per_second,
            count,
            burst: 1,
            destination: self.ours,
            flows: 0,
            checks_filler: false,
        });
        self.send(path, &control)
    }

    /// Makes it stop sending and returns its counts.
    pub(crate) fn stop(&self, path: &mut impl FramePath) -> Result<Report, Failure> {
        let request = next_request();
        self.request(path, &Control::Stop(Stop { stream: THEIRS, request }))
    }

    /// Returns its counts of the frames it has sent. Frames received while waiting are dropped.
    pub(crate) fn report(&self, path: &mut impl FramePath) -> Result<Report, Failure> {
        let request = next_request();
        self.request(path, &Control::Ask(Ask { stream: THEIRS, request }))
    }

    /// Makes it reset its counts of our frames, which are to be `bytes` long.
    pub(crate) fn expect(&self, path: &mut impl FramePath, bytes: usize) -> Result<Stamp, Failure> {
        let request = next_request();
        // Frames of an earlier stream still in flight have lower numbers.
        let base = u64::from(request) << 32;
        self.request(path, &Control::Reset(Reset { stream: OURS, request, base }))?;
        let shape = Shape { destination: [0xff; 6], source: self.ours, bytes, flows: 0 };
        let mut frame = [0; SHORTEST_FRAME];
        Template::new(OURS, Shape { bytes: frame.len(), ..shape })?.write(&mut frame)?;
        let mut header = [0; HEADER];
        header.copy_from_slice(&frame[..HEADER]);
        Ok(Stamp { header, bytes, sequence: base })
    }

    /// Returns its counts of our frames.
    pub(crate) fn returned_report(&self, path: &mut impl FramePath) -> Result<Report, Failure> {
        let request = next_request();
        self.request(path, &Control::Ask(Ask { stream: OURS, request }))
    }

    /// Sends a request once.
    fn send(&self, path: &mut impl FramePath, control: &Control) -> Result<(), Failure> {
        let (ours, mut outcome) = (self.ours, Ok(0));
        let late = tsc() + self.ticks(REPEAT_NS);
        loop {
            let write = |frame: &mut [u8]| {
                outcome = control.encode([0xff; 6], ours, frame);
                outcome.unwrap_or(0)
            };
            let moved = path.transmit(1, write, |_| ())?;
            outcome?;
            // Frames submitted earlier go first.
            if moved.sent > 0 || tsc() > late {
                return Ok(());
            }
        }
    }

    /// Sends a request until it is answered.
    fn request(&self, path: &mut impl FramePath, control: &Control) -> Result<Report, Failure> {
        for _ in 0..ATTEMPTS {
            let mut answer = None;
            self.send(path, control)?;
            let late = tsc() + self.ticks(REPEAT_NS);
            while answer.is_none() && tsc() < late {
                path.receive(|frame| {
                    if let Ok(Message::Report(report)) = decode(frame)
                        && report.answers(control)
                    {
                        answer = Some(report);
                    }
                })?;
            }
            if let Some(report) = answer {
                return report.refusal.map_or(Ok(report), |refusal| Err(Failure::Tester(refusal)));
            }
        }
        Err(Failure::NoTester)
    }

    pub(crate) fn ticks(&self, ns: u64) -> u64 {
        (ns as f64 * self.tsc_hz as f64 / 1e9) as u64
    }

    pub(crate) fn ns(&self, ticks: u64) -> f64 {
        ticks as f64 * 1e9 / self.tsc_hz as f64
    }
}
