//! What a crash of the driver costs those who use the disk through its shadow: how long they wait ([`outages`]), and how much
//! less they get done ([`losses`]).

use alloc::vec::Vec;

use coppice_block::BlockInfo;
use coppice_experiment::Victim;
use coppice_runtime::time::tsc;

use crate::load::{Client, Generator, Workload, now_ns};
use crate::target::{Failure, Target};

/// How long the driver works between two crashes of [`outages`].
const HEALTHY_NS: u64 = 3_000_000;
/// Nobody waits longer for an answer.
const PATIENCE_NS: u64 = 5_000_000_000;

/// A driver that can be ended, and a disk that can be used all the same.
pub(crate) struct Patient<'a> {
    pub(crate) victim: Victim<'a>,
    /// Its shadow.
    pub(crate) target: &'a mut dyn Target,
    pub(crate) info: &'a BlockInfo,
}

/// Runs until the clock's reading passes `end`, and answers how many requests were answered.
fn run(
    target: &mut dyn Target,
    client: &mut Client,
    generator: &mut Generator,
    batch: usize,
    end: u64,
) -> Result<u64, Failure> {
    let mut answered = 0;
    while tsc() < end {
        let wait_until_ns = if client.idle() > batch { 0 } else { now_ns() + HEALTHY_NS };
        answered += client.exchange(target, generator, batch, wait_until_ns, |_| ())?.answered as u64;
    }
    Ok(answered)
}

/// Ends the driver `count` times under load, and answers how many nanoseconds passed each time from there to the first
/// request that was answered. What the kernel takes to end it is in it.
pub(crate) fn outages(
    patient: &mut Patient<'_>,
    workload: Workload,
    count: usize,
) -> Result<Vec<f64>, Failure> {
    let Some(mut generator) = Generator::new(workload, patient.info, 0) else { return Ok(Vec::new()) };
    let mut client = Client::new(workload.depth, workload.bytes);
    let mut outages = Vec::with_capacity(count);
    for _ in 0..count {
        let end = tsc() + patient.victim.ticks(HEALTHY_NS);
        run(patient.target, &mut client, &mut generator, workload.batch, end)?;
        // With all requests under way, as many as were not answered meanwhile.
        client.exchange(patient.target, &mut generator, workload.depth, 0, |_| ())?;
        let start = tsc();
        patient.victim.kill()?;
        let late_ns = now_ns() + PATIENCE_NS;
        let end = loop {
            let wait_until_ns = now_ns() + HEALTHY_NS;
            let step =
                client.exchange(patient.target, &mut generator, workload.depth, wait_until_ns, |_| ())?;
            if step.answered > 0 {
                break step.now;
            }
            if now_ns() > late_ns {
                return Err(Failure::Silence { missing: client.under_way() });
            }
        };
        outages.push(patient.victim.ns(end - start));
    }
    client.drain(patient.target)?;
    Ok(outages)
}

/// What one crash in a second takes away, in percent, for each of `pairs` pairs of seconds with one and without.
pub(crate) fn losses(
    patient: &mut Patient<'_>,
    workload: Workload,
    pairs: usize,
) -> Result<Vec<f64>, Failure> {
    let Some(mut generator) = Generator::new(workload, patient.info, 0) else { return Ok(Vec::new()) };
    let mut client = Client::new(workload.depth, workload.bytes);
    let target = &mut *patient.target;
    let losses =
        patient.victim.losses(pairs, |end| run(target, &mut client, &mut generator, workload.batch, end))?;
    client.drain(patient.target)?;
    Ok(losses)
}
