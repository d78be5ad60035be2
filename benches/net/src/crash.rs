//! The cost of a driver crash for clients that forward frames through its shadow: the time without frames
//! ([`outages`]), and the loss of throughput ([`losses`]).

use alloc::vec::Vec;

use coppice_experiment::CrashTarget;
use coppice_runtime::time::tsc;

use crate::path::{Failure, FramePath};
use crate::tester::turn_back;

/// The time for which the driver works between two crashes of [`outages`].
const HEALTHY_NS: u64 = 3_000_000;
/// The limit for the wait for a frame.
const TIMEOUT_NS: u64 = 5_000_000_000;

/// Forwards until the clock passes `end`, and returns the number of frames received.
fn run(path: &mut impl FramePath, end: u64) -> Result<u64, Failure> {
    let mut received = 0;
    while tsc() < end {
        received += path.forward(turn_back)?.received as u64;
    }
    Ok(received)
}

/// Ends the driver `count` times under endless traffic. Returns the nanoseconds from each kill to the first
/// frame through the next instance, which include the kernel's own work for the kill.
pub(crate) fn outages(
    victim: &CrashTarget<'_>,
    path: &mut impl FramePath,
    count: usize,
) -> Result<Vec<f64>, Failure> {
    let mut outages = Vec::with_capacity(count);
    for _ in 0..count {
        run(path, tsc() + victim.ticks(HEALTHY_NS))?;
        let start = tsc();
        victim.kill()?;
        let late = start + victim.ticks(TIMEOUT_NS);
        while path.forward(turn_back)?.received == 0 {
            if tsc() > late {
                return Err(Failure::Silence);
            }
        }
        outages.push(victim.ns(tsc() - start));
    }
    Ok(outages)
}

/// Returns the loss of throughput in percent with one crash in a second, for each of `pairs` pairs of seconds
/// with and without one.
pub(crate) fn losses(
    victim: &CrashTarget<'_>,
    path: &mut impl FramePath,
    pairs: usize,
) -> Result<Vec<f64>, Failure> {
    victim.losses(pairs, |end| run(path, end))
}
