//! `@soak`: domains that are ended and restarted under load.

use alloc::string::String;
use alloc::vec::Vec;

use crate::line::lines;
use crate::record::{record, words};

/// The number of windows into which a run's times are divided.
pub const WINDOWS: u64 = 100;
/// The room for the entries of one line, in bytes.
const ROOM: usize = 170;

lines! {
    /// One line.
    pub enum Line: "@soak" {
        /// The parameters of the run.
        Begin(Begin) = "begin",
        /// The progress of the run.
        Progress(Progress) = "progress",
        /// Times of one window.
        Times(Times) = "times",
        /// The balance of resources.
        Lost(Lost) = "lost",
        /// A way to end an instance.
        Method(Method) = "method",
        /// The times for which a CPU has not reacted.
        Latency(Latency) = "latency",
        /// A violation of a guarantee.
        Broken(Broken) = "broken",
        /// The last line.
        End(End) = "end",
    }
}

record! {
    /// The parameters of the run.
    pub struct Begin {
        /// The seed of the random numbers.
        pub seed: u64,
        /// The planned number of cycles.
        pub cycles: u64,
        /// The number of clients.
        pub clients: u32,
        /// The number of threads that end instances.
        pub killers: u32,
    }
}

record! {
    /// The progress of the run.
    pub struct Progress {
        /// Milliseconds since boot.
        pub ms: u64,
        /// Instances that ended and were followed by another.
        pub cycles: u64,
        /// Correct replies to the clients.
        pub answers: u64,
        /// Errors returned to the clients.
        pub errors: u64,
    }
}

words! {
    /// The measured interval.
    pub enum Series {
        /// From the fault or kill until the thread that caused it continues.
        Ending = "ending",
        /// From there to the next instance's first correct reply.
        Restart = "restart",
    }
}

record! {
    /// A part of the times of one window.
    pub struct Times {
        /// The window, from 0 to [`WINDOWS`] - 1.
        pub window: u64,
        /// The interval.
        pub series: Series,
        /// Times in nanoseconds, with their counts.
        pub counts: Vec<(u64, u64)>,
    }
}

record! {
    /// Resources missing after `cycles` cycles, compared with the beginning.
    pub struct Lost {
        /// The number of cycles so far.
        pub cycles: u64,
        /// Bytes of memory.
        pub bytes: i64,
        /// Objects of the shared heap.
        pub objects: i64,
        /// Threads.
        pub threads: i64,
        /// Bytes of the kernel's own heap.
        pub kernel: i64,
    }
}

record! {
    /// A way to end an instance, and the number of instances that it ended.
    pub struct Method {
        /// The name.
        pub name: String,
        /// The number of instances.
        pub cycles: u64,
        /// The number of draws without effect: a deadline came first, or the method is absent and the
        /// instance was restarted instead.
        pub missed: u64,
        /// True if it was tried and this machine does not have it.
        pub absent: bool,
    }
}

record! {
    /// The times of one kind for which one CPU has not reacted since the boot.
    pub struct Latency {
        /// The number of the CPU.
        pub cpu: u32,
        /// The kind.
        pub kind: String,
        /// The number of times.
        pub count: u64,
        /// Their 99.99th percentile.
        pub p9999_ns: u64,
        /// The longest.
        pub longest_ns: u64,
        /// The code that began the longest.
        pub place: String,
    }
}

record! {
    /// A violation of a guarantee.
    pub struct Broken {
        /// The number of cycles at the time.
        pub cycle: u64,
        /// The violation.
        pub what: String,
    }
}

record! {
    /// The last line.
    pub struct End {
        /// As in [`Progress`].
        pub cycles: u64,
        /// As in [`Progress`].
        pub answers: u64,
        /// As in [`Progress`].
        pub errors: u64,
    }
}

impl Times {
    /// Divides the counts of a window among as many lines as necessary.
    pub fn split(window: u64, series: Series, counts: impl IntoIterator<Item = (u64, u64)>) -> Vec<Self> {
        let digits = |number: u64| number.checked_ilog10().unwrap_or(0) as usize + 1;
        let mut lines: Vec<Self> = Vec::new();
        let mut room = 0;
        for (ns, count) in counts {
            // Two brackets and two commas.
            let bytes = digits(ns) + digits(count) + 4;
            match lines.last_mut() {
                Some(line) if bytes <= room => line.counts.push((ns, count)),
                _ => {
                    lines.push(Self { window, series, counts: [(ns, count)].into() });
                    room = ROOM;
                }
            }
            room -= bytes;
        }
        lines
    }
}
