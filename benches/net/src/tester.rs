//! Who is at the other end of the wire: asked for frames and for what became of them, by frames.

use core::sync::atomic::{AtomicU32, Ordering};

use coppice_net::{MacAddr, SHORTEST_FRAME};
use coppice_runtime::time::tsc;
use coppice_traffic::{Ask, Control, Message, Report, Reset, Shape, Start, Stop, Template, Test, decode};

use crate::target::{Failure, Target};

/// The stream that the tester sends, and the one that we do.
const THEIRS: u16 = 1;
const OURS: u16 = 2;
/// Bytes of an Ethernet header.
const HEADER: usize = 14;
/// An answer that has not come by then is asked for again.
const REPEAT_NS: u64 = 2_000_000;
/// So often.
const ATTEMPTS: u32 = 1000;

/// One tester, as one client sees it.
pub(crate) struct Tester {
    ours: [u8; 6],
    tsc_hz: u64,
}

/// The name of the last request. A tester does what is asked for by the same name once, whoever asks.
static REQUEST: AtomicU32 = AtomicU32::new(0);

fn next_request() -> u32 {
    REQUEST.fetch_add(1, Ordering::Relaxed) + 1
}

/// Frames of our own stream, one after the other.
pub(crate) struct Stamp {
    header: [u8; HEADER],
    bytes: usize,
    sequence: u64,
}

impl Stamp {
    /// Writes the next one, all of it that somebody looks at, and says how long it is.
    #[inline(always)]
    pub(crate) fn write(&mut self, frame: &mut [u8]) -> usize {
        frame[..HEADER].copy_from_slice(&self.header);
        Test { stream: OURS, sequence: self.sequence, sent_ns: 0 }.put(&mut frame[HEADER..]);
        self.sequence += 1;
        self.bytes
    }
}

/// Makes the sender of a frame its receiver: what a router does to each.
#[inline(always)]
pub(crate) fn turn_back(frame: &mut [u8]) {
    if let Some((to, from)) = frame.get_mut(..12).and_then(|header| header.split_at_mut_checked(6)) {
        to.swap_with_slice(from);
    }
}

impl Tester {
    /// Of a client with this address.
    pub(crate) fn new(ours: MacAddr, tsc_hz: u64) -> Self {
        Self { ours: ours.0, tsc_hz }
    }

    /// Has the tester send `count` frames (0: without end) of `bytes` bytes, so many in a second (0: as many as the wire carries).
    /// Its answer comes in front of them.
    pub(crate) fn start(
        &self,
        target: &mut impl Target,
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
        self.send(target, &control)
    }

    /// Has it send no more, and answers what became of what it has sent.
    pub(crate) fn stop(&self, target: &mut impl Target) -> Result<Report, Failure> {
        let request = next_request();
        self.ask(target, &Control::Stop(Stop { stream: THEIRS, request }))
    }

    /// What became of what it has sent. All that is received meanwhile is dropped.
    pub(crate) fn report(&self, target: &mut impl Target) -> Result<Report, Failure> {
        let request = next_request();
        self.ask(target, &Control::Ask(Ask { stream: THEIRS, request }))
    }

    /// Has it count frames of ours anew, which are to be `bytes` long.
    pub(crate) fn expect(&self, target: &mut impl Target, bytes: usize) -> Result<Stamp, Failure> {
        let request = next_request();
        // Numbers of an earlier stream that are still on their way are too low.
        let base = u64::from(request) << 32;
        self.ask(target, &Control::Reset(Reset { stream: OURS, request, base }))?;
        let shape = Shape { destination: [0xff; 6], source: self.ours, bytes, flows: 0 };
        let mut frame = [0; SHORTEST_FRAME];
        Template::new(OURS, Shape { bytes: frame.len(), ..shape })?.write(&mut frame)?;
        let mut header = [0; HEADER];
        header.copy_from_slice(&frame[..HEADER]);
        Ok(Stamp { header, bytes, sequence: base })
    }

    /// What became of frames of ours.
    pub(crate) fn counted(&self, target: &mut impl Target) -> Result<Report, Failure> {
        let request = next_request();
        self.ask(target, &Control::Ask(Ask { stream: OURS, request }))
    }

    /// Sends a request, once.
    fn send(&self, target: &mut impl Target, control: &Control) -> Result<(), Failure> {
        let (ours, mut outcome) = (self.ours, Ok(0));
        let late = tsc() + self.ticks(REPEAT_NS);
        loop {
            let write = |frame: &mut [u8]| {
                outcome = control.encode([0xff; 6], ours, frame);
                outcome.unwrap_or(0)
            };
            let moved = target.transmit(1, write, |_| ())?;
            outcome?;
            // What was handed in before goes first.
            if moved.sent > 0 || tsc() > late {
                return Ok(());
            }
        }
    }

    /// Sends a request until it is answered.
    fn ask(&self, target: &mut impl Target, control: &Control) -> Result<Report, Failure> {
        for _ in 0..ATTEMPTS {
            let mut answer = None;
            self.send(target, control)?;
            let late = tsc() + self.ticks(REPEAT_NS);
            while answer.is_none() && tsc() < late {
                target.receive(|frame| {
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
