//! The driver against a model with injected faults. In every case nothing panics, no packet is lost, a reset
//! helps where one can, and the driver detects all detectable faults.

mod packets;

use std::sync::Arc;

use coppice_hardware::{Device, DmaMemory};
use device_bus::Model;
use device_harness::Bench;
use ixgbe_driver::{Controller, Fault, IxgbeError, Options, Queue, QueueOptions, Step};
use ixgbe_model::{Ixgbe, IxgbeConfig};
use packets::{Packets, bytes, clear, fill, frame, spare, tag};

const SECOND: u64 = 1_000_000_000;
/// The number of packets of a test.
const PACKETS: u32 = 400;
/// The largest number of frames in flight.
const FLIGHT: usize = 100;

fn options() -> Options {
    Options { settle_ns: 0, step_timeout_ns: 30_000_000, hang_ns: 300_000_000, ..Options::default() }
}

fn model(text: &str) -> (Arc<Ixgbe>, Bench) {
    let text = format!("rate=unlimited,peer=loopback,{text}");
    let config = IxgbeConfig::parse(&text).expect("a device");
    let model = Arc::new(Ixgbe::new(config).expect("a valid configuration"));
    let bench = Bench::new(model.clone(), 4096);
    (model, bench)
}

/// The results of a load.
#[derive(Default, Debug)]
struct Seen {
    good: u32,
    wrong: u32,
    faults: Vec<Fault>,
}

/// A client that sends numbered frames to itself, resets the device at each fault, and verifies every frame.
struct Client {
    bench: Bench,
    controller: Controller,
    queue: Option<Queue<Packets>>,
    idle: Vec<DmaMemory>,
    number: u64,
    pattern: Vec<u8>,
}

impl Client {
    fn new(bench: &Bench) -> Result<Self, IxgbeError> {
        let controller = Controller::open(bench.device(), options())?;
        let depths = QueueOptions { send_depth: 256, receive_depth: 256, packet_bytes: 2048 };
        let queue = controller.open_queue(depths)?;
        let memory: Device = bench.device();
        let idle = (0..PACKETS).map(|number| spare(&memory, number)).collect();
        let mut pattern = frame(1, 200);
        pattern[..6].copy_from_slice(&controller.info().mac);
        Ok(Self { bench: bench.clone(), controller, queue: Some(queue), idle, number: 0, pattern })
    }

    /// Returns a frame that contains its number in four places.
    fn frame(&self, number: u64) -> Vec<u8> {
        let mut frame = self.pattern.clone();
        for at in [20, 60, 100, 190] {
            frame[at..at + 8].copy_from_slice(&number.to_be_bytes());
        }
        frame
    }

    fn is_good(&self, packet: &DmaMemory, len: usize) -> bool {
        len == self.pattern.len() && {
            let found = bytes(packet, len);
            let number = found[20..28].try_into().map(u64::from_be_bytes).expect("eight bytes");
            found == self.frame(number)
        }
    }

    /// Performs one exchange.
    fn step(&mut self, seen: &mut Seen) -> Result<(), Fault> {
        let mut queue = self.queue.take().expect("present between steps");
        let mut idle = core::mem::take(&mut self.idle);
        // The receive ring is filled first.
        while let Some(packet) = idle.pop() {
            if let Err(packet) = queue.give(clear(packet)) {
                idle.push(packet);
                break;
            }
        }
        let mut batch: Vec<DmaMemory> = Vec::new();
        while batch.len() < 16 && idle.len() > PACKETS as usize - 255 - FLIGHT {
            let Some(packet) = idle.pop() else { break };
            batch.push(fill(clear(packet), &self.frame(self.number)));
            self.number += 1;
        }
        let mut batch = batch.into_iter();
        let mut outcome = queue
            .send(
                || batch.next(),
                |packet, why| {
                    assert_eq!(why, None);
                    idle.push(packet);
                },
            )
            .map(|_| ());
        idle.extend(batch);
        if outcome.is_ok() {
            let taken = queue.poll(64, |packet, received| {
                let good = !received.continues() && self.is_good(&packet, received.len() as usize);
                if good {
                    seen.good += 1;
                } else {
                    seen.wrong += 1;
                }
                idle.push(packet);
            });
            outcome = match taken {
                Ok(0) => queue.wait(self.bench.now_ns() + 5_000_000, true).map(|_| ()),
                other => other.map(|_| ()),
            };
        }
        (self.idle, self.queue) = (idle, Some(queue));
        outcome
    }

    /// Resets the device.
    fn recover(&mut self) -> Result<(), IxgbeError> {
        let queue = self.queue.as_mut().expect("present between steps");
        queue.reset(|packet| self.idle.push(packet))
    }

    /// Runs until `good` frames have arrived, for at most 20 seconds.
    fn load(&mut self, good: u32) -> Seen {
        let mut seen = Seen::default();
        let end = self.bench.now_ns() + 20 * SECOND;
        while seen.good < good && self.bench.now_ns() < end {
            if let Err(fault) = self.step(&mut seen) {
                seen.faults.push(fault);
                if let Err(error) = self.recover() {
                    panic!("after {fault}: {error}");
                }
            }
        }
        seen
    }

    /// Closes the queue and checks that each packet exists exactly once.
    fn finish(mut self) {
        let mut tags: Vec<u32> = self.idle.iter().map(tag).collect();
        self.queue.take().expect("present between steps").close(|packet| tags.push(tag(&packet)));
        tags.sort_unstable();
        assert_eq!(tags, (0..PACKETS).collect::<Vec<_>>());
    }
}

/// The faults by which the driver may detect an injected fault, whether it has to, and whether wrong frames
/// may pass.
struct Expected {
    kind: &'static str,
    rate: &'static str,
    found: fn(&Fault) -> bool,
    required: bool,
    wrong: bool,
}

fn is_descriptor(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::WrongLength { .. } | Fault::UnexpectedDescriptor { .. } | Fault::SkippedDescriptor { .. }
    )
}

#[test]
fn no_fault_between_device_and_memory_causes_harm() {
    let none: fn(&Fault) -> bool = |_| false;
    let hang: fn(&Fault) -> bool = |fault| matches!(fault, Fault::TransmitHang { .. });
    for Expected { kind, rate, found, required, wrong } in [
        // An impossible length is detected. A plausible one is not; only the frame's own bytes reveal it.
        Expected { kind: "wrong-length", rate: "1/300", found: is_descriptor, required: true, wrong: true },
        Expected { kind: "garbage", rate: "1/300", found: is_descriptor, required: true, wrong: true },
        Expected { kind: "no-end", rate: "1/300", found: is_descriptor, required: true, wrong: false },
        // The descriptor's packet is an old one with an old frame, or none.
        Expected { kind: "twice", rate: "1/300", found: is_descriptor, required: false, wrong: true },
        Expected {
            kind: "lost-descriptor",
            rate: "1/1000",
            found: is_descriptor,
            required: true,
            wrong: false,
        },
        Expected { kind: "no-data", rate: "1/300", found: none, required: false, wrong: true },
        // A later report makes up for a lost one; only a lost last report looks like a hang.
        Expected { kind: "lost-report", rate: "1/100", found: hang, required: false, wrong: false },
        Expected { kind: "hang", rate: "@1500", found: hang, required: true, wrong: false },
        Expected { kind: "wrong-head", rate: "1/3", found: none, required: false, wrong: false },
        Expected { kind: "spurious", rate: "1/3", found: none, required: false, wrong: false },
        Expected { kind: "lost", rate: "1/3", found: none, required: false, wrong: false },
    ] {
        let (model, bench) = model(&format!("faults={kind}:{rate},seed=5"));
        let mut client = Client::new(&bench).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let seen = client.load(4000);
        assert!(seen.good >= 4000, "{kind}: {seen:?}");
        assert!(wrong || seen.wrong == 0, "{kind}: {} wrong frames", seen.wrong);
        let other: Vec<&Fault> = seen.faults.iter().filter(|fault| !found(fault)).collect();
        assert!(other.is_empty(), "{kind}: {other:?}");
        assert!(!required || !seen.faults.is_empty(), "{kind} was not detected");
        client.finish();
        drop(model);
    }
}

#[test]
fn a_stuck_step_of_bring_up_is_reported_by_name() {
    for (kind, step) in [
        ("stuck-reset", Step::Reset),
        ("stuck-dma", Step::DmaInit),
        ("stuck-eeprom", Step::Eeprom),
        ("stuck-enable", Step::ReceiveEnable),
    ] {
        let (_model, bench) = model(&format!("faults={kind}:always"));
        match Client::new(&bench).map(|_| ()) {
            Err(IxgbeError::Fault(Fault::Stuck { step: found, .. })) => assert_eq!(found, step, "{kind}"),
            other => panic!("{kind}: {other:?}"),
        }
    }
    // Requests that never end are dropped by two resets.
    let (_model, bench) = model("faults=stuck-master:always");
    let mut client = Client::new(&bench).expect("the device works");
    assert_eq!(client.load(500).faults, []);
    client.finish();
}

#[test]
fn intermittently_stuck_bits_cost_a_reset() {
    for kind in ["stuck-enable", "stuck-dma", "stuck-eeprom"] {
        let (_model, bench) = model(&format!("faults={kind}:1/4,seed=3"));
        // Bring-up may take a few attempts, as with restarts of a driver domain.
        let client = (0..20).find_map(|_| Client::new(&bench).ok());
        let mut client = client.unwrap_or_else(|| panic!("{kind}: the device never came up"));
        for _ in 0..10 {
            let mut attempts = 0;
            while let Err(error) = client.recover() {
                attempts += 1;
                assert!(attempts < 50, "{kind}: {error}");
                assert!(matches!(error, IxgbeError::Fault(Fault::Stuck { .. })), "{kind}: {error}");
            }
            let seen = client.load(100);
            assert!(seen.good >= 100 && seen.faults.is_empty(), "{kind}: {seen:?}");
        }
    }
}

#[test]
fn an_unplugged_device_is_gone_until_the_next_instance_finds_it_again() {
    let (model, bench) = model("faults=unplug:never");
    let mut client = Client::new(&bench).expect("the device works");
    assert!(client.load(1000).faults.is_empty());
    model.unplug();
    let mut seen = Seen::default();
    let start = bench.now_ns();
    let fault = loop {
        match client.step(&mut seen) {
            Ok(()) => assert!(bench.now_ns() - start < 5 * SECOND, "the missing device is not detected"),
            Err(fault) => break fault,
        }
    };
    assert_eq!(fault, Fault::Gone);
    assert_eq!(client.recover(), Err(Fault::Gone.into()));
    assert_eq!(client.controller.statistics(), Err(Fault::Gone.into()));
    // The driver dies with the device; its packets stay allocated until the kernel has stopped the device.
    drop(client);
    assert_eq!(Client::new(&bench).map(|_| ()).err(), Some(Fault::Gone.into()));
    model.replug();
    let mut next = Client::new(&bench).expect("the device is back");
    assert!(next.load(1000).faults.is_empty());
    next.finish();
}

#[test]
fn a_reset_that_never_ends_keeps_every_packet_until_the_device_is_stopped() {
    let (model, bench) = model("faults=stuck-reset:#2");
    let mut client = Client::new(&bench).expect("the first reset ends");
    assert!(client.load(500).faults.is_empty());
    let idle = client.idle.len();
    match client.recover() {
        Err(IxgbeError::Fault(fault @ Fault::Stuck { step: Step::Reset, .. })) => assert!(fault.is_final()),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.idle.len(), idle, "the device may still write to the other packets");
    drop(client);
    // The kernel's sequence: the stop order fails, a function level reset succeeds.
    assert!(!bench.quiesce());
    model.reset();
    let mut next = Client::new(&bench).expect("the device works again");
    assert!(next.load(500).faults.is_empty());
    next.finish();
}

#[test]
fn link_impairments_cost_frames_and_are_counted() {
    type Counted = fn(&ixgbe_driver::Statistics) -> u64;
    let nothing: Counted = |_| 1;
    let damaged: Counted = |all| all.damaged;
    let misshapen: Counted = |all| all.misshapen;
    let either: Counted = |all| all.damaged + all.misshapen;
    // For each impairment: whether wrong frames with a right FCS may pass, and the counter of the frames that
    // do not.
    for (kind, rate, wrong, counted) in [
        ("drop", "1/20", false, nothing),
        ("delay", "1/20:200us", false, nothing),
        ("reorder", "1/20:100us", false, nothing),
        ("duplicate", "1/20", false, nothing),
        ("corrupt", "1/20", false, damaged),
        ("garble", "1/20", true, nothing),
        ("truncate", "1/20", false, either),
        ("cut", "1/20", true, misshapen),
        ("extend", "1/20", true, misshapen),
        ("flap", "@1000:5ms", false, nothing),
    ] {
        let (_model, bench) = model(&format!("impair={kind}:{rate}"));
        let mut client = Client::new(&bench).expect("the device works");
        let seen = client.load(4000);
        assert!(seen.good >= 4000 && seen.faults.is_empty(), "{kind}: {seen:?}");
        assert!(wrong || seen.wrong == 0, "{kind}: {} wrong frames", seen.wrong);
        let statistics = client.controller.statistics().expect("the device is present");
        assert!(counted(&statistics) > 0, "{kind}: {statistics:?}");
        let changes = client.controller.link().expect("the device is present").changes;
        assert!(changes > 0 || kind != "flap", "the link has not changed");
        client.finish();
    }
}
