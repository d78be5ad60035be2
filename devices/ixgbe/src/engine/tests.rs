use std::sync::{Mutex, PoisonError};

use device_bus::{MIN_SLEEP_NS, ModelEngine, POLLS_PER_CLOCK_READ, Rate as Occasions, SleepTime, TestHost};
use device_link::{Impairment, ImpairmentKind, ImpairmentRule, Loopback, Peer};

use super::*;
use crate::config::Chip;
use crate::fault_injection::{Fault, Rule};
use crate::serial::Serial;

/// A function that a test runs whenever the device's thread reads the state of the link, which it also does
/// within a reset.
type Observer = Box<dyn FnMut() + Send>;

/// A peer without frames, which calls a test's function.
#[derive(Clone)]
struct ObservedPeer(Arc<Mutex<Observer>>);

impl ObservedPeer {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Box::new(|| ()))))
    }

    fn set(&self, observer: impl FnMut() + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(observer);
    }
}

impl Peer for ObservedPeer {
    fn take(&mut self, _: &[u8], _: u64) {}

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        None
    }

    fn due_ns(&self) -> Option<u64> {
        None
    }

    fn is_up(&self) -> bool {
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))();
        true
    }
}

/// An engine without a thread, for a test to step. Its port is open.
fn engine(peer: Box<dyn Peer>) -> Engine {
    let mac = [2, 0, 0, 0, 0, 1];
    let port = Arc::new(DmaPort::new());
    port.attach(Arc::new(TestHost::new(1 << 20, 64))).expect("a new port");
    port.set_open(true);
    let registers = Arc::new(Registers::new(mac, Serial::new(mac, Chip::I82599.device_id(), false)));
    let faults = Arc::new(FaultInjector::new(1, &Rule::parse_all("unplug:never").expect("a rule")));
    Engine::new(registers, port, faults, Wire::new(Rate::Unlimited, peer), 0, 0)
}

/// A counter for the calls of a test's function.
fn counter() -> (Arc<Mutex<u32>>, impl Fn() -> u32) {
    let count = Arc::new(Mutex::new(0));
    let read = count.clone();
    (count, move || *read.lock().unwrap_or_else(PoisonError::into_inner))
}

fn add(count: &Mutex<u32>) {
    *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
}

#[test]
fn a_replugged_device_is_reset_and_its_port_closed_before_it_is_visible() {
    let peer = ObservedPeer::new();
    let mut engine = engine(Box::new(peer.clone()));
    engine.faults.unplug();
    let (faults, port) = (engine.faults.clone(), engine.port.clone());
    let (count, observed) = counter();
    peer.set(move || {
        assert!(faults.is_unplugged(), "it is visible during its reset");
        assert!(!port.is_open(), "its port is open during its reset");
        add(&count);
    });
    engine.replug();
    assert!(!engine.faults.is_unplugged() && !engine.port.is_open());
    assert_eq!((observed(), engine.faults.presence().insertions()), (1, 1));
}

#[test]
fn a_reset_requested_during_another_does_not_end_with_it() {
    let peer = ObservedPeer::new();
    let mut engine = engine(Box::new(peer.clone()));
    let inbox = Inbox::default();
    let registers = engine.registers.clone();
    registers.write(CTRL, 4, CTRL_RST.into());
    let mut is_first = true;
    peer.set(move || {
        if std::mem::take(&mut is_first) {
            registers.write(CTRL, 4, CTRL_RST.into());
            // A write of 0 to a bit that clears itself does not cancel the reset.
            registers.write(CTRL, 4, 0);
        }
    });
    assert!(matches!(engine.step(&inbox), Step::Worked));
    assert_eq!(engine.registers.image.get(CTRL) & CTRL_RESETS, CTRL_RST, "the second is still to come");
    assert!(engine.registers.work_signal.is_set(signal::RESET));
    assert!(matches!(engine.step(&inbox), Step::Worked));
    assert_eq!(engine.registers.image.get(CTRL), 0);
}

#[test]
fn a_function_level_reset_cancels_the_resets_of_the_last_driver() {
    let peer = ObservedPeer::new();
    let mut engine = engine(Box::new(peer.clone()));
    let registers = engine.registers.clone();
    peer.set(move || registers.write(CTRL, 4, CTRL_RST.into()));
    engine.reset_function();
    assert!(!engine.registers.work_signal.is_set(signal::RESET));
    assert_eq!(engine.registers.image.get(CTRL), 0);
    assert!(!engine.port.is_open());
}

#[test]
fn a_stuck_reset_bit_stays_set_until_the_function_level_reset_is_complete() {
    let peer = ObservedPeer::new();
    let mut engine = engine(Box::new(peer.clone()));
    let (faults, registers) = (engine.faults.clone(), engine.registers.clone());
    faults.set_rate(Fault::StuckReset, Occasions::Once(1));
    faults.write(&registers, CTRL, 4, CTRL_RST.into());
    engine.step(&Inbox::default());
    let is_complete = move || faults.read(&registers, CTRL, 4) & u64::from(CTRL_RST) == 0;
    assert!(!is_complete());
    let (count, observed) = counter();
    let is_complete_within = is_complete.clone();
    peer.set(move || {
        assert!(!is_complete_within(), "a driver that polls it goes on during the reset");
        add(&count);
    });
    engine.reset_function();
    assert!(is_complete());
    assert_eq!(observed(), 1);
}

#[test]
fn a_hang_lasts_until_the_reset() {
    let mut engine = engine(Box::new(ObservedPeer::new()));
    engine.faults.hang();
    engine.faults.write(&engine.registers, CTRL, 4, CTRL_RST.into());
    assert!(!engine.faults.is_working(), "it would go on with queues that are about to be reset");
    engine.step(&Inbox::default());
    assert!(engine.faults.is_working());
}

/// A peer with frames for the device, whose link may be down.
struct WaitingFrames {
    frames: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    is_up: bool,
}

impl WaitingFrames {
    fn new(is_up: bool) -> Self {
        Self { frames: (0..100).map(|byte| vec![byte; 60]).collect(), current: Vec::new(), is_up }
    }
}

impl Peer for WaitingFrames {
    fn take(&mut self, _: &[u8], _: u64) {}

    fn give(&mut self, _: u64) -> Option<Frame<'_>> {
        self.current = self.frames.pop_front()?;
        Some(Frame { bytes: &self.current, damage: None })
    }

    fn due_ns(&self) -> Option<u64> {
        (!self.frames.is_empty()).then_some(0)
    }

    fn is_up(&self) -> bool {
        self.is_up
    }
}

const NOW_NS: u64 = 1_000_000_000;
/// More polls than the work of any test needs before the device's thread sleeps.
const MOST_POLLS: u32 = 1000;

/// Polls the engine, at one moment, until its thread would sleep. Returns the time of the sleep.
fn rest_after_polls(engine: &mut Engine, what: &str) -> SleepTime {
    let inbox = Inbox::default();
    engine.now_ns = NOW_NS;
    let mut idle = 0;
    for _ in 0..MOST_POLLS {
        idle = if matches!(engine.step(&inbox), Step::Worked) { 0 } else { idle + 1 };
        if idle < POLLS_PER_CLOCK_READ || engine.is_due_soon(NOW_NS) {
            continue;
        }
        match engine.sleep_time(NOW_NS) {
            SleepTime::HasWork => {}
            rest => return rest,
        }
    }
    panic!("{what}: the thread never sleeps");
}

#[test]
fn the_thread_sleeps_although_frames_wait_behind_a_link_that_is_down() {
    let mut down = engine(Box::new(WaitingFrames::new(false)));
    assert_eq!(rest_after_polls(&mut down, "no link"), SleepTime::UntilNotified);

    let impairment = Arc::new(Impairment::new(1, &[], &[]));
    let mut cut = engine(Box::new(WaitingFrames::new(true)));
    cut.wire =
        Wire::new(Rate::Unlimited, Box::new(WaitingFrames::new(true))).with_impairment(impairment.clone());
    impairment.set_cut(true);
    assert_eq!(rest_after_polls(&mut cut, "a cut cable"), SleepTime::UntilNotified);
    impairment.set_cut(false);
    cut.step(&Inbox::default());
    assert!(cut.is_up);

    let mut late = engine(Box::new(WaitingFrames::new(true)));
    late.link_due_ns = NOW_NS + 5_000_000;
    assert_eq!(rest_after_polls(&mut late, "a link that is being set up"), SleepTime::For(5_000_000));
}

#[test]
fn a_flapping_link_is_checked_at_the_end_of_the_flap() {
    let flap = ImpairmentRule {
        kind: ImpairmentKind::Flap,
        rate: Occasions::Once(1),
        duration_ns: Some(20_000_000),
    };
    let impairment = Arc::new(Impairment::new(1, &[flap], &[]));
    let mut engine = engine(Box::new(WaitingFrames::new(true)));
    engine.wire = Wire::new(Rate::Unlimited, Box::new(WaitingFrames::new(true))).with_impairment(impairment);
    assert_eq!(rest_after_polls(&mut engine, "a flap"), SleepTime::For(20_000_000));
    assert!(!engine.is_up);
    engine.now_ns = NOW_NS + 20_000_000;
    engine.step(&Inbox::default());
    assert!(engine.is_up);
}

#[test]
fn the_thread_sleeps_although_frames_wait_that_the_device_cannot_take() {
    let mut looped = engine(Box::new(WaitingFrames::new(true)));
    looped.registers.write(HLREG0, 4, HLREG0_LPBK.into());
    assert_eq!(rest_after_polls(&mut looped, "a port in loopback"), SleepTime::UntilNotified);

    let mut hung = engine(Box::new(WaitingFrames::new(true)));
    hung.faults.hang();
    assert_eq!(rest_after_polls(&mut hung, "a device that hangs"), SleepTime::UntilNotified);

    let mut unplugged = engine(Box::new(WaitingFrames::new(true)));
    unplugged.faults.unplug();
    assert!(
        matches!(rest_after_polls(&mut unplugged, "no device"), SleepTime::For(nap) if nap > u64::MAX / 2)
    );

    for closes_port in [true, false] {
        let mut blocked = engine(Box::new(WaitingFrames::new(true)));
        blocked.registers.write(RXCTRL, 4, RXCTRL_RXEN.into());
        match closes_port {
            true => blocked.port.set_open(false),
            false => blocked.registers.write(CTRL, 4, CTRL_MASTER_DISABLE.into()),
        }
        assert_eq!(rest_after_polls(&mut blocked, "no access to memory"), SleepTime::UntilNotified);
    }
}

#[test]
fn the_thread_sleeps_until_the_wire_is_free_for_the_next_frame() {
    let mut engine = engine(Box::new(ObservedPeer::new()));
    engine.wire = Wire::new(Rate::BitsPerSecond(1_000_000), Box::new(Loopback::new(1)));
    let bench = Arc::new(TestHost::new(1 << 20, 64));
    engine.port = Arc::new(DmaPort::new());
    engine.port.attach(bench.clone()).expect("a new port");
    engine.port.set_open(true);
    let (descriptors, buffer) = (bench.allocate(1024), bench.allocate(2048));
    // DEXT, a data descriptor, EOP, IFCS; 1000 bytes.
    let word = 1 << 29 | 3 << 20 | 1 << 24 | 1 << 25 | 1000 | 1000 << 46;
    for index in 0..4 {
        bench.poke(descriptors + 16 * index, &[buffer, word].map(u64::to_le_bytes).concat());
    }
    let write = |engine: &Engine, offset, value| engine.registers.write(offset, 4, value);
    write(&engine, TX_QUEUES + queue::BAL, descriptors);
    write(&engine, TX_QUEUES + queue::LEN, 1024);
    write(&engine, DMATXCTL, DMATXCTL_TE.into());
    write(&engine, TX_QUEUES + queue::DCTL, queue::DCTL_ENABLE.into());
    write(&engine, TX_QUEUES + queue::TAIL, 4);
    let rest = rest_after_polls(&mut engine, "a slow wire");
    assert!(matches!(rest, SleepTime::For(nap) if nap > MIN_SLEEP_NS), "{rest:?}");
    let head = engine.registers.tx[0].head();
    assert!((1..4).contains(&head), "some were sent, and some wait: {head}");
    // With the port closed, the frames wait for a signal.
    engine.port.set_open(false);
    let rest = rest_after_polls(&mut engine, "a closed port");
    assert!(matches!(rest, SleepTime::For(_) | SleepTime::UntilNotified), "{rest:?}");
    engine.wire = Wire::new(Rate::Unlimited, Box::new(ObservedPeer::new()));
    engine.port.set_open(true);
    assert_eq!(rest_after_polls(&mut engine, "a free wire"), SleepTime::UntilNotified);
    assert_eq!(engine.registers.tx[0].head(), 4);
}

#[test]
fn a_throttled_interrupt_is_sent_while_the_link_is_down() {
    let mut engine = engine(Box::new(WaitingFrames::new(false)));
    // EITR of vector 0: 500 units of 2 us. Without MSI-X it is the vector of all causes.
    engine.registers.write(EITR, 4, 500 << 3);
    engine.registers.write(EIMS, 4, CAUSE_LINK.into());
    for _ in 0..2 {
        engine.registers.interrupts.other_event(CAUSE_LINK);
        engine.now_ns = NOW_NS;
        engine.step(&Inbox::default());
    }
    assert_eq!(rest_after_polls(&mut engine, "an interrupt"), SleepTime::For(1_000_000));
}
