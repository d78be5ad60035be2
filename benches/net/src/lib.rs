//! What does a network device cost, and what does isolating its driver add?
//!
//! The same load runs on several configurations in turn: `static`, the driver as a library of this domain, which is granted devices of
//! its own for that; `domain`, the driver in its domain; `shadow`, the same through the shadow that hides its crashes; and
//! `relay-domain` and `relay-shadow`, either of them behind one domain more, which only hands calls on. Rounds of all alternate, so that
//! a slower moment of the machine is everybody's.
//!
//! - `null/…`: cycles per packet of a queue that answers at once, which leaves nothing but our own cost.
//! - `busy-WAY/…`: cycles per packet of exchanges that move whole batches, one behind the other: the device is left alone until it has
//!   some.
//! - `WAY/…`: packets per second, what was lost, and how long frames took, by the clock of the tester at the other end of the wire.
//! - `share-N/…`: the same, forwarding so many percent of what the wire carries.
//! - `reset/device`, `outage/…`, `loss/…`: what the device takes for a reset until its link is up, how long a crash of the driver is felt,
//!   and how much one crash a second takes away.
//!
//! Under an instruction-counting emulator the counter counts instructions, and what hangs on a device is left out.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod crash;
mod linked;
mod load;
mod null;
mod plan;
mod rate;
mod reset;
mod target;
mod tester;

use alloc::boxed::Box;
use alloc::vec::Vec;

use coppice_control::Control;
use coppice_domain_null_net::NullNet;
use coppice_experiment::{Samples, Victim, figure};
use coppice_hardware::Device;
use coppice_interfaces::{Handle, Imports, Text};
use coppice_net::{BATCH, NetDevice, NetQueue, QueueDepth};
use coppice_runtime::thread::Builder;
use coppice_runtime::{Domain, Environment, StartError};

use linked::Linked;
use load::{Course, Load, Run, Way, run};
use plan::{Plan, Rate, SHORT, TEN, UNLIMITED, id};
use rate::Rates;
use target::{Client, Failure, Target};
use tester::Tester;

/// The driver's domain on a wire of 10 Gb/s, in the manifest, and that of the queue that answers at once.
const DRIVER: &str = "ixgbe";
const NULL_DRIVER: &str = "null";
/// A crash of the latter.
const NULL_OUTAGE: &str = "outage/null/shadow";
/// What the device's own reset takes.
const RESET: &str = "reset/device";
/// How often each load is run on each configuration.
const ROUNDS: usize = 5;
/// How often the driver is ended for `outage/…`.
const OUTAGES: usize = 200;
/// Frames of one run for busy cycles.
const BUSY_FRAMES: u64 = 40_000;
/// The same where instructions are counted.
const FEW_OUTAGES: usize = 20;
/// Exchanges after which a queue has all the packets that it has room for: without them the first frames of a run would be lost.
const FILLING: usize = 8;
/// What a run on an unlimited wire is expected to come to at most: it takes longer if it does not.
const MOST_PER_SECOND: f64 = 15e6;

/// The domain.
pub struct NetBench;

/// What it is wired to.
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
        // One thread that stays on one CPU: the last one, since the first has the console.
        let cpus = wires.control.cpu_count().unwrap_or(1);
        let bench = Builder::new().affinity(1 << (cpus - 1)).spawn(move || {
            let result = measure(&wires, devices);
            if let Err(error) = &result {
                log::error!("{error}");
            }
            let _ = wires.control.shut_down(result.is_ok());
        });
        bench?;
        Ok(())
    }
}

fn measure(wires: &Wires, devices: Vec<Device>) -> Result<(), Failure> {
    let plan = Plan::read(&wires.control)?;
    null(wires, &plan)?;
    null_outage(wires, &plan)?;
    if plan.counts_instructions() {
        return Ok(());
    }
    let tsc_hz = wires.control.tsc_hz()?;
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
        // A machine without a device for us has nothing to compare with, and figures all the same.
        let linked = match devices.next() {
            Some(device) => {
                if rate == TEN && plan.wants(RESET) {
                    let times = reset::measure(&device, tsc_hz, OUTAGES)?;
                    report(wires, figure(RESET, "ns", times))?;
                }
                Some(Linked::open(device)?)
            }
            None => None,
        };
        let mut stations: Vec<Station> = Vec::new();
        stations.extend(linked.map(|linked| Station::new("static", linked, tsc_hz)));
        for (name, net) in ["domain", "shadow", "relay-domain", "relay-shadow"].into_iter().zip(nets) {
            stations.push(Station::new(name, Client::new(net)?, tsc_hz));
        }
        busy(wires, &plan, rate, &mut stations)?;
        streams(wires, &plan, rate, &mut stations)?;
    }
    crashes(wires, &plan, tsc_hz)
}

/// What recovery takes where there is no device to be reset: until the next instance's first packet is back.
fn null_outage(wires: &Wires, plan: &Plan) -> Result<(), Failure> {
    if !plan.wants(NULL_OUTAGE) {
        return Ok(());
    }
    let tsc_hz = wires.control.tsc_hz()?;
    let victim = Victim { control: &wires.control, name: NULL_DRIVER, tsc_hz };
    let count = if plan.counts_instructions() { FEW_OUTAGES } else { OUTAGES };
    let mut client = Client::new(&wires.null_shadow)?;
    client.begin(BATCH)?;
    report(wires, figure(NULL_OUTAGE, "ns", crash::outages(&victim, &mut client, count)?))
}

fn crashes(wires: &Wires, plan: &Plan, tsc_hz: u64) -> Result<(), Failure> {
    let victim = Victim { control: &wires.control, name: DRIVER, tsc_hz };
    let load = plan.crash_load();
    let (outage, loss) = (id("outage", TEN, load, "shadow"), id("loss", TEN, load, "shadow"));
    if !plan.wants(&outage) && !plan.wants(&loss) {
        return Ok(());
    }
    let mut client = Client::new(&wires.ten_shadow)?;
    let tester = Tester::new(client.mac(), tsc_hz);
    client.begin(load.batch)?;
    // Without end, and as fast as the wire carries them.
    tester.start(&mut client, load.bytes, 0, 0)?;
    if plan.wants(&outage) {
        report(wires, figure(&outage, "ns", crash::outages(&victim, &mut client, OUTAGES)?))?;
    }
    if plan.wants(&loss) {
        report(wires, figure(&loss, "percent", crash::losses(&victim, &mut client, plan.pairs())?))?;
    }
    tester.stop(&mut client)?;
    client.end()
}

/// A configuration by name, and its tester.
struct Station {
    name: &'static str,
    tester: Tester,
    target: Box<dyn Runner>,
}

impl Station {
    fn new<T: Target + 'static>(name: &'static str, target: T, tsc_hz: u64) -> Self {
        Self { name, tester: Tester::new(target.mac(), tsc_hz), target: Box::new(target) }
    }

    fn run(&mut self, load: Load, course: Course) -> Result<Run, Failure> {
        self.target.run(&self.tester, load, course)
    }

    /// Whether that figure is wanted of it. Of relays it is enough to know what they add to forwarding the shortest frames.
    fn is_for(&self, plan: &Plan, kind: &str, rate: Rate, load: Load) -> bool {
        let is_usual = load.way == Way::Forward && load.bytes == SHORT;
        (is_usual || !self.name.starts_with("relay")) && plan.wants(&id(kind, rate, load, self.name))
    }
}

/// A [`Target`] whose loops are its own, so that nothing in them is a virtual call that was none before.
trait Runner {
    fn run(&mut self, tester: &Tester, load: Load, course: Course) -> Result<Run, Failure>;
}

impl<T: Target> Runner for T {
    fn run(&mut self, tester: &Tester, load: Load, course: Course) -> Result<Run, Failure> {
        self.begin(load.batch)?;
        for _ in 0..FILLING {
            self.receive(|_| ())?;
        }
        let run = run(self, tester, load, course)?;
        self.end()?;
        Ok(run)
    }
}

/// Cycles per packet, where the device is not waited for. On a limited wire that says nothing that an unlimited one does not.
fn busy(wires: &Wires, plan: &Plan, rate: Rate, stations: &mut [Station]) -> Result<(), Failure> {
    if rate != UNLIMITED {
        return Ok(());
    }
    for load in plan.busy_loads() {
        let kind = Text::<32>::format(format_args!("busy-{}", load.way));
        let mut samples: Vec<Vec<f64>> = stations.iter().map(|_| Vec::new()).collect();
        for _ in 0..ROUNDS {
            for (station, samples) in stations.iter_mut().zip(&mut samples) {
                if station.is_for(plan, &kind, rate, load) {
                    let course = Course { count: BUSY_FRAMES, frames_per_second: 0, pauses: true };
                    samples.append(&mut station.run(load, course)?.busy);
                }
            }
        }
        for (station, samples) in stations.iter().zip(samples) {
            let id = id(&kind, rate, load, station.name);
            if !samples.is_empty() {
                report(wires, Samples::sorted(samples, load::SAMPLE as u32).line(&id))?;
            } else if station.is_for(plan, &kind, rate, load) {
                log::error!("{id}: no two whole batches came one behind the other");
            }
        }
    }
    Ok(())
}

/// Packets per second.
fn streams(wires: &Wires, plan: &Plan, rate: Rate, stations: &mut [Station]) -> Result<(), Failure> {
    let loads = plan.stream_loads();
    // Relays have few of them, and the other wire as many again.
    let length_ns = plan.run_ns(loads.len() * 2 * 3 * ROUNDS);
    for load in loads {
        let kind = Text::<32>::format(format_args!("{}", load.way));
        stream(wires, plan, &kind, (rate, load, 100), length_ns, stations)?;
    }
    if rate == TEN {
        for percent in plan.shares() {
            let kind = Text::<32>::format(format_args!("share-{percent}"));
            stream(wires, plan, &kind, (rate, plan.crash_load(), percent), length_ns, stations)?;
        }
    }
    Ok(())
}

/// One load on all stations, at so many percent of what the wire carries.
fn stream(
    wires: &Wires,
    plan: &Plan,
    kind: &str,
    (rate, load, percent): (Rate, Load, u64),
    length_ns: u64,
    stations: &mut [Station],
) -> Result<(), Failure> {
    let line = rate.frames(load.bytes).unwrap_or(MOST_PER_SECOND) * percent as f64 / 100.0;
    let course = Course {
        count: (line * length_ns as f64 / 1e9) as u64,
        // The wire itself keeps its rate.
        frames_per_second: if percent == 100 { 0 } else { line as u64 },
        pauses: false,
    };
    let mut all: Vec<Rates> = stations.iter().map(|_| Rates::default()).collect();
    for _ in 0..ROUNDS {
        for (station, rates) in stations.iter_mut().zip(&mut all) {
            if station.is_for(plan, kind, rate, load) {
                rates.add(station.run(load, course)?);
            }
        }
    }
    for (station, rates) in stations.iter().zip(&mut all) {
        if let Some(line) = rates.line(&id(kind, rate, load, station.name), rate, load.bytes) {
            report(wires, line)?;
        }
    }
    Ok(())
}

fn report(wires: &Wires, line: Text<256>) -> Result<(), Failure> {
    Ok(wires.control.print(line)?)
}

/// A configuration of the null queue.
enum Null {
    Linked(Box<dyn NetQueue>),
    Remote(Handle<dyn NetQueue>),
}

impl Null {
    fn open(net: &Handle<dyn NetDevice>) -> Result<Self, Failure> {
        Ok(Self::Remote(net.open(QueueDepth::default())??))
    }

    fn cycles(&self, batch: usize, plan: &Plan) -> Result<Samples, Failure> {
        match self {
            Self::Linked(queue) => null::cycles(queue, batch, plan.null_budget()),
            Self::Remote(queue) => null::cycles(queue, batch, plan.null_budget()),
        }
    }
}

fn null(wires: &Wires, plan: &Plan) -> Result<(), Failure> {
    let linked = NullNet::default().queue(QueueDepth::default())?;
    let nulls = [
        ("static", Null::Linked(Box::new(linked))),
        ("domain", Null::open(&wires.null)?),
        ("shadow", Null::open(&wires.null_shadow)?),
        ("relay-domain", Null::open(&wires.null_relay)?),
        ("relay-shadow", Null::open(&wires.null_relay_shadow)?),
    ];
    for batch in plan.batches() {
        for (name, null) in &nulls {
            let id = Text::<64>::format(format_args!("null/b{batch}/{name}"));
            if plan.wants(&id) {
                report(wires, null.cycles(batch, plan)?.line(&id))?;
            }
        }
    }
    Ok(())
}
