//! What a crash of the driver costs those who use the disk through its shadow: how long they wait ([`outages`]), and how much
//! less they get done ([`losses`]).

use alloc::vec::Vec;
use core::time::Duration;

use coppice_interfaces::block::BlockInfo;
use coppice_interfaces::{Control, Handle, Text};
use coppice_runtime::thread::Builder;
use coppice_runtime::time::{self, tsc};

use crate::load::{Client, Generator, Workload, now_ns};
use crate::target::{Failure, Target};

/// How long the driver works between two crashes of [`outages`].
const HEALTHY_NS: u64 = 3_000_000;
/// One crash in so long: the windows that [`losses`] compares.
const WINDOW: Duration = Duration::from_secs(1);
/// Nobody waits longer for an answer.
const PATIENCE_NS: u64 = 5_000_000_000;

/// A driver that can be ended, and a disk that can be used all the same.
pub(crate) struct Patient<'a> {
    pub(crate) control: &'a Handle<dyn Control>,
    /// The driver's name in the manifest.
    pub(crate) name: &'static str,
    /// Its shadow.
    pub(crate) target: &'a mut dyn Target,
    pub(crate) info: &'a BlockInfo,
    pub(crate) tsc_hz: u64,
}

impl Patient<'_> {
    fn ns(&self, ticks: u64) -> f64 {
        ticks as f64 * 1e9 / self.tsc_hz as f64
    }

    fn kill(&self) -> Result<(), Failure> {
        kill(self.control, self.name)
    }

    /// Runs until the clock's reading passes `end`, and answers how many requests were answered.
    fn run(
        &mut self,
        client: &mut Client,
        generator: &mut Generator,
        batch: usize,
        end: u64,
    ) -> Result<u64, Failure> {
        let mut answered = 0;
        while tsc() < end {
            let wait_until_ns = if client.idle() > batch { 0 } else { now_ns() + HEALTHY_NS };
            answered +=
                client.exchange(self.target, generator, batch, wait_until_ns, |_| ())?.answered as u64;
        }
        Ok(answered)
    }

    fn ticks(&self, ns: u64) -> u64 {
        (ns as f64 * self.tsc_hz as f64 / 1e9) as u64
    }
}

fn kill(control: &Handle<dyn Control>, name: &'static str) -> Result<(), Failure> {
    control.kill(Text::new(name))?.map_err(Failure::Kill)
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
        let end = tsc() + patient.ticks(HEALTHY_NS);
        patient.run(&mut client, &mut generator, workload.batch, end)?;
        // With all requests under way, as many as were not answered meanwhile.
        client.exchange(patient.target, &mut generator, workload.depth, 0, |_| ())?;
        let start = tsc();
        patient.kill()?;
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
        outages.push(patient.ns(end - start));
    }
    client.drain(patient.target)?;
    Ok(outages)
}

/// What one crash in a second takes away: for each of `pairs` seconds with a crash in their middle and as many without, in
/// turn, by how many percent fewer requests were answered.
pub(crate) fn losses(
    patient: &mut Patient<'_>,
    workload: Workload,
    pairs: usize,
) -> Result<Vec<f64>, Failure> {
    let Some(mut generator) = Generator::new(workload, patient.info, 0) else { return Ok(Vec::new()) };
    let mut client = Client::new(workload.depth, workload.bytes);
    let mut losses = Vec::with_capacity(pairs);
    for pair in 0..pairs {
        let mut answered = [0; 2];
        // What is first in one pair is last in the next: a machine that gets slower or faster is not blamed on either.
        for half in [pair % 2, 1 - pair % 2] {
            let (control, name) = (patient.control.clone(), patient.name);
            // On another CPU if there is one, and in any case at any point of a call.
            let killer = Builder::new().affinity(1).priority(1).spawn(move || {
                time::sleep(WINDOW / 2);
                if half == 1
                    && let Err(error) = kill(&control, name)
                {
                    log::error!("{error}");
                }
            });
            let killer = killer.map_err(|_| Failure::NoThread)?;
            let end = tsc() + patient.ticks(WINDOW.as_nanos() as u64);
            answered[half] = patient.run(&mut client, &mut generator, workload.batch, end)?;
            killer.join();
        }
        let [healthy, crashed] = answered.map(|count| count as f64);
        losses.push((1.0 - crashed / healthy.max(1.0)) * 100.0);
    }
    client.drain(patient.target)?;
    Ok(losses)
}
