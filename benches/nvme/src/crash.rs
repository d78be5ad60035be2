//! The cost of a driver crash for clients of its shadow: their waits ([`outages`]), and the loss of
//! throughput ([`losses`]).

use alloc::vec::Vec;

use coppice_block::BlockInfo;
use coppice_experiment::CrashTarget;
use coppice_runtime::time::tsc;

use crate::load::{Client, Generator, Workload, now_ns};
use crate::path::{Failure, RequestPath};

/// The time for which the driver works between two crashes of [`outages`].
const HEALTHY_NS: u64 = 3_000_000;
/// The limit for the wait for an answer.
const TIMEOUT_NS: u64 = 5_000_000_000;

/// A driver to end, and its disk behind a shadow.
pub(crate) struct ShadowedDriver<'a> {
    pub(crate) victim: CrashTarget<'a>,
    /// The path through its shadow.
    pub(crate) path: &'a mut dyn RequestPath,
    pub(crate) info: &'a BlockInfo,
}

/// Runs until the clock passes `end`, and returns the number of answered requests.
fn run(
    path: &mut dyn RequestPath,
    client: &mut Client,
    generator: &mut Generator,
    batch: usize,
    end: u64,
) -> Result<u64, Failure> {
    let mut answered = 0;
    while tsc() < end {
        let wait_until_ns = if client.idle() > batch { 0 } else { now_ns() + HEALTHY_NS };
        answered += client.exchange(path, generator, batch, wait_until_ns, |_| ())?.answered as u64;
    }
    Ok(answered)
}

/// Ends the driver `count` times under load. Returns the nanoseconds from each kill to the first answered
/// request, which include the kernel's own work for the kill.
pub(crate) fn outages(
    driver: &mut ShadowedDriver<'_>,
    workload: Workload,
    count: usize,
) -> Result<Vec<f64>, Failure> {
    let Some(mut generator) = Generator::new(workload, driver.info, 0) else { return Ok(Vec::new()) };
    let mut client = Client::new(workload.depth, workload.bytes);
    let mut outages = Vec::with_capacity(count);
    for _ in 0..count {
        let end = tsc() + driver.victim.ticks(HEALTHY_NS);
        run(driver.path, &mut client, &mut generator, workload.batch, end)?;
        // All requests are in flight, except those answered in this exchange.
        client.exchange(driver.path, &mut generator, workload.depth, 0, |_| ())?;
        let start = tsc();
        driver.victim.kill()?;
        let late_ns = now_ns() + TIMEOUT_NS;
        let end = loop {
            let wait_until_ns = now_ns() + HEALTHY_NS;
            let step = client.exchange(driver.path, &mut generator, workload.depth, wait_until_ns, |_| ())?;
            if step.answered > 0 {
                break step.now;
            }
            if now_ns() > late_ns {
                return Err(Failure::Silence { missing: client.in_flight() });
            }
        };
        outages.push(driver.victim.ns(end - start));
    }
    client.drain(driver.path)?;
    Ok(outages)
}

/// Returns the loss of throughput in percent with one crash in a second, for each of `pairs` pairs of seconds
/// with and without one.
pub(crate) fn losses(
    driver: &mut ShadowedDriver<'_>,
    workload: Workload,
    pairs: usize,
) -> Result<Vec<f64>, Failure> {
    let Some(mut generator) = Generator::new(workload, driver.info, 0) else { return Ok(Vec::new()) };
    let mut client = Client::new(workload.depth, workload.bytes);
    let path = &mut *driver.path;
    let losses =
        driver.victim.losses(pairs, |end| run(path, &mut client, &mut generator, workload.batch, end))?;
    client.drain(driver.path)?;
    Ok(losses)
}
