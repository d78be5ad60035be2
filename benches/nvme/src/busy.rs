//! The CPU cost of requests: cycles in calls that submit or collect requests, without waits.

use core::time::Duration;

use coppice_bench_harness::{Budget, Samples};
use coppice_block::BlockInfo;
use coppice_runtime::time::{self, tsc};

use crate::load::{Client, Generator, Workload};
use crate::path::{Failure, RequestPath};

/// The time that the device is given at first.
const SHORTEST_PAUSE_NS: u64 = 100_000;
/// The limit for that time. The cost of later completions is not counted.
const LONGEST_PAUSE_NS: u64 = 20_000_000;
/// The minimum number of requests in a sample of [`null`], which spreads the clock's own cost.
const REQUESTS: usize = 256;
const SAMPLES: u32 = 2000;

/// Measures cycles per request of a path that completes at once: `batch` requests there and back by one call,
/// from the client's unsubmitted request to its completed one.
pub(crate) fn null(path: &mut dyn RequestPath, batch: usize, budget: Budget) -> Result<Samples, Failure> {
    let mut client = Client::new(batch, 512);
    let calls = REQUESTS.div_ceil(batch);
    let mut failure = None;
    let mut sample = || {
        let start = tsc();
        for _ in 0..calls {
            if let Err(error) = client.repeat(path) {
                failure = Some(error);
            }
        }
        (tsc() - start) as f64 / (calls * batch) as f64
    };
    for _ in 0..20 {
        sample();
    }
    let samples = budget.collect(SAMPLES, sample);
    failure.map_or_else(|| Ok(Samples::sorted(samples, (calls * batch) as u32)), Err)
}

/// Measures cycles per request of a disk. A sample submits `depth` requests, `batch` by each call, lets the
/// device finish them while no thread is in the driver, and takes all completions by one call. Samples in
/// which the device was late do not count.
pub(crate) fn disk(
    path: &mut dyn RequestPath,
    workload: Workload,
    info: &BlockInfo,
    budget: Budget,
) -> Result<Option<Samples>, Failure> {
    let Some(mut generator) = Generator::new(workload, info, 0) else { return Ok(None) };
    let mut client = Client::new(workload.depth, workload.bytes);
    let clock = (0..100).map(|_| clock_cost()).min().unwrap_or(0);
    let (mut pause_ns, mut failure) = (SHORTEST_PAUSE_NS, None);
    let mut burst = || -> Result<Option<f64>, Failure> {
        let (mut submitted, mut answered, mut ticks) = (0, 0, 0);
        while submitted < workload.depth {
            let batch = workload.batch.min(workload.depth - submitted);
            let step = client.exchange(path, &mut generator, batch, 0, |_| ())?;
            submitted += step.submitted;
            answered += step.answered;
            ticks += step.ticks.saturating_sub(clock);
        }
        time::sleep(Duration::from_nanos(pause_ns));
        if answered < submitted {
            let step = client.exchange(path, &mut generator, 0, 0, |_| ())?;
            answered += step.answered;
            ticks += step.ticks.saturating_sub(clock);
        }
        if answered == submitted {
            return Ok(Some(ticks as f64 / submitted as f64));
        }
        pause_ns = (pause_ns * 2).min(LONGEST_PAUSE_NS);
        client.drain(path)?;
        Ok(None)
    };
    let mut samples = budget.collect(SAMPLES, || match burst() {
        Ok(sample) => sample.unwrap_or(f64::NAN),
        Err(error) => {
            failure = Some(error);
            f64::NAN
        }
    });
    if let Some(failure) = failure {
        return Err(failure);
    }
    samples.retain(|sample| !sample.is_nan());
    Ok((!samples.is_empty()).then(|| Samples::sorted(samples, workload.depth as u32)))
}

fn clock_cost() -> u64 {
    let start = tsc();
    tsc() - start
}
