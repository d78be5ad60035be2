//! The baseline of every benchmark: a system call, the cheapest crossing of a conventional kernel. And the
//! [`Host`] that figures are measured on.

use std::arch::x86_64::_rdtsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::thread::CpuSet;
use xtask_report::measurement::{Host, Measurement};

use crate::machine::Kind;

/// Calls in one sample; the counter's own cost is spread over them.
const BATCH: u32 = 100;
const SAMPLES: usize = 10_000;

fn tsc() -> u64 {
    // SAFETY: RDTSC is unprivileged unless the process has asked to be killed for it (PR_SET_TSC), which this
    // one has not.
    unsafe { _rdtsc() }
}

/// Measures `getppid` on one CPU, in cycles of the time-stamp counter.
pub(crate) fn syscall() -> Result<Measurement> {
    // A separate thread, so that no other part of this program stays pinned.
    let measured = std::thread::spawn(|| -> Result<Measurement> {
        let mut cpus = CpuSet::new();
        cpus.set(rustix::thread::sched_getcpu());
        rustix::thread::sched_setaffinity(None, &cpus).context("pinning the baseline to a CPU")?;
        let mut samples: Vec<f64> = (0..SAMPLES).map(|_| sample()).collect();
        samples.sort_by(f64::total_cmp);
        Ok(Measurement {
            id: "syscall/getppid".to_owned(),
            unit: "tsc_cycles".to_owned(),
            n: u64::from(BATCH) * SAMPLES as u64,
            median: samples[SAMPLES / 2],
            p99: Some(samples[SAMPLES * 99 / 100]),
            min: Some(samples[0]),
            rest: Default::default(),
        })
    });
    measured.join().expect("the measurement does not panic")
}

fn sample() -> f64 {
    let start = tsc();
    for _ in 0..BATCH {
        std::hint::black_box(rustix::process::getppid());
    }
    (tsc() - start) as f64 / f64::from(BATCH)
}

/// This host, with a system on the machine `kind`.
pub(crate) fn host(kind: Kind, count_instructions: bool) -> Host {
    let kernel = match (kind, count_instructions) {
        (Kind::Hosted, _) => "hosted",
        (Kind::Bare, false) => "bare",
        (Kind::Bare, true) => "bare icount",
    };
    Host::here(kernel, tsc_hz())
}

/// The ticks per second of the time-stamp counter, measured against the host's clock.
fn tsc_hz() -> u64 {
    let (clock, start) = (Instant::now(), tsc());
    std::thread::sleep(Duration::from_millis(200));
    let ticks = tsc() - start;
    (ticks as f64 / clock.elapsed().as_secs_f64()) as u64
}
