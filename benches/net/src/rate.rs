//! [`Rates`]: the summary of several runs of one load on one configuration.

use alloc::vec::Vec;

use coppice_bench_harness::Figure;

use crate::load::Run;
use crate::plan::Rate;

/// The runs of one configuration.
#[derive(Default)]
pub(crate) struct Rates {
    /// Millions of packets per second of each round, with the round's other results.
    rounds: Vec<(f64, Run)>,
}

impl Rates {
    pub(crate) fn add(&mut self, run: Run) {
        let mpps = if run.ns > 0.0 { run.frames.saturating_sub(1) as f64 * 1e3 / run.ns } else { 0.0 };
        self.rounds.push((mpps, run));
    }

    /// Returns the figure that `cargo xtask bench` collects. Latencies are those of the median round; losses
    /// are those of all rounds.
    pub(crate) fn figure(&mut self, id: &str, rate: Rate, bytes: usize) -> Option<Figure> {
        self.rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        let (min, _) = self.rounds.first()?;
        let (max, _) = self.rounds.last()?;
        let (median, run) = &self.rounds[self.rounds.len() / 2];
        let frames: u64 = self.rounds.iter().map(|(_, run)| run.frames).sum();
        let lost: u64 = self.rounds.iter().map(|(_, run)| run.lost).sum();
        let stalled: u64 = self.rounds.iter().map(|(_, run)| run.stalled_ns).sum();
        let line = rate.frames(bytes).map_or(0.0, |line| median * 1e8 / line);
        let [p50, p99, p999] = run.latency_ns;
        let more = [
            ("max", *max),
            ("line", line),
            ("lost", lost as f64),
            ("stalled_us", (stalled / 1000) as f64),
            ("p50_ns", p50 as f64),
            ("p99_ns", p99 as f64),
            ("p999_ns", p999 as f64),
        ];
        let figure = Figure::new(id, "mpps", frames, *median);
        Some(Figure { min: Some(*min), ..figure }.with(more))
    }
}
