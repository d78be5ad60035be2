//! [`Samples`]: samples of the time-stamp counter and their statistics.

use alloc::vec::Vec;
use core::time::Duration;

use coppice_control::{Latency, LatencyKind};
use coppice_run_protocol::bench::Figure;
use coppice_runtime::time::{self, tsc};

/// Calls in a batch.
const BATCH: u32 = 200;
/// The maximum number of batches in a figure.
const BATCHES: u32 = 5000;
/// The minimum number of batches in a figure, even beyond the time limit.
const FEWEST: u32 = 20;
/// Batches before the first one that counts.
const WARM_UP: u32 = 50;

/// The time limit of one figure.
#[derive(Clone, Copy, Debug)]
pub struct Budget(Duration);

impl Budget {
    /// Divides `seconds` evenly among `figures`.
    pub fn new(seconds: u32, figures: u32) -> Self {
        Self(Duration::from_secs(seconds.into()) / figures)
    }

    /// Takes up to `most` samples within the time limit, but at least `FEWEST`.
    pub fn collect(self, most: u32, mut sample: impl FnMut() -> f64) -> Vec<f64> {
        let end = time::now() + self.0;
        let enough = |taken: u32| taken >= most || (taken >= FEWEST && time::now() >= end);
        (0..).take_while(|&taken| !enough(taken)).map(|_| sample()).collect()
    }
}

/// Sorted cycles per call.
pub struct Samples {
    cycles: Vec<f64>,
    n: u32,
}

impl Samples {
    /// Measures batches of `call`; a sample is the mean of a batch.
    pub fn of_batches(budget: Budget, mut call: impl FnMut()) -> Self {
        let mut batch = || {
            let start = tsc();
            for _ in 0..BATCH {
                call();
            }
            (tsc() - start) as f64 / f64::from(BATCH)
        };
        for _ in 0..WARM_UP {
            batch();
        }
        Self::sorted(budget.collect(BATCHES, batch), BATCH)
    }

    /// Measures single calls, for long operations.
    pub fn one_by_one(budget: Budget, most: u32, mut call: impl FnMut()) -> Self {
        let mut once = || {
            let start = tsc();
            call();
            (tsc() - start) as f64
        };
        once();
        Self::sorted(budget.collect(most, once), 1)
    }

    /// Returns samples of cycles per call, each the mean of `calls` calls. `cycles` must not be empty.
    pub fn sorted(mut cycles: Vec<f64>, calls: u32) -> Self {
        cycles.sort_by(f64::total_cmp);
        Self { n: cycles.len() as u32 * calls, cycles }
    }

    /// Returns samples of single calls, from their ticks. `ticks` must not be empty.
    pub fn of_ticks(ticks: impl IntoIterator<Item = u64>) -> Self {
        Self::sorted(ticks.into_iter().map(|ticks| ticks as f64).collect(), 1)
    }

    /// Divides each sample by `parts`, for calls that contain several measured operations.
    pub fn divided_by(mut self, parts: f64) -> Self {
        self.cycles.iter_mut().for_each(|cycles| *cycles /= parts);
        self
    }

    /// Returns the quantile `share`.
    pub fn at(&self, share: f64) -> f64 {
        self.cycles[((self.cycles.len() - 1) as f64 * share) as usize]
    }

    /// Returns the figure of an operation that this machine does not have.
    pub fn absent(id: &str) -> Figure {
        Figure::new(id, "tsc_cycles", 0, 0.0)
    }

    /// Returns the figure that `cargo xtask bench` collects.
    pub fn figure(&self, id: &str) -> Figure {
        Figure::new(id, "tsc_cycles", self.n.into(), self.at(0.5)).with_spread(self.at(0.0), self.at(0.99))
    }
}

/// Returns the figure that `cargo xtask bench` collects, for the kernel's latencies of one kind on a CPU.
pub(crate) fn latency(cpu: u32, kind: LatencyKind, latency: &Latency) -> Figure {
    let quantile = |parts_of_million| latency.quantile_ns(parts_of_million) as f64;
    let id = alloc::format!("latency/cpu{cpu}/{}", kind.name());
    let figure = Figure::new(&id, "ns", latency.count(), quantile(500_000));
    let more = [("p99", quantile(990_000)), ("p9999", quantile(999_900)), ("max", latency.longest_ns as f64)];
    figure.with(more)
}

/// Returns the figure that `cargo xtask bench` collects, for values in another unit than ticks.
pub(crate) fn figure(id: &str, unit: &str, mut values: Vec<f64>) -> Figure {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| {
        values.get((values.len().saturating_sub(1) as f64 * share) as usize).copied().unwrap_or(0.0)
    };
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    let figure = Figure::new(id, unit, values.len() as u64, at(0.5));
    figure.with_spread(at(0.0), at(0.99)).with([("max", at(1.0)), ("mean", mean)])
}
