//! Throughput and latency: the workload's depth of requests in flight, for a given time.

use alloc::format;
use alloc::vec::Vec;

use coppice_bench_harness::Figure;
use coppice_block::BlockInfo;
use coppice_experiment::Histogram;
use coppice_runtime::time::tsc;

use crate::load::{Client, Generator, Workload, now_ns};
use crate::path::{Failure, RequestPath};

/// The results of one configuration.
pub(crate) struct StreamRuns {
    latencies: Histogram,
    /// Requests per second of each round.
    rates: Vec<f64>,
    calls: u64,
    tsc_hz: u64,
}

impl StreamRuns {
    pub(crate) fn new(tsc_hz: u64) -> Self {
        Self { latencies: Histogram::new(), rates: Vec::new(), calls: 0, tsc_hz }
    }

    /// Runs `workload` for `length_ns`. Waits by polling or asleep, as the path does, and never while it
    /// could submit a request.
    pub(crate) fn run(
        &mut self,
        path: &mut dyn RequestPath,
        workload: Workload,
        info: &BlockInfo,
        length_ns: u64,
    ) -> Result<(), Failure> {
        let seed = self.rates.len() as u64;
        let Some(mut generator) = Generator::new(workload, info, seed) else { return Ok(()) };
        let mut client = Client::new(workload.depth, workload.bytes);
        let end_ns = now_ns() + length_ns;
        let begin = tsc();
        let end = begin + (length_ns as f64 * self.tsc_hz as f64 / 1e9) as u64;
        let (mut now, mut answered) = (begin, 0);
        while now < end {
            let wait_until_ns = if client.idle() > workload.batch { 0 } else { end_ns };
            let latency = |ticks| self.latencies.record((ticks as f64 * 1e9 / self.tsc_hz as f64) as u64);
            let step = client.exchange(path, &mut generator, workload.batch, wait_until_ns, latency)?;
            answered += step.answered;
            now = step.now;
            self.calls += 1;
        }
        self.rates.push(answered as f64 * self.tsc_hz as f64 / (now - begin) as f64);
        client.drain(path)
    }

    /// Returns the figure that `cargo xtask bench` collects.
    pub(crate) fn figure(&mut self, workload: Workload, configuration: &str) -> Figure {
        self.rates.sort_by(f64::total_cmp);
        let (min, median) = (self.rates[0], self.rates[self.rates.len() / 2]);
        let n = self.latencies.len();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| self.latencies.at(share) as f64);
        let more = [
            ("max", self.rates[self.rates.len() - 1]),
            ("p50_ns", p50),
            ("p99_ns", p99),
            ("p999_ns", p999),
            ("per_call", n as f64 / self.calls.max(1) as f64),
        ];
        let figure = Figure::new(&format!("stream/{workload}/{configuration}"), "iops", n, median);
        Figure { min: Some(min), ..figure }.with(more)
    }
}
