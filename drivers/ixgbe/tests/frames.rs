//! Frames circulate through driver, device and link, and each of them is accounted for: the numbers of sent
//! and duplicated frames equal those of received and lost ones, and each loss is counted by the component
//! that lost the frame.
//!
//! `COPPICE_FRAMES_ROUNDS` sets the number of rounds of each test. The default is a few; 300 take minutes.

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

/// The default number of rounds.
const ROUNDS: u32 = 4;
/// Circulating frames, and descriptors of a transmit ring, which has room for all of them.
const POPULATION: usize = 800;
const SEND_DEPTH: u32 = 1024;
/// Exchanges per round.
const EXCHANGES: usize = 500;
/// A frame in flight for longer counts as missing.
const LIMIT: Duration = Duration::from_secs(120);
/// Threads that compete with driver and device for the CPUs.
const BUSY_THREADS: usize = 4;

/// The time for which the driver is away after it has sent all frames at once.
#[derive(Clone, Copy, Debug)]
enum Absence {
    For(Duration),
    /// Until the device has nothing left to do for it.
    UntilIdle,
}

const ABSENCES: [Absence; 4] = [
    Absence::For(Duration::ZERO),
    Absence::For(Duration::from_micros(200)),
    Absence::For(Duration::from_millis(2)),
    Absence::UntilIdle,
];

fn rounds() -> u32 {
    match std::env::var("COPPICE_FRAMES_ROUNDS") {
        Ok(text) => text.parse().expect("COPPICE_FRAMES_ROUNDS is a number of rounds"),
        Err(_) => ROUNDS,
    }
}

/// Runs `work` on an idle machine, then again with competing threads.
fn idle_and_busy(work: impl Fn()) {
    // One test at a time: the threads of another would disturb the idle run.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    work();
    let stop = AtomicBool::new(false);
    /// Stops the threads also when `work` panics.
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
    /// Spare packets that the receive ring has no room for.
    pool: Vec<DmaMemory>,
    /// The number of packets.
    packets: usize,
    /// True if frames without a receive packet are dropped.
    drops: bool,
    /// Sent frames, including received ones that were sent again.
    sent: u64,
    received: u64,
}

/// The numbers of frames by their fate.
#[derive(Clone, Copy, Debug)]
struct FrameCounts {
    sent: u64,
    duplicated: u64,
    received: u64,
    driver: Losses,
    device: ixgbe_model::Losses,
    wire: device_link::Losses,
}

impl FrameCounts {
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

impl fmt::Display for FrameCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} frames begun, {} ended: {self:?}", self.begun(), self.ended())
    }
}

impl Circuit {
    /// Creates a circuit with a receive ring of `receive_depth`, full of packets, on a link to `end` with
    /// impairments on the return path.
    fn new(receive_depth: u32, end: impl Peer + 'static, trouble: &str) -> Self {
        let rules = |text: &str| match text {
            "" => Vec::new(),
            text => ImpairmentRule::parse_all(text).expect("rules"),
        };
        let trouble = Arc::new(Impairment::new(1, &rules(trouble), &rules(trouble)));
        let wire = Wire::new(Rate::Unlimited, Box::new(end)).with_impairment(trouble.clone());
        let config = IxgbeConfig::parse("spin=1ms").expect("a device");
        let model = Arc::new(Ixgbe::with_wire(config, wire).expect("a valid configuration"));
        let bench = Bench::new(model.clone(), 8192);
        // A device whose thread does not run for a while is neither hung nor stuck.
        let limit_ns = LIMIT.as_nanos() as u64;
        let options = Options {
            settle_ns: 0,
            spin_ns: 0,
            hang_ns: limit_ns,
            step_timeout_ns: limit_ns,
            ..Options::default()
        };
        let controller = Controller::open(bench.device(), options).expect("the device works");
        // Addresses are not swapped, so the device has to receive its own frames.
        controller
            .configure(&Config { promiscuous: true, ..Config::default() })
            .expect("a valid configuration");
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

    /// Opens a second queue, beside which frames without a receive packet are dropped. It receives no frame.
    fn open_another_queue(&mut self) -> Queue<Packets> {
        self.drops = true;
        self.controller.open_queue(QueueOptions::default()).expect("a queue")
    }

    /// Returns the counters of all components, and checks that no frame has ended twice.
    fn counts(&self) -> FrameCounts {
        let received = self.received;
        let (driver, device, wire) =
            (self.controller.losses(), self.model.losses(), self.model.wire_losses());
        // Read last, so that no frame's end is seen before its beginning.
        let duplicated = self.trouble.inward.injections(ImpairmentKind::Duplicate)
            + self.trouble.outward.injections(ImpairmentKind::Duplicate);
        let counts = FrameCounts { sent: self.sent, duplicated, received, driver, device, wire };
        assert!(counts.ended() <= counts.begun(), "a frame counted twice: {counts}");
        counts
    }

    fn wait(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is_done(self) {
            assert!(Instant::now() < end, "{what} for {LIMIT:?}: {}", self.counts());
            thread::yield_now();
        }
    }

    /// Creates frames up to [`POPULATION`], as far as there are packets.
    fn populate(&mut self) {
        while self.held.len() < POPULATION
            && let Some(packet) = self.pool.pop()
        {
            self.held.push(fill(packet, &frame(1, 60)));
        }
    }

    /// Sends all held frames. Refills the receive ring first, because a frame may return before the next
    /// call.
    fn send(&mut self) {
        self.refill();
        let Self { queue, held, pool, .. } = self;
        let count = held.len();
        let mut refused = 0;
        let mut frames = held.drain(..);
        let sent = queue.send(
            || frames.next(),
            |packet, why| {
                // An impaired link can make a frame longer than the driver may send.
                refused += usize::from(why.is_some());
                pool.push(clear(packet));
            },
        );
        assert_eq!(sent.map(|sent| sent + refused), Ok(count), "the ring has room for all");
        drop(frames);
        self.sent += count as u64;
    }

    /// Fills the receive ring.
    fn refill(&mut self) {
        while let Some(packet) = self.pool.pop() {
            if let Err(packet) = self.queue.give(packet) {
                self.pool.push(packet);
                break;
            }
        }
    }

    /// Receives up to `most` frames, and holds as many as circulate: a duplicate ends here.
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

    /// Waits until no frame is in flight and each packet is back, and each frame is accounted for.
    fn settle(&mut self) -> FrameCounts {
        self.wait("frames are missing", |circuit| {
            // Sends nothing, but collects sent packets.
            let Self { queue, pool, .. } = circuit;
            queue.send(|| None, |packet, _| pool.push(clear(packet))).expect("no fault");
            circuit.receive(1024);
            circuit.refill();
            let counts = circuit.counts();
            let home = circuit.held.len() + circuit.pool.len() + circuit.queue.receive_held();
            counts.ended() == counts.begun() && home == circuit.packets
        });
        self.counts()
    }

    /// Sends all frames at once and stays away.
    fn send_and_stay_away(&mut self, absence: Absence) {
        self.populate();
        self.send();
        match absence {
            Absence::For(time) => {
                let start = Instant::now();
                while start.elapsed() < time {
                    std::hint::spin_loop();
                }
            }
            Absence::UntilIdle => self.wait("frames are under way", |circuit| {
                let counts = circuit.counts();
                let delivered = circuit.controller.statistics().expect("the device is present").received;
                delivered + counts.lost() == counts.begun()
                    // Frames that are not dropped wait for the driver.
                    || !circuit.drops && delivered - counts.received >= circuit.queue.receive_held() as u64
            }),
        }
    }

    /// Forwards [`EXCHANGES`] times, `batch` frames at a time.
    fn forward(&mut self, batch: usize) {
        for _ in 0..EXCHANGES {
            self.send();
            self.receive(batch);
        }
    }

    /// Performs a round: all frames are held, then in flight without a receiver, then circulate.
    fn round(&mut self, number: u32, absence: Absence) -> FrameCounts {
        self.send_and_stay_away(absence);
        self.forward([1, 8, 32, 256][number as usize % 4]);
        self.settle()
    }
}

#[test]
fn a_late_driver_with_one_queue_loses_nothing() {
    idle_and_busy(|| {
        // Also with a quarter of the required packets.
        for (absence, receive_depth) in ABSENCES.into_iter().zip([1024, 256, 1024, 256]) {
            let mut circuit = Circuit::new(receive_depth, Loopback::new(4096), "");
            for number in 0..rounds() {
                let counts = circuit.round(number, absence);
                assert_eq!(
                    counts.lost(),
                    0,
                    "round {number}, {absence:?}, {receive_depth} buffers: {counts}"
                );
                assert_eq!(circuit.held.len(), POPULATION);
            }
        }
    });
}

#[test]
fn a_late_driver_with_packets_for_all_frames_loses_nothing_beside_another_queue() {
    idle_and_busy(|| {
        for absence in ABSENCES {
            let mut circuit = Circuit::new(1024, Loopback::new(4096), "");
            let _other = circuit.open_another_queue();
            for number in 0..rounds() {
                let counts = circuit.round(number, absence);
                assert_eq!(counts.lost(), 0, "round {number}, {absence:?}: {counts}");
                assert_eq!(circuit.held.len(), POPULATION);
            }
        }
    });
}

#[test]
fn frames_that_a_late_driver_has_no_packets_for_are_counted() {
    idle_and_busy(|| {
        for absence in ABSENCES {
            let mut circuit = Circuit::new(256, Loopback::new(4096), "");
            for number in 0..rounds() {
                // Opening and closing a second queue changes the bit that has frames dropped.
                let other = circuit.open_another_queue();
                let before = circuit.counts().lost();
                circuit.send_and_stay_away(absence);
                if let Absence::UntilIdle = absence {
                    let lost = circuit.counts().lost() - before;
                    assert_eq!(lost, POPULATION as u64 - 255, "round {number}: {}", circuit.counts());
                }
                circuit.forward([1, 8, 32, 256][number as usize % 4]);
                drop(other);
                let counts = circuit.settle();
                let FrameCounts { driver, device, wire, .. } = counts;
                assert_eq!(
                    (driver.sum(), device.sum(), wire.sum()),
                    (0, device.no_descriptors, 0),
                    "{counts}"
                );
                let statistics = circuit.controller.statistics().expect("the device is present");
                assert_eq!(statistics.missed, device.no_descriptors, "{counts}");
            }
        }
    });
}

#[test]
fn frames_lost_on_an_impaired_link_are_counted() {
    const RULES: &str = "drop:1/50+duplicate:1/100+corrupt:1/100+garble:1/100+truncate:1/100+cut:1/100+extend:1/100\
                         +delay:1/100:20us+reorder:1/50:20us+flap:1/5000:500us";
    idle_and_busy(|| {
        for absence in [Absence::For(Duration::ZERO), Absence::For(Duration::from_millis(2))] {
            for has_other in [false, true] {
                let mut circuit = Circuit::new(256, Loopback::new(512), RULES);
                let _other = has_other.then(|| circuit.open_another_queue());
                for number in 0..rounds() {
                    circuit.populate();
                    circuit.send_and_stay_away(absence);
                    circuit.forward([1, 8, 32, 256][number as usize % 4]);
                    // Disables the receiver for a moment, with frames in flight.
                    let config = circuit.controller.config();
                    assert_eq!(circuit.controller.configure(&config), Ok(()));
                    circuit.settle();
                }
                // These happen on such a link in every run.
                let FrameCounts { device, wire, .. } = circuit.counts();
                assert!(wire.dropped > 0 && wire.damaged > 0 && device.damaged > 0, "{}", circuit.counts());
            }
        }
    });
}

#[test]
fn frames_that_overflow_a_loopback_are_counted() {
    idle_and_busy(|| {
        let mut circuit = Circuit::new(1024, Loopback::new(16), "");
        for number in 0..rounds() {
            circuit.round(number, Absence::UntilIdle);
        }
        let counts = circuit.counts();
        assert!(counts.wire.peer_full > 0, "{counts}");
        assert_eq!(counts.lost(), counts.wire.peer_full, "{counts}");
    });
}

#[test]
fn resets_lose_at_most_the_frames_that_they_count() {
    idle_and_busy(|| {
        let mut circuit = Circuit::new(1024, Loopback::new(4096), "");
        // Frames accepted before a reset may have been sent, so they may return and count as lost as well.
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
            // Frames keep their order, so when a marker sent last returns, all earlier frames have left the
            // link.
            let marker = fill(circuit.pool.pop().expect("most packets are back"), &frame(2, 99));
            let Circuit { queue, held, .. } = &mut circuit;
            let mut frames = Some(marker);
            assert_eq!(queue.send(|| frames.take(), |_, why| assert_eq!(why, None)), Ok(1));
            held.clear();
            circuit.sent += 1;
            let mut is_back = false;
            circuit.wait("the marker is missing", |circuit| {
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
            let counts = {
                let Circuit { sent, received, controller, model, .. } = &circuit;
                let (driver, device, wire) = (controller.losses(), model.losses(), model.wire_losses());
                FrameCounts { sent: *sent, duplicated: 0, received: *received, driver, device, wire }
            };
            (begun, ended) = (counts.begun(), counts.ended());
            assert!(
                ended >= begun && ended - begun <= in_doubt,
                "round {number}, {in_doubt} in doubt: {counts}"
            );
        }
        assert!(begun > 0 && ended >= begun);
    });
}
