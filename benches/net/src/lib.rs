//! The cost of a network device, and the part of it that isolates its driver.
//!
//! The same load runs on several configurations in turn: `static`, the driver as a library of this domain,
//! which is granted devices of its own for that; `domain`, the driver in its domain; `shadow`, the same
//! through the shadow that hides its crashes; and `relay-domain` and `relay-shadow`, the same behind one more
//! domain, which only forwards calls. The rounds of all configurations alternate, so that a slow moment of
//! the machine affects all of them.
//!
//! - `null/…`: cycles per packet of a queue that completes at once, which leaves only the cost of this code
//!   and of the isolation.
//! - `busy-WAY/…`: cycles per packet of exchanges that move whole batches back to back: the device is left
//!   alone until it has some.
//! - `WAY/…`: packets per second, losses and latencies, by the clock of the tester at the other end of the
//!   wire.
//! - `share-N/…`: the same, when forwarding N percent of the wire's line rate.
//! - `reset/device`, `outage/…`, `loss/…`: the time from a device reset until its link is up, the outage
//!   after a driver crash, and the throughput lost to one crash a second.
//!
//! Under an instruction-counting emulator the counter counts instructions, and figures that depend on a
//! device are omitted.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod crash;
mod linked;
mod load;
mod null;
mod path;
mod plan;
mod rate;
mod reset;
mod tester;

use alloc::boxed::Box;
use alloc::vec::Vec;

use coppice_bench_harness::Samples;
use coppice_control::Control;
use coppice_fixtures_net::NullNet;
use coppice_hardware::Device;
use coppice_interfaces::{Handle, Imports, Text};
use coppice_net::{BATCH, NetDevice, NetQueue, QueueDepth};
use coppice_runtime::{Domain, Environment, StartError};

use crash::Forwarding;
use linked::Linked;
use load::{Load, Run, RunParameters, Way, run};
use path::{Client, Failure, FramePath};
use plan::{Plan, Rate, SHORT, TEN, UNLIMITED, id};
use rate::Rates;
use tester::Tester;

/// The driver's domain in the manifest, on a wire of 10 Gb/s, and the domain of the null queue.
const DRIVER: &str = "ixgbe";
const NULL_DRIVER: &str = "null";
/// The outage of a crash of the null queue's domain.
const NULL_OUTAGE: &str = "outage/null/shadow";
/// The time of the device's own reset.
const RESET: &str = "reset/device";
/// The number of rounds of each load on each configuration.
const ROUNDS: usize = 5;
/// The frames of one run for busy cycles.
const BUSY_FRAMES: u64 = 40_000;
/// The number of exchanges after which a queue holds all packets that it has room for. Without them the first
/// frames of a run would be lost.
const FILLING: usize = 8;
/// The expected maximum of a run on an unlimited wire, in packets per second. A slower run takes longer.
const MOST_PER_SECOND: f64 = 15e6;

/// The domain that runs the benchmark.
pub struct NetBench;

/// The domains and services that the manifest wires to the benchmark.
#[derive(Imports)]
pub struct Wires {
    control: Handle<dyn Control>,
    null: Handle<dyn NetDevice>,
    null_shadow: Handle<dyn NetDevice>,
    null_relay: Handle<dyn NetDevice>,
    null_relay_shadow: Handle<dyn NetDevice>,
    ten: Handle<dyn NetDevice>,
    ten_shadow: Handle<dyn NetDevice>,
    ten_relay: Handle<dyn NetDevice>,
    ten_relay_shadow: Handle<dyn NetDevice>,
    unlimited: Handle<dyn NetDevice>,
    unlimited_shadow: Handle<dyn NetDevice>,
    unlimited_relay: Handle<dyn NetDevice>,
    unlimited_relay_shadow: Handle<dyn NetDevice>,
}

impl Domain for NetBench {
    type Imports = Wires;
    type Export = ();

    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let devices: Vec<Device> = (0..2).filter_map(|number| environment.device(number)).collect();
        let control = wires.control.clone();
        coppice_bench_harness::start(&control, plan::DEFAULT_SECONDS, move |bench| {
            measure(&wires, devices, Plan(bench))
        })
    }
}

fn measure(wires: &Wires, devices: Vec<Device>, plan: Plan<'_>) -> Result<(), Failure> {
    null(wires, plan)?;
    null_outage(wires, plan)?;
    if plan.counts_instructions {
        return Ok(());
    }
    let tsc_hz = plan.tsc_hz();
    let mut devices = devices.into_iter();
    let remote = [
        (TEN, [&wires.ten, &wires.ten_shadow, &wires.ten_relay, &wires.ten_relay_shadow]),
        (
            UNLIMITED,
            [
                &wires.unlimited,
                &wires.unlimited_shadow,
                &wires.unlimited_relay,
                &wires.unlimited_relay_shadow,
            ],
        ),
    ];
    for (rate, nets) in remote {
        // A machine without a device of our own has nothing to compare with, but still yields figures.
        let linked = match devices.next() {
            Some(device) => {
                if rate == TEN && plan.wants(RESET) {
                    let times = reset::measure(&device, tsc_hz, plan.outages())?;
                    plan.report_values(RESET, "ns", times)?;
                }
                Some(Linked::open(device)?)
            }
            None => None,
        };
        let mut configurations: Vec<Configuration> = Vec::new();
        configurations.extend(linked.map(|linked| Configuration::new("static", linked, tsc_hz)));
        for (name, net) in ["domain", "shadow", "relay-domain", "relay-shadow"].into_iter().zip(nets) {
            configurations.push(Configuration::new(name, Client::new(net)?, tsc_hz));
        }
        busy(plan, rate, &mut configurations)?;
        streams(plan, rate, &mut configurations)?;
    }
    crashes(wires, plan)
}

/// Measures the recovery without a device reset: until the first packet of the next instance is back.
fn null_outage(wires: &Wires, plan: Plan<'_>) -> Result<(), Failure> {
    if !plan.wants(NULL_OUTAGE) {
        return Ok(());
    }
    let mut client = Client::new(&wires.null_shadow)?;
    client.begin(BATCH)?;
    Ok(plan.report_values(
        NULL_OUTAGE,
        "ns",
        plan.crash_target(NULL_DRIVER).outages(plan.outages(), &mut Forwarding(&mut client))?,
    )?)
}

fn crashes(wires: &Wires, plan: Plan<'_>) -> Result<(), Failure> {
    let driver = plan.crash_target(DRIVER);
    let load = plan.crash_load();
    let (outage, loss) = (id("outage", TEN, load, "shadow"), id("loss", TEN, load, "shadow"));
    if !plan.wants(&outage) && !plan.wants(&loss) {
        return Ok(());
    }
    let mut client = Client::new(&wires.ten_shadow)?;
    let tester = Tester::new(client.mac(), plan.tsc_hz());
    client.begin(load.batch)?;
    // Without end, at line rate.
    tester.start(&mut client, load.bytes, 0, 0)?;
    if plan.wants(&outage) {
        plan.report_values(&outage, "ns", driver.outages(plan.outages(), &mut Forwarding(&mut client))?)?;
    }
    if plan.wants(&loss) {
        plan.report_values(&loss, "percent", driver.losses(plan.pairs(), &mut Forwarding(&mut client))?)?;
    }
    tester.stop(&mut client)?;
    client.end()
}

/// A named configuration and its tester.
struct Configuration {
    name: &'static str,
    tester: Tester,
    path: Box<dyn RunLoad>,
}

impl Configuration {
    fn new<T: FramePath + 'static>(name: &'static str, path: T, tsc_hz: u64) -> Self {
        Self { name, tester: Tester::new(path.mac(), tsc_hz), path: Box::new(path) }
    }

    fn run(&mut self, load: Load, parameters: RunParameters) -> Result<Run, Failure> {
        self.path.run(&self.tester, load, parameters)
    }

    /// Returns true if the plan contains this figure. For relays it contains only the forwarding of the
    /// shortest frames.
    fn is_for(&self, plan: Plan<'_>, kind: &str, rate: Rate, load: Load) -> bool {
        let is_usual = load.way == Way::Forward && load.bytes == SHORT;
        (is_usual || !self.name.starts_with("relay")) && plan.wants(&id(kind, rate, load, self.name))
    }
}

/// Runs a load on a [`FramePath`] with loops of its own type, so that no virtual call is added to them.
trait RunLoad {
    fn run(&mut self, tester: &Tester, load: Load, parameters: RunParameters) -> Result<Run, Failure>;
}

impl<T: FramePath> RunLoad for T {
    fn run(&mut self, tester: &Tester, load: Load, parameters: RunParameters) -> Result<Run, Failure> {
        self.begin(load.batch)?;
        for _ in 0..FILLING {
            self.receive(|_| ())?;
        }
        let run = run(self, tester, load, parameters)?;
        self.end()?;
        Ok(run)
    }
}

/// Measures cycles per packet without waits for the device. A limited wire would add nothing to the figures
/// of an unlimited one.
fn busy(plan: Plan<'_>, rate: Rate, configurations: &mut [Configuration]) -> Result<(), Failure> {
    if rate != UNLIMITED {
        return Ok(());
    }
    for load in plan.busy_loads() {
        let kind = Text::<32>::format(format_args!("busy-{}", load.way));
        let mut samples: Vec<Vec<f64>> = configurations.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (configuration, samples) in configurations.iter_mut().zip(&mut samples) {
                if configuration.is_for(plan, &kind, rate, load) {
                    let parameters = RunParameters { count: BUSY_FRAMES, frames_per_second: 0, pauses: true };
                    samples.append(&mut configuration.run(load, parameters)?.busy);
                }
            }
        }
        for (configuration, samples) in configurations.iter().zip(samples) {
            let id = id(&kind, rate, load, configuration.name);
            if !samples.is_empty() {
                plan.report(&id, &Samples::sorted(samples, load::SAMPLE as u32))?;
            } else if configuration.is_for(plan, &kind, rate, load) {
                log::error!("{id}: no two whole batches came back to back");
            }
        }
    }
    Ok(())
}

/// Measures packets per second.
fn streams(plan: Plan<'_>, rate: Rate, configurations: &mut [Configuration]) -> Result<(), Failure> {
    let loads = plan.stream_loads();
    // Relays have few loads, and the other wire has as many again.
    let length_ns = plan.run_ns(loads.len() * 2 * 3 * ROUNDS);
    for load in loads {
        let kind = Text::<32>::format(format_args!("{}", load.way));
        stream(plan, &kind, (rate, load, 100), length_ns, configurations)?;
    }
    if rate == TEN {
        for percent in plan.shares() {
            let kind = Text::<32>::format(format_args!("share-{percent}"));
            stream(plan, &kind, (rate, plan.crash_load(), percent), length_ns, configurations)?;
        }
    }
    Ok(())
}

/// Runs one load on all configurations, at the given percentage of the line rate.
fn stream(
    plan: Plan<'_>,
    kind: &str,
    (rate, load, percent): (Rate, Load, u64),
    length_ns: u64,
    configurations: &mut [Configuration],
) -> Result<(), Failure> {
    let line = rate.frames(load.bytes).unwrap_or(MOST_PER_SECOND) * percent as f64 / 100.0;
    let parameters = RunParameters {
        count: (line * length_ns as f64 / 1e9) as u64,
        // At 100 percent the wire itself limits the rate.
        frames_per_second: if percent == 100 { 0 } else { line as u64 },
        pauses: false,
    };
    let mut all: Vec<Rates> = configurations.iter().map(|_| Rates::default()).collect();
    for _ in 0..ROUNDS {
        for (configuration, rates) in configurations.iter_mut().zip(&mut all) {
            if configuration.is_for(plan, kind, rate, load) {
                rates.add(configuration.run(load, parameters)?);
            }
        }
    }
    for (configuration, rates) in configurations.iter().zip(&mut all) {
        if let Some(figure) = rates.figure(&id(kind, rate, load, configuration.name), rate, load.bytes) {
            plan.print(figure)?;
        }
    }
    Ok(())
}

/// A path to the null queue.
enum NullPath {
    Linked(Box<dyn NetQueue>),
    Remote(Handle<dyn NetQueue>),
}

impl NullPath {
    fn open(net: &Handle<dyn NetDevice>) -> Result<Self, Failure> {
        Ok(Self::Remote(net.open(QueueDepth::default())??))
    }

    fn cycles(&self, batch: usize, plan: Plan<'_>) -> Result<Samples, Failure> {
        match self {
            Self::Linked(queue) => null::cycles(queue, batch, plan.null_budget()),
            Self::Remote(queue) => null::cycles(queue, batch, plan.null_budget()),
        }
    }
}

fn null(wires: &Wires, plan: Plan<'_>) -> Result<(), Failure> {
    let linked = NullNet::default().queue(QueueDepth::default())?;
    let nulls = [
        ("static", NullPath::Linked(Box::new(linked))),
        ("domain", NullPath::open(&wires.null)?),
        ("shadow", NullPath::open(&wires.null_shadow)?),
        ("relay-domain", NullPath::open(&wires.null_relay)?),
        ("relay-shadow", NullPath::open(&wires.null_relay_shadow)?),
    ];
    for batch in plan.batches() {
        for (name, null) in &nulls {
            let id = Text::<64>::format(format_args!("null/b{batch}/{name}"));
            if plan.wants(&id) {
                plan.report(&id, &null.cycles(batch, plan)?)?;
            }
        }
    }
    Ok(())
}
