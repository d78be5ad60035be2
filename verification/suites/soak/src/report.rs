//! [`Report`]: lines of the run protocol for `cargo xtask soak`. [`Windows`]: times, in the order of their
//! cycles.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use coppice_control::{Control, LatencyKind};
use coppice_experiment::{Histogram, ResourceSnapshot};
use coppice_interfaces::{Handle, Text};
use coppice_run_protocol::soak::{
    self, Begin, Broken, End, Line, Lost, Method, Progress, Series, Times, WINDOWS,
};
use coppice_runtime::time;

use crate::killer::Cycle;
use crate::plan::{Choice, Plan};

/// The times of some consecutive cycles.
pub(crate) struct Window {
    number: u64,
    /// Times from the fault or kill until its caller continues.
    endings: Histogram,
    /// Times from there to the next instance's first correct answer.
    restarts: Histogram,
}

impl Window {
    fn new(number: u64) -> Self {
        Self { number, endings: Histogram::new(), restarts: Histogram::new() }
    }
}

/// All windows that are not reported yet.
pub(crate) struct Windows {
    cycles: u64,
    current: Window,
    finished: Vec<Window>,
}

impl Windows {
    pub(crate) fn new(cycles: u64) -> Self {
        Self { cycles, current: Window::new(0), finished: Vec::new() }
    }

    /// Records the times of cycle `number`.
    pub(crate) fn record(&mut self, number: u64, cycle: &Cycle) {
        let window = number * WINDOWS / self.cycles.max(1);
        // A late cycle counts with the next window.
        if window > self.current.number {
            self.finished.push(core::mem::replace(&mut self.current, Window::new(window)));
        }
        self.current.restarts.record(cycle.restart_ns);
        if let Some(ending_ns) = cycle.ending_ns {
            self.current.endings.record(ending_ns);
        }
    }

    /// Returns the windows that are complete, and after the run (`all`) the last one too.
    pub(crate) fn take(&mut self, all: bool) -> Vec<Window> {
        let mut taken = core::mem::take(&mut self.finished);
        if all {
            let next = Window::new(self.current.number + 1);
            taken.push(core::mem::replace(&mut self.current, next));
        }
        taken
    }
}

/// The console.
pub(crate) struct Report<'a> {
    control: &'a Handle<dyn Control>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(control: &'a Handle<dyn Control>) -> Self {
        Self { control }
    }

    fn print(&self, line: impl Into<Line>) {
        // Without the kernel there is no console to report a failure to.
        let _ = self.control.print(Text::format(format_args!("{}", line.into())));
    }

    pub(crate) fn begin(&self, plan: &Plan, clients: u32, killers: u32) {
        let &Plan { seed, cycles, .. } = plan;
        self.print(Begin { seed, cycles, clients, killers });
    }

    pub(crate) fn progress(&self, cycles: u64, answers: u64, errors: u64) {
        self.print(Progress { ms: time::now().as_millis() as u64, cycles, answers, errors });
    }

    pub(crate) fn window(&self, window: &Window) {
        for (series, histogram) in [(Series::Ending, &window.endings), (Series::Restart, &window.restarts)] {
            let counts = histogram.counts().map(|(ns, count)| (ns, count.into()));
            for line in Times::split(window.number, series, counts) {
                self.print(line);
            }
        }
    }

    /// `kernel` are bytes of the kernel's own heap.
    pub(crate) fn balance(&self, cycles: u64, before: &ResourceSnapshot, after: &ResourceSnapshot) {
        self.print(Lost {
            cycles,
            bytes: before.free_bytes as i64 - after.free_bytes as i64,
            objects: after.shared_objects as i64 - before.shared_objects as i64,
            threads: i64::from(after.threads) - i64::from(before.threads),
            kernel: after.kernel_bytes as i64 - before.kernel_bytes as i64,
        });
    }

    pub(crate) fn method(&self, choice: &Choice) {
        self.print(Method {
            name: choice.method.to_string(),
            cycles: choice.ended.load(Ordering::Relaxed),
            missed: choice.missed.load(Ordering::Relaxed),
            absent: choice.absent.load(Ordering::Relaxed),
        });
    }

    /// Prints the times for which CPUs have not reacted since the boot.
    pub(crate) fn latencies(&self) {
        for cpu in 0..self.control.cpu_count().unwrap_or(0) {
            for kind in LatencyKind::ALL {
                let Ok(Some(latency)) = self.control.latency(cpu, kind) else { continue };
                self.print(soak::Latency {
                    cpu,
                    kind: kind.name().into(),
                    count: latency.count(),
                    p9999_ns: latency.quantile_ns(999_900),
                    longest_ns: latency.longest_ns,
                    place: latency.place.to_string(),
                });
            }
        }
    }

    pub(crate) fn broken(&self, cycle: u64, what: &str) {
        self.print(Broken { cycle, what: what.into() });
    }

    pub(crate) fn remark(&self, what: &str) {
        let _ = self.control.print(Text::format(format_args!("no progress: {what}")));
    }

    pub(crate) fn end(&self, cycles: u64, answers: u64, errors: u64) {
        self.print(End { cycles, answers, errors });
    }
}
