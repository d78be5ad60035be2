//! Frames go round through driver, device and wire, and each of them is accounted for: sent and duplicated are received and lost, and
//! each loss is in a named counter of the component that has lost it.
//!
//! `COPPICE_FRAMES_ROUNDS` says how many rounds each of these makes, in place of a few: 300 take minutes.

mod packets;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use coppice_hardware::DmaMemory;
use device_harness::Bench;
use device_link::{Impairment, ImpairmentKind, ImpairmentRule, Loopback, Peer, Rate, Wire};
use ixgbe_driver::{Config, Controller, Losses, Options, Queue, QueueOptions};
use ixgbe_model::{Ixgbe, IxgbeConfig};
use packets::{Packets, clear, fill, frame, set_len, spare};

/// Rounds, unless the environment says otherwise.
const ROUNDS: u32 = 4;
/// Frames that go round, and descriptors of a transmit ring, which has room for all of them.
const POPULATION: usize = 800;
const SEND_DEPTH: u32 = 1024;
/// Exchanges of a round.
const EXCHANGES: usize = 500;
/// A frame that is on its way for longer never comes.
const LIMIT: Duration = Duration::from_secs(120);
/// Threads that take the processors away from driver and device.
const BUSY_THREADS: usize = 4;

/// How long the driver is away after it has sent everything at once.
#[derive(Clone, Copy, Debug)]
enum Late {
    By(Duration),
    /// Until the device has nothing left to do for it.
    UntilAllIsDone,
}

const LATE: [Late; 4] = [
    Late::By(Duration::ZERO),
    Late::By(Duration::from_micros(200)),
    Late::By(Duration::from_millis(2)),
    Late::UntilAllIsDone,
];

fn rounds() -> u32 {
    match std::env::var("COPPICE_FRAMES_ROUNDS") {
        Ok(text) => text.parse().expect("COPPICE_FRAMES_ROUNDS is a number of rounds"),
        Err(_) => ROUNDS,
    }
}

/// Runs `work` quietly, and again while other threads want the processors.
fn quiet_and_busy(work: impl Fn()) {
    // One test after the other: another one's threads are no quiet.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    work();
    let stop = AtomicBool::new(false);
    /// Also when `work` panics.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    thread::scope(|scope| {
        let _stop = Stop(&stop);
        for _ in 0..BUSY_THREADS {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        work();
    });
}

/// A driver whose frames come back to it.
struct Circuit {
    model: Arc<Ixgbe>,
    trouble: Arc<Impairment>,
    controller: Controller,
    queue: Queue<Packets>,
    /// Received frames, to be sent again.
    held: Vec<DmaMemory>,
    /// Packets without a frame that the receive ring has no room for.
    pool: Vec<DmaMemory>,
    /// How many packets there are.
    packets: usize,
    /// Whether frames without a buffer are dropped.
    drops: bool,
    /// Frames that were put into circulation, including those that were received and sent again.
    sent: u64,
    received: u64,
}

/// Where the frames are.
#[derive(Clone, Copy, Debug)]
struct Ledger {
    sent: u64,
    duplicated: u64,
    received: u64,
    driver: Losses,
    device: ixgbe_model::Losses,
    wire: device_link::Losses,
}

impl Ledger {
    fn begun(&self) -> u64 {
        self.sent + self.duplicated
    }

    fn lost(&self) -> u64 {
        self.driver.sum() + self.device.sum() + self.wire.sum()
    }

    fn ended(&self) -> u64 {
        self.received + self.lost()
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames have begun, {} have ended: {self:?}", self.begun(), self.ended())
    }
}

impl Circuit {
    /// With a receive ring of `receive_depth`, full of packets, at a wire to `end` with `trouble` on the way back.
    fn new(receive_depth: u32, end: impl Peer + 'static, trouble: &str) -> Self {
        let rules = |text: &str| match text {
            "" => Vec::new(),
            text => ImpairmentRule::parse_all(text).expect("rules"),
        };
        let trouble = Arc::new(Impairment::new(1, &rules(trouble), &rules(trouble)));
        let wire = Wire::new(Rate::Unlimited, Box::new(end)).with_impairment(trouble.clone());
        let config = IxgbeConfig::parse("spin=1ms").expect("a device");
        let model = Arc::new(Ixgbe::with_wire(config, wire).expect("it can be made"));
        let bench = Bench::new(model.clone(), 8192);
        // A device whose thread does not run for a while neither hangs nor is it stuck.
        let limit_ns = LIMIT.as_nanos() as u64;
        let options = Options {
            settle_ns: 0,
            spin_ns: 0,
            hang_ns: limit_ns,
            step_timeout_ns: limit_ns,
            ..Options::default()
        };
        let controller = Controller::open(bench.device(), options).expect("it works");
        // The addresses stay as they are, so the device hears its own frames.
        controller.configure(&Config { promiscuous: true, ..Config::default() }).expect("it can");
        let depths = QueueOptions { send_depth: SEND_DEPTH, receive_depth, packet_bytes: 2048 };
        let mut queue = controller.open_queue(depths).expect("a queue");
        let memory = bench.device();
        for number in 0..receive_depth - 1 {
            assert!(queue.give(spare(&memory, number)).is_ok(), "there is room");
        }
        queue.poll(0, |_, _| {}).expect("no fault");
        let pool: Vec<_> = (0..POPULATION as u32).map(|number| spare(&memory, 10_000 + number)).collect();
        let packets = pool.len() + queue.receive_held();
        Self {
            model,
            trouble,
            controller,
            queue,
            held: Vec::new(),
            pool,
            packets,
            drops: false,
            sent: 0,
            received: 0,
        }
    }

    /// Another queue, beside which frames without a buffer are dropped. No frame is for it.
    fn open_another_queue(&mut self) -> Queue<Packets> {
        self.drops = true;
        self.controller.open_queue(QueueOptions::default()).expect("a queue")
    }

    /// What has happened to all frames; nothing has ended that has not begun.
    fn ledger(&self) -> Ledger {
        let received = self.received;
        let (driver, device, wire) =
            (self.controller.losses(), self.model.losses(), self.model.wire_losses());
        // The last: an end that was seen has a beginning that is seen.
        let duplicated = self.trouble.inward.injections(ImpairmentKind::Duplicate)
            + self.trouble.outward.injections(ImpairmentKind::Duplicate);
        let ledger = Ledger { sent: self.sent, duplicated, received, driver, device, wire };
        assert!(ledger.ended() <= ledger.begun(), "counted twice: {ledger}");
        ledger
    }

    fn wait(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is_done(self) {
            assert!(Instant::now() < end, "{what} for {LIMIT:?}: {}", self.ledger());
            thread::yield_now();
        }
    }

    /// Puts frames into circulation until there are as many as there should be, as far as there are packets.
    fn populate(&mut self) {
        while self.held.len() < POPULATION
            && let Some(packet) = self.pool.pop()
        {
            self.held.push(fill(packet, &frame(1, 60)));
        }
    }

    /// Sends what is held. Buffers first, as in the driver: a frame may come back before the next call.
    fn send(&mut self) {
        self.refill();
        let Self { queue, held, pool, .. } = self;
        let count = held.len();
        let mut refused = 0;
        let mut frames = held.drain(..);
        let sent = queue.send(
            || frames.next(),
            |packet, why| {
                // A bad link can make a frame longer than the driver may send.
                refused += usize::from(why.is_some());
                pool.push(clear(packet));
            },
        );
        assert_eq!(sent.map(|sent| sent + refused), Ok(count), "the ring has room for all");
        drop(frames);
        self.sent += count as u64;
    }

    /// Gives the receive ring what it has room for.
    fn refill(&mut self) {
        while let Some(packet) = self.pool.pop() {
            if let Err(packet) = self.queue.give(packet) {
                self.pool.push(packet);
                break;
            }
        }
    }

    /// Receives up to `most` frames, and keeps as many as go round: a duplicate ends here.
    fn receive(&mut self, most: usize) {
        let Self { queue, held, pool, received, .. } = self;
        let take = |packet, frame: ixgbe_driver::Received| {
            *received += 1;
            if held.len() < POPULATION {
                held.push(set_len(packet, frame.len() as usize));
            } else {
                pool.push(clear(packet));
            }
        };
        queue.poll(most, take).expect("no fault");
    }

    /// Waits until no frame is under way and each packet is at home, and finds each frame.
    fn settle(&mut self) -> Ledger {
        self.wait("frames are missing", |circuit| {
            // Nothing is sent, but buffers of sent frames are taken in.
            let Self { queue, pool, .. } = circuit;
            queue.send(|| None, |packet, _| pool.push(clear(packet))).expect("no fault");
            circuit.receive(1024);
            circuit.refill();
            let ledger = circuit.ledger();
            let home = circuit.held.len() + circuit.pool.len() + circuit.queue.receive_held();
            ledger.ended() == ledger.begun() && home == circuit.packets
        });
        self.ledger()
    }

    /// Sends all frames at once and stays away.
    fn starve(&mut self, late: Late) {
        self.populate();
        self.send();
        match late {
            Late::By(time) => {
                let start = Instant::now();
                while start.elapsed() < time {
                    std::hint::spin_loop();
                }
            }
            Late::UntilAllIsDone => self.wait("frames are under way", |circuit| {
                let ledger = circuit.ledger();
                let delivered = circuit.controller.statistics().expect("it is there").received;
                delivered + ledger.lost() == ledger.begun()
                    // Frames that are not dropped wait for the driver.
                    || !circuit.drops && delivered - ledger.received >= circuit.queue.receive_held() as u64
            }),
        }
    }

    /// Forwards for a while, `batch` frames at a time.
    fn forward(&mut self, batch: usize) {
        for _ in 0..EXCHANGES {
            self.send();
            self.receive(batch);
        }
    }

    /// A round: all frames are in hand, then on their way without anybody to take them, then go round.
    fn round(&mut self, number: u32, late: Late) -> Ledger {
        self.starve(late);
        self.forward([1, 8, 32, 256][number as usize % 4]);
        self.settle()
    }
}

#[test]
fn a_late_driver_with_one_queue_loses_nothing() {
    quiet_and_busy(|| {
        // Also with a quarter of the buffers that it would take.
        for (late, receive_depth) in LATE.into_iter().zip([1024, 256, 1024, 256]) {
            let mut circuit = Circuit::new(receive_depth, Loopback::new(4096), "");
            for number in 0..rounds() {
                let ledger = circuit.round(number, late);
                assert_eq!(ledger.lost(), 0, "round {number}, {late:?}, {receive_depth} buffers: {ledger}");
                assert_eq!(circuit.held.len(), POPULATION);
            }
        }
    });
}

#[test]
fn a_late_driver_with_buffers_for_all_frames_loses_nothing_beside_another_queue() {
    quiet_and_busy(|| {
        for late in LATE {
            let mut circuit = Circuit::new(1024, Loopback::new(4096), "");
            let _other = circuit.open_another_queue();
            for number in 0..rounds() {
                let ledger = circuit.round(number, late);
                assert_eq!(ledger.lost(), 0, "round {number}, {late:?}: {ledger}");
                assert_eq!(circuit.held.len(), POPULATION);
            }
        }
    });
}

#[test]
fn frames_that_a_late_driver_has_no_buffers_for_are_counted() {
    quiet_and_busy(|| {
        for late in LATE {
            let mut circuit = Circuit::new(256, Loopback::new(4096), "");
            for number in 0..rounds() {
                // A queue comes and goes, and with it the bit that has frames dropped.
                let other = circuit.open_another_queue();
                let before = circuit.ledger().lost();
                circuit.starve(late);
                if let Late::UntilAllIsDone = late {
                    let lost = circuit.ledger().lost() - before;
                    assert_eq!(lost, POPULATION as u64 - 255, "round {number}: {}", circuit.ledger());
                }
                circuit.forward([1, 8, 32, 256][number as usize % 4]);
                drop(other);
                let ledger = circuit.settle();
                let Ledger { driver, device, wire, .. } = ledger;
                assert_eq!(
                    (driver.sum(), device.sum(), wire.sum()),
                    (0, device.no_descriptors, 0),
                    "{ledger}"
                );
                let statistics = circuit.controller.statistics().expect("it is there");
                assert_eq!(statistics.missed, device.no_descriptors, "{ledger}");
            }
        }
    });
}

#[test]
fn frames_on_a_bad_link_are_counted() {
    const RULES: &str = "drop:1/50+duplicate:1/100+corrupt:1/100+garble:1/100+truncate:1/100+cut:1/100+extend:1/100\
                         +delay:1/100:20us+reorder:1/50:20us+flap:1/5000:500us";
    quiet_and_busy(|| {
        for late in [Late::By(Duration::ZERO), Late::By(Duration::from_millis(2))] {
            for has_other in [false, true] {
                let mut circuit = Circuit::new(256, Loopback::new(512), RULES);
                let _other = has_other.then(|| circuit.open_another_queue());
                for number in 0..rounds() {
                    circuit.populate();
                    circuit.starve(late);
                    circuit.forward([1, 8, 32, 256][number as usize % 4]);
                    // The receiver is off for a moment, with frames on their way.
                    let config = circuit.controller.config();
                    assert_eq!(circuit.controller.configure(&config), Ok(()));
                    circuit.settle();
                }
                // What such a link does in any case.
                let Ledger { device, wire, .. } = circuit.ledger();
                assert!(wire.dropped > 0 && wire.damaged > 0 && device.damaged > 0, "{}", circuit.ledger());
            }
        }
    });
}

#[test]
fn frames_that_a_full_loopback_has_no_room_for_are_counted() {
    quiet_and_busy(|| {
        let mut circuit = Circuit::new(1024, Loopback::new(16), "");
        for number in 0..rounds() {
            circuit.round(number, Late::UntilAllIsDone);
        }
        let ledger = circuit.ledger();
        assert!(ledger.wire.peer_full > 0, "{ledger}");
        assert_eq!(ledger.lost(), ledger.wire.peer_full, "{ledger}");
    });
}

#[test]
fn resets_lose_no_more_frames_than_they_count() {
    quiet_and_busy(|| {
        let mut circuit = Circuit::new(1024, Loopback::new(4096), "");
        // Frames that were taken may have been sent before a reset, so they may come back and count as lost as well.
        let (mut begun, mut ended, mut in_doubt) = (0, 0, 0);
        for number in 0..rounds() {
            let before = circuit.controller.losses();
            circuit.populate();
            circuit.send();
            for _ in 0..number % 5 {
                circuit.receive(32);
            }
            let pool = &mut circuit.pool;
            assert_eq!(circuit.queue.reset(|packet| pool.push(clear(packet))), Ok(()));
            in_doubt += circuit.controller.losses().unreported - before.unreported;
            circuit.refill();
            // Frames keep their order, so all that the wire had are back when one that was sent last is.
            let marker = fill(circuit.pool.pop().expect("most are at home"), &frame(2, 99));
            let Circuit { queue, held, .. } = &mut circuit;
            let mut frames = Some(marker);
            assert_eq!(queue.send(|| frames.take(), |_, why| assert_eq!(why, None)), Ok(1));
            held.clear();
            circuit.sent += 1;
            let mut is_back = false;
            circuit.wait("the marker does not come", |circuit| {
                let Circuit { queue, pool, received, .. } = circuit;
                let take = |packet, frame: ixgbe_driver::Received| {
                    *received += 1;
                    is_back |= frame.len() == 99;
                    pool.push(clear(packet));
                };
                queue.poll(64, take).expect("no fault");
                queue.send(|| None, |packet, _| pool.push(clear(packet))).expect("no fault");
                circuit.refill();
                is_back
            });
            let ledger = {
                let Circuit { sent, received, controller, model, .. } = &circuit;
                let (driver, device, wire) = (controller.losses(), model.losses(), model.wire_losses());
                Ledger { sent: *sent, duplicated: 0, received: *received, driver, device, wire }
            };
            (begun, ended) = (ledger.begun(), ledger.ended());
            assert!(
                ended >= begun && ended - begun <= in_doubt,
                "round {number}, {in_doubt} in doubt: {ledger}"
            );
        }
        assert!(begun > 0 && ended >= begun);
    });
}
