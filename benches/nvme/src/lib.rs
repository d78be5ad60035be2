//! The cost of a disk, and the part of it that isolates its driver.
//!
//! The same load runs on three configurations in turn: `static`, the driver as a library of this domain,
//! which is granted a disk of its own for that; `domain`, the driver in its domain; `shadow`, the same
//! through the shadow that hides its crashes. The rounds of all three alternate, so that a slow moment of the
//! machine affects all of them.
//!
//! - `null/…`: cycles per request of a queue that completes at once, which leaves only the cost of this code
//!   and of the isolation.
//! - `busy/…`: cycles per request in calls that submit or collect, without the device's own time.
//! - `stream/…`: requests per second and latencies.
//! - `reset/device`, `outage/…`, `loss/…`: the time of a device reset, the outage after a driver crash, and
//!   the throughput lost to one crash a second.
//!
//! Under an instruction-counting emulator the counter counts instructions, a nanosecond is one, and figures
//! that depend on the completion times of a device are omitted.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod busy;
mod crash;
mod linked;
mod load;
mod path;
mod plan;
mod reset;
mod stream;

use alloc::boxed::Box;
use alloc::vec::Vec;

use coppice_bench_harness::Budget;
use coppice_block::{BlockDevice, BlockInfo, BlockQueue};
use coppice_control::Control;
use coppice_hardware::Device;
use coppice_interfaces::{Handle, Imports, Text};
use coppice_runtime::{Domain, Environment, StartError};

use crash::LoadedPath;
use linked::Linked;
use path::{Failure, NullQueue, Queue, RequestPath};
use plan::Plan;
use stream::StreamRuns;

/// The maximum number of requests in flight.
const DEEPEST: usize = 128;
/// The driver's domain in the manifest, and the domain of the null queue.
const DRIVER: &str = "nvme";
const NULL_DRIVER: &str = "null";
/// The outage of a crash of the null queue's domain.
const NULL_OUTAGE: &str = "outage/null/shadow";
/// The number of rounds of each workload on each configuration.
const ROUNDS: u32 = 7;

/// The time of the device's own reset.
const RESET: &str = "reset/device";

/// The domain that runs the benchmark.
pub struct NvmeBench;

/// The domains and services that the manifest wires to the benchmark.
#[derive(Imports)]
pub struct Wires {
    control: Handle<dyn Control>,
    null: Handle<dyn BlockDevice>,
    null_shadow: Handle<dyn BlockDevice>,
    disk: Handle<dyn BlockDevice>,
    shadow: Handle<dyn BlockDevice>,
}

impl Domain for NvmeBench {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let device = environment.device(0);
        let control = wires.control.clone();
        coppice_bench_harness::start(&control, plan::DEFAULT_SECONDS, move |bench| {
            measure(&wires, device, Plan(bench))
        })
    }
}

/// A named path for a load.
type Configuration = (&'static str, Box<dyn RequestPath>);

fn measure(wires: &Wires, device: Option<Device>, plan: Plan<'_>) -> Result<(), Failure> {
    let mut nulls: Vec<Configuration> = alloc::vec![
        ("static", local(&wires.null)?),
        ("domain", remote(&wires.null)?),
        ("shadow", remote(&wires.null_shadow)?),
    ];
    null(plan, &mut nulls)?;
    drop(nulls);
    null_outage(wires, plan)?;

    let info = wires.disk.info()?;
    let mut disks: Vec<Configuration> = Vec::new();
    // A machine without a device of our own has nothing to compare with, but still yields figures.
    if let Some(device) = device {
        if plan.wants(RESET) && !plan.counts_instructions {
            let times = reset::measure(&device, plan.tsc_hz(), plan.outages())?;
            plan.report_values(RESET, "ns", times)?;
        }
        disks.push(("static", Box::new(Linked::open(device, DEEPEST, &info)?)));
    }
    disks.push(("domain", remote(&wires.disk)?));
    disks.push(("shadow", remote(&wires.shadow)?));
    busy(plan, &info, &mut disks)?;
    if plan.counts_instructions {
        return Ok(());
    }
    stream(plan, &info, &mut disks)?;
    crashes(wires, plan, &info)
}

/// Returns the null queue behind a virtual call.
fn local(null: &Handle<dyn BlockDevice>) -> Result<Box<dyn RequestPath>, Failure> {
    let queue: Box<dyn BlockQueue> = Box::new(NullQueue(null.info()?));
    Ok(Box::new(Queue::new(queue, DEEPEST)))
}

fn remote(disk: &Handle<dyn BlockDevice>) -> Result<Box<dyn RequestPath>, Failure> {
    let queue = disk.open(DEEPEST as u32)?.map_err(Failure::Open)?;
    Ok(Box::new(Queue::new(queue, DEEPEST)))
}

fn null(plan: Plan<'_>, configurations: &mut [Configuration]) -> Result<(), Failure> {
    let budget = Budget::new(plan.null_seconds(), 6);
    for batch in [1, 32] {
        for (name, path) in &mut *configurations {
            let id = Text::<64>::format(format_args!("null/b{batch}/{name}"));
            if plan.wants(&id) {
                plan.report(&id, &busy::null(&mut **path, batch, budget)?)?;
            }
        }
    }
    Ok(())
}

fn busy(plan: Plan<'_>, info: &BlockInfo, disks: &mut [Configuration]) -> Result<(), Failure> {
    for workload in plan.busy_workloads() {
        for (name, path) in &mut *disks {
            let id = Text::<64>::format(format_args!("busy/{workload}/{name}"));
            if !plan.wants(&id) {
                continue;
            }
            match busy::disk(&mut **path, workload, info, plan.busy_budget())? {
                Some(samples) => plan.report(&id, &samples)?,
                None => log::error!("{id}: the device was late each time"),
            }
        }
    }
    Ok(())
}

fn stream(plan: Plan<'_>, info: &BlockInfo, disks: &mut [Configuration]) -> Result<(), Failure> {
    let tsc_hz = plan.tsc_hz();
    let workloads: Vec<_> = plan.stream_workloads().collect();
    let length_ns =
        plan.stream_ns() / (workloads.len() as u64 * disks.len() as u64 * u64::from(ROUNDS)).max(1);
    for workload in workloads {
        let mut streams: Vec<_> = disks.iter().map(|_| StreamRuns::new(tsc_hz)).collect();
        for _ in 0..ROUNDS {
            for ((_, path), stream_runs) in disks.iter_mut().zip(&mut streams) {
                stream_runs.run(&mut **path, workload, info, length_ns)?;
            }
        }
        for ((name, _), mut stream_runs) in disks.iter().zip(streams) {
            plan.print(stream_runs.figure(workload, name))?;
        }
    }
    Ok(())
}

/// Measures the recovery without a device reset.
fn null_outage(wires: &Wires, plan: Plan<'_>) -> Result<(), Failure> {
    if !plan.wants(NULL_OUTAGE) {
        return Ok(());
    }
    let (mut path, info) = (remote(&wires.null_shadow)?, wires.null.info()?);
    let Some(workload) = plan.crash_workloads().next() else { return Ok(()) };
    let Some(mut client) = LoadedPath::new(&mut *path, workload, &info) else { return Ok(()) };
    let outages = plan.crash_target(NULL_DRIVER).outages(plan.outages(), &mut client)?;
    client.drain()?;
    Ok(plan.report_values(NULL_OUTAGE, "ns", outages)?)
}

fn crashes(wires: &Wires, plan: Plan<'_>, info: &BlockInfo) -> Result<(), Failure> {
    let mut path = remote(&wires.shadow)?;
    let driver = plan.crash_target(DRIVER);
    for kind in ["outage", "loss"] {
        for workload in plan.crash_workloads() {
            let id = Text::<64>::format(format_args!("{kind}/{workload}/shadow"));
            if !plan.wants(&id) {
                continue;
            }
            let Some(mut client) = LoadedPath::new(&mut *path, workload, info) else { continue };
            let (unit, values) = match kind {
                "outage" => ("ns", driver.outages(plan.outages(), &mut client)?),
                _ => ("percent", driver.losses(plan.pairs(), &mut client)?),
            };
            client.drain()?;
            plan.report_values(&id, unit, values)?;
        }
    }
    Ok(())
}
