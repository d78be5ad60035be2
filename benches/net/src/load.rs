//! [`Load`]: the work for a device, and [`run`], which performs it once.

use alloc::vec::Vec;
use core::fmt;

use coppice_runtime::time::tsc;

use crate::path::{Failure, FramePath, Moved};
use crate::tester::{Tester, turn_back};

/// The time without frames after which missing frames count as lost. It is longer than a host takes to
/// schedule the device's thread again.
const QUIET_NS: u64 = 20_000_000;
/// The time for which the device is left alone in runs without waits: long enough for some batches.
const PAUSE_NS: u64 = 20_000;
/// The minimum number of frames in a sample of busy cycles.
pub(crate) const SAMPLE: u64 = 256;

/// The direction of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// In, and out again with another Ethernet header.
    Forward,
    /// In.
    Receive,
    /// Out.
    Transmit,
}

/// The work for a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    pub(crate) way: Way,
    /// The size of a frame, without FCS.
    pub(crate) bytes: usize,
    /// The maximum number of frames that one exchange moves in each direction.
    pub(crate) batch: usize,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "forward",
            Self::Receive => "receive",
            Self::Transmit => "transmit",
        })
    }
}

/// The results of one run.
#[derive(Default)]
pub(crate) struct Run {
    /// Frames that arrived at their destination.
    pub(crate) frames: u64,
    /// Frames that did not arrive.
    pub(crate) lost: u64,
    /// The time from the first to the last frame.
    pub(crate) ns: f64,
    /// Cycles per packet, of exchanges that moved whole batches back to back.
    pub(crate) busy: Vec<f64>,
    /// The median, 99th and 99.9th percentile of the latency of returned frames.
    pub(crate) latency_ns: [u64; 3],
    /// The time for which the host did not run the tester.
    pub(crate) stalled_ns: u64,
}

/// The parameters of a run.
#[derive(Clone, Copy)]
pub(crate) struct RunParameters {
    /// The number of frames.
    pub(crate) count: u64,
    /// The rate of the tester in frames per second; 0 is line rate.
    pub(crate) frames_per_second: u64,
    /// True if the device is left alone whenever it has less than a whole batch.
    pub(crate) pauses: bool,
}

/// Runs `load` once on `path`, whose queue is open.
pub(crate) fn run<T: FramePath>(
    path: &mut T,
    tester: &Tester,
    load: Load,
    parameters: RunParameters,
) -> Result<Run, Failure> {
    let mut drive = Drive::new(tester, load.batch, parameters);
    match load.way {
        Way::Transmit => {
            let mut stamp = tester.expect(path, load.bytes)?;
            drive.begin();
            while drive.moved < parameters.count {
                let most = (load.batch as u64).min(parameters.count - drive.moved) as usize;
                let moved = path.transmit(most, |frame| stamp.write(frame), |_| ())?;
                if !drive.count(moved.sent) {
                    break;
                }
            }
            // Some of the last frames may still wait for room.
            while drive.moved < parameters.count && path.transmit(0, |_| 0, |_| ())?.sent > 0 {}
            let report = tester.returned_report(path)?;
            Ok(Run {
                frames: report.returned,
                lost: drive.moved.saturating_sub(report.returned),
                ns: (report.returned_last_ns - report.returned_first_ns) as f64,
                busy: drive.busy,
                stalled_ns: report.stalled_ns,
                ..Run::default()
            })
        }
        Way::Receive => {
            tester.start(path, load.bytes, parameters.count, parameters.frames_per_second)?;
            drive.begin();
            let mut tests = 0;
            // The tester's answer arrives before the frames.
            while drive.moved <= parameters.count {
                let moved = path.receive(|frame| tests += u64::from(is_test(frame)))?;
                if !drive.count(moved.received) {
                    break;
                }
            }
            let report = tester.report(path)?;
            Ok(Run {
                frames: tests,
                lost: report.sent.saturating_sub(tests),
                ns: tester.ns(drive.last_moved.saturating_sub(drive.first_moved)),
                busy: drive.busy,
                stalled_ns: report.stalled_ns,
                ..Run::default()
            })
        }
        Way::Forward => {
            tester.start(path, load.bytes, parameters.count, parameters.frames_per_second)?;
            drive.begin();
            while drive.moved <= parameters.count {
                let moved = path.forward(turn_back)?;
                if !drive.count(moved.received) {
                    break;
                }
            }
            // The last frames are still in this client.
            let mut moved = Moved { sent: 1, received: 0 };
            while moved.sent + moved.received > 0 {
                moved = path.forward(turn_back)?;
            }
            let report = tester.report(path)?;
            let latency = report.latency;
            Ok(Run {
                frames: report.returned,
                lost: report.missing(),
                ns: report.returned_last_ns.saturating_sub(report.returned_first_ns) as f64,
                busy: drive.busy,
                latency_ns: [latency.p50_ns, latency.p99_ns, latency.p999_ns],
                stalled_ns: report.stalled_ns,
            })
        }
    }
}

/// Returns true for a frame of a stream, by the second byte behind its header.
#[inline(always)]
fn is_test(frame: &[u8]) -> bool {
    frame.get(15) == Some(&1)
}

/// Counts the frames of exchanges, and the cost of those that move whole batches.
struct Drive {
    batch: usize,
    pauses: bool,
    quiet: u64,
    pause: u64,
    clock: u64,
    moved: u64,
    first_moved: u64,
    last_moved: u64,
    /// The time without frames.
    silent: u64,
    /// The clock after the last exchange, and whether that exchange moved a whole batch.
    last: u64,
    was_whole: bool,
    /// The ticks of whole batches that are in no sample yet.
    ticks: u64,
    frames: u64,
    busy: Vec<f64>,
}

impl Drive {
    fn new(tester: &Tester, batch: usize, parameters: RunParameters) -> Self {
        Self {
            batch,
            pauses: parameters.pauses,
            quiet: tester.ticks(QUIET_NS),
            pause: tester.ticks(PAUSE_NS),
            clock: clock_cost(),
            moved: 0,
            first_moved: 0,
            last_moved: 0,
            silent: 0,
            last: 0,
            was_whole: false,
            ticks: 0,
            frames: 0,
            busy: Vec::with_capacity(4096),
        }
    }

    fn begin(&mut self) {
        self.last = tsc();
        self.last_moved = self.last;
    }

    /// Counts the frames of an exchange. Returns true if more are expected.
    #[inline(always)]
    fn count(&mut self, frames: usize) -> bool {
        let now = tsc();
        let spent = now - self.last;
        self.last = now;
        let is_whole = frames >= self.batch;
        if is_whole && self.was_whole {
            self.ticks += spent.saturating_sub(self.clock);
            self.frames += frames as u64;
            if self.frames >= SAMPLE {
                if self.busy.len() < self.busy.capacity() {
                    self.busy.push(self.ticks as f64 / self.frames as f64);
                }
                (self.ticks, self.frames) = (0, 0);
            }
        }
        self.was_whole = is_whole;
        if frames > 0 {
            if self.moved == 0 {
                self.first_moved = now;
            }
            self.moved += frames as u64;
            self.last_moved = now;
            self.silent = 0;
        } else {
            // A thread that was not scheduled for a while has not waited for frames.
            let paused = if self.pauses { self.pause } else { 0 };
            self.silent += spent.min(self.pause) + paused;
            if self.silent > self.quiet {
                return false;
            }
        }
        if self.pauses && !is_whole {
            while tsc() - self.last < self.pause {
                core::hint::spin_loop();
            }
            self.last = tsc();
        }
        true
    }
}

fn clock_cost() -> u64 {
    let once = || {
        let start = tsc();
        tsc() - start
    };
    (0..100).map(|_| once()).min().unwrap_or(0)
}
