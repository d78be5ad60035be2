//! [`Load`]: what a device is given to do, and [`run`], which has it do so once.

use alloc::vec::Vec;
use core::fmt;

use coppice_runtime::time::tsc;

use crate::target::{Failure, Moved, Target};
use crate::tester::{Tester, turn_back};

/// Nothing came for so long: what is missing will not come. Longer than a host takes to run the device's thread again.
const QUIET_NS: u64 = 20_000_000;
/// How long the device is left alone where it is not to be waited for: long enough for some batches.
const PAUSE_NS: u64 = 20_000;
/// Frames that one sample of busy cycles comprises at least.
pub(crate) const SAMPLE: u64 = 256;

/// Which way frames go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    /// In, and with another Ethernet header out again.
    Forward,
    /// In.
    Receive,
    /// Out.
    Transmit,
}

/// What a device is given to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    pub(crate) way: Way,
    /// Of a frame, without FCS.
    pub(crate) bytes: usize,
    /// Frames that one exchange moves at most, each way.
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

/// What one run has come to.
#[derive(Default)]
pub(crate) struct Run {
    /// Frames that went all their way.
    pub(crate) frames: u64,
    /// Frames that did not.
    pub(crate) lost: u64,
    /// From the first to the last of them.
    pub(crate) ns: f64,
    /// Cycles per packet, of exchanges that moved whole batches one behind the other.
    pub(crate) busy: Vec<f64>,
    /// Half, 99 and 999 of 1000 of those that came back took so long.
    pub(crate) latency_ns: [u64; 3],
    /// For so long the tester was not run.
    pub(crate) stalled_ns: u64,
}

/// How a run goes.
#[derive(Clone, Copy)]
pub(crate) struct Course {
    /// How many frames.
    pub(crate) count: u64,
    /// How many the tester sends in a second; 0: as many as the wire carries.
    pub(crate) frames_per_second: u64,
    /// Whether the device is left alone whenever it has less than a whole batch.
    pub(crate) pauses: bool,
}

/// Runs `load` on `target`, which has its queue, once.
pub(crate) fn run<T: Target>(
    target: &mut T,
    tester: &Tester,
    load: Load,
    course: Course,
) -> Result<Run, Failure> {
    let mut drive = Drive::new(tester, load.batch, course);
    match load.way {
        Way::Transmit => {
            let mut stamp = tester.expect(target, load.bytes)?;
            drive.begin();
            while drive.moved < course.count {
                let most = (load.batch as u64).min(course.count - drive.moved) as usize;
                let moved = target.transmit(most, |frame| stamp.write(frame), |_| ())?;
                if !drive.count(moved.sent) {
                    break;
                }
            }
            // Of the last ones some may wait for room.
            while drive.moved < course.count && target.transmit(0, |_| 0, |_| ())?.sent > 0 {}
            let report = tester.counted(target)?;
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
            tester.start(target, load.bytes, course.count, course.frames_per_second)?;
            drive.begin();
            let mut tests = 0;
            // In front of the frames is the tester's answer.
            while drive.moved <= course.count {
                let moved = target.receive(|frame| tests += u64::from(is_test(frame)))?;
                if !drive.count(moved.received) {
                    break;
                }
            }
            let report = tester.report(target)?;
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
            tester.start(target, load.bytes, course.count, course.frames_per_second)?;
            drive.begin();
            while drive.moved <= course.count {
                let moved = target.forward(turn_back)?;
                if !drive.count(moved.received) {
                    break;
                }
            }
            // The last ones are still here.
            let mut moved = Moved { sent: 1, received: 0 };
            while moved.sent + moved.received > 0 {
                moved = target.forward(turn_back)?;
            }
            let report = tester.report(target)?;
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

/// Whether a frame is one of a stream, by its second byte behind the header.
#[inline(always)]
fn is_test(frame: &[u8]) -> bool {
    frame.get(15) == Some(&1)
}

/// Counts what exchanges move, and what those cost that move whole batches.
struct Drive {
    batch: usize,
    pauses: bool,
    quiet: u64,
    pause: u64,
    clock: u64,
    moved: u64,
    first_moved: u64,
    last_moved: u64,
    /// For how long nothing was moved.
    silent: u64,
    /// The clock's reading after the last exchange, and whether that moved a whole batch.
    last: u64,
    was_whole: bool,
    /// Of whole batches that no sample has yet.
    ticks: u64,
    frames: u64,
    busy: Vec<f64>,
}

impl Drive {
    fn new(tester: &Tester, batch: usize, course: Course) -> Self {
        Self {
            batch,
            pauses: course.pauses,
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

    /// An exchange has moved so many. Answers whether there is more to be expected.
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
            // Who was not run for a while has not waited.
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
