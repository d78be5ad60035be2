//! What a crash of the driver costs those who forward frames through its shadow: how long nothing comes ([`outages`]), and how many
//! fewer frames get through ([`losses`]).

use alloc::vec::Vec;

use coppice_experiment::Victim;
use coppice_runtime::time::tsc;

use crate::target::{Failure, Target};
use crate::tester::turn_back;

/// How long the driver works between two crashes of [`outages`].
const HEALTHY_NS: u64 = 3_000_000;
/// Nobody waits longer for a frame.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Forwards until the clock's reading passes `end`, and answers how many frames came.
fn run(target: &mut impl Target, end: u64) -> Result<u64, Failure> {
    let mut received = 0;
    while tsc() < end {
        received += target.forward(turn_back)?.received as u64;
    }
    Ok(received)
}

/// Ends the driver `count` times while frames come without end, and answers how many nanoseconds passed each time from there to the first
/// frame that came through the next instance. What the kernel takes to end it is in it.
pub(crate) fn outages(
    victim: &Victim<'_>,
    target: &mut impl Target,
    count: usize,
) -> Result<Vec<f64>, Failure> {
    let mut outages = Vec::with_capacity(count);
    for _ in 0..count {
        run(target, tsc() + victim.ticks(HEALTHY_NS))?;
        let start = tsc();
        victim.kill()?;
        let late = start + victim.ticks(PATIENCE_NS);
        while target.forward(turn_back)?.received == 0 {
            if tsc() > late {
                return Err(Failure::Silence);
            }
        }
        outages.push(victim.ns(tsc() - start));
    }
    Ok(outages)
}

/// How many percent fewer frames get through with a crash in a second, for each of `pairs` pairs of seconds with one and without.
pub(crate) fn losses(
    victim: &Victim<'_>,
    target: &mut impl Target,
    pairs: usize,
) -> Result<Vec<f64>, Failure> {
    victim.losses(pairs, |end| run(target, end))
}
