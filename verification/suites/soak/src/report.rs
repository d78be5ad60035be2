//! [`Report`]: console lines of JSON for `cargo xtask soak`. [`Windows`]: times, in the order of their
//! cycles.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::fmt::Write;
use core::sync::atomic::Ordering;

use coppice_control::{Control, Latency, LatencyKind};
use coppice_experiment::{Histogram, ResourceSnapshot};
use coppice_interfaces::{Handle, Text};
use coppice_runtime::time;

use crate::killer::Cycle;
use crate::plan::{Choice, Plan};

/// The number of windows into which the run's times are divided.
const WINDOWS: u64 = 100;
/// The console's room for histogram entries in one line, in bytes.
const ROOM: usize = 160;

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

    fn say(&self, line: fmt::Arguments<'_>) {
        // Without the kernel there is no console to report a failure to.
        let _ = self.control.print(Text::format(format_args!("@soak {line}")));
    }

    pub(crate) fn begin(&self, plan: &Plan, clients: u32, killers: u32) {
        let Plan { seed, cycles, .. } = plan;
        self.say(format_args!(
            r#"{{"begin": {{"seed": {seed}, "cycles": {cycles}, "clients": {clients}, "killers": {killers}}}}}"#
        ));
    }

    pub(crate) fn progress(&self, cycles: u64, answers: u64, errors: u64) {
        let ms = time::now().as_millis();
        self.say(format_args!(
            r#"{{"progress": {{"ms": {ms}, "cycles": {cycles}, "answers": {answers}, "errors": {errors}}}}}"#
        ));
    }

    pub(crate) fn window(&self, window: &Window) {
        self.times(window.number, "ending", &window.endings);
        self.times(window.number, "restart", &window.restarts);
    }

    /// Prints as many lines as necessary.
    fn times(&self, window: u64, series: &str, histogram: &Histogram) {
        let mut counts = String::new();
        let flush = |counts: &mut String| {
            if !counts.is_empty() {
                self.say(format_args!(
                    r#"{{"times": {{"window": {window}, "series": "{series}", "counts": [{counts}]}}}}"#
                ));
                counts.clear();
            }
        };
        for (ns, count) in histogram.counts() {
            let separator = if counts.is_empty() { "" } else { "," };
            write!(counts, "{separator}[{ns},{count}]").expect("writing to a String succeeds");
            if counts.len() > ROOM - 30 {
                flush(&mut counts);
            }
        }
        flush(&mut counts);
    }

    /// `kernel` are bytes of the kernel's own heap.
    pub(crate) fn balance(&self, cycles: u64, before: &ResourceSnapshot, after: &ResourceSnapshot) {
        let kernel = after.kernel_bytes as i64 - before.kernel_bytes as i64;
        let bytes = before.free_bytes as i64 - after.free_bytes as i64;
        let objects = after.shared_objects as i64 - before.shared_objects as i64;
        let threads = i64::from(after.threads) - i64::from(before.threads);
        self.say(format_args!(
            r#"{{"lost": {{"cycles": {cycles}, "bytes": {bytes}, "objects": {objects}, "threads": {threads}, "kernel": {kernel}}}}}"#
        ));
    }

    pub(crate) fn method(&self, choice: &Choice) {
        let (ended, absent) = (choice.ended.load(Ordering::Relaxed), choice.absent.load(Ordering::Relaxed));
        let missed = choice.missed.load(Ordering::Relaxed);
        self.say(format_args!(
            r#"{{"method": {{"name": "{}", "cycles": {ended}, "missed": {missed}, "absent": {absent}}}}}"#,
            choice.method
        ));
    }

    /// Prints the times for which CPUs have not reacted since the boot.
    pub(crate) fn latencies(&self) {
        for cpu in 0..self.control.cpu_count().unwrap_or(0) {
            for kind in LatencyKind::ALL {
                let Ok(Some(latency)) = self.control.latency(cpu, kind) else { continue };
                let Latency { longest_ns, place, .. } = &latency;
                self.say(format_args!(
                    r#"{{"latency": {{"cpu": {cpu}, "kind": "{}", "count": {}, "p9999_ns": {}, "longest_ns": {longest_ns}, "place": "{place}"}}}}"#,
                    kind.name(),
                    latency.count(),
                    latency.quantile_ns(999_900),
                ));
            }
        }
    }

    pub(crate) fn broken(&self, cycles: u64, what: &str) {
        // The part that fits a line, without characters that JSON would escape.
        let plain: String = what.chars().filter(|c| !c.is_control() && !matches!(c, '"' | '\\')).collect();
        let what = format!("{:.*}", ROOM, plain);
        self.say(format_args!(r#"{{"broken": {{"cycle": {cycles}, "what": "{what}"}}}}"#));
    }

    pub(crate) fn remark(&self, what: &str) {
        let _ = self.control.print(Text::format(format_args!("no progress: {what}")));
    }

    pub(crate) fn end(&self, cycles: u64, answers: u64, errors: u64) {
        self.say(format_args!(
            r#"{{"end": {{"cycles": {cycles}, "answers": {answers}, "errors": {errors}}}}}"#
        ));
    }
}
