use std::sync::{Mutex, PoisonError};

use device_bus::{MIN_SLEEP_NS, POLLS_PER_CLOCK_READ, Rate as Occasions, SleepTime, TestHost};
use device_link::{End, Loopback, Trouble, TroubleKind, TroubleRule};

use super::*;
use crate::config::Chip;
use crate::fault_injection::{Kind, Rule};
use crate::serial::Serial;

/// What a test does whenever the device's thread asks whether the link is up, which it also does within a reset.
type Look = Box<dyn FnMut() + Send>;

/// An end with nothing to give.
#[derive(Clone)]
struct Looker(Arc<Mutex<Look>>);

impl Looker {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Box::new(|| ()))))
    }

    fn set(&self, look: impl FnMut() + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(look);
    }
}

impl End for Looker {
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

/// An engine without a thread, which does what a test has it do. Its port is open.
fn engine(end: Box<dyn End>) -> Engine {
    let mac = [2, 0, 0, 0, 0, 1];
    let port = Arc::new(DmaPort::new());
    port.attach(Arc::new(TestHost::new(1 << 20, 64))).expect("a new port");
    port.set_open(true);
    let registers = Arc::new(Registers::new(mac, Serial::new(mac, Chip::I82599.device_id(), false)));
    let faults = Arc::new(FaultInjector::new(1, &Rule::parse_all("unplug:never").expect("a rule")));
    Engine::new(registers, port, faults, Wire::new(Rate::Unlimited, end), 0, 0)
}

/// A counter that a look adds to.
fn counter() -> (Arc<Mutex<u32>>, impl Fn() -> u32) {
    let count = Arc::new(Mutex::new(0));
    let read = count.clone();
    (count, move || *read.lock().unwrap_or_else(PoisonError::into_inner))
}

fn add(count: &Mutex<u32>) {
    *count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
}

#[test]
fn a_device_is_reset_and_its_port_closed_before_it_is_visible() {
    let end = Looker::new();
    let mut engine = engine(Box::new(end.clone()));
    engine.faults.unplug();
    let (faults, port) = (engine.faults.clone(), engine.port.clone());
    let (count, looks) = counter();
    end.set(move || {
        assert!(faults.is_unplugged(), "it is visible during its reset");
        assert!(!port.is_open(), "its port is open during its reset");
        add(&count);
    });
    engine.replug();
    assert!(!engine.faults.is_unplugged() && !engine.port.is_open());
    assert_eq!((looks(), engine.faults.insertions()), (1, 1));
}

#[test]
fn a_reset_that_is_asked_for_during_another_is_not_over_with_that() {
    let end = Looker::new();
    let mut engine = engine(Box::new(end.clone()));
    let inbox = Inbox::default();
    let registers = engine.registers.clone();
    registers.write(CTRL, 4, CTRL_RST.into());
    let mut is_first = true;
    end.set(move || {
        if std::mem::take(&mut is_first) {
            registers.write(CTRL, 4, CTRL_RST.into());
            // Writing a bit that clears itself as 0 does not call a reset off.
            registers.write(CTRL, 4, 0);
        }
    });
    assert!(matches!(engine.step(&inbox), Step::Worked));
    assert_eq!(engine.registers.image.get(CTRL) & CTRL_RESETS, CTRL_RST, "the second is still to come");
    assert!(engine.registers.work_signal.is_set(work::RESET));
    assert!(matches!(engine.step(&inbox), Step::Worked));
    assert_eq!(engine.registers.image.get(CTRL), 0);
}

#[test]
fn a_function_level_reset_leaves_no_reset_of_the_last_driver_to_be_done() {
    let end = Looker::new();
    let mut engine = engine(Box::new(end.clone()));
    let registers = engine.registers.clone();
    end.set(move || registers.write(CTRL, 4, CTRL_RST.into()));
    engine.reset_function();
    assert!(!engine.registers.work_signal.is_set(work::RESET));
    assert_eq!(engine.registers.image.get(CTRL), 0);
    assert!(!engine.port.is_open());
}

#[test]
fn a_stuck_reset_bit_is_stuck_until_the_function_level_reset_is_complete() {
    let end = Looker::new();
    let mut engine = engine(Box::new(end.clone()));
    let (faults, registers) = (engine.faults.clone(), engine.registers.clone());
    faults.set_rate(Kind::StuckReset, Occasions::Once(1));
    faults.write(&registers, CTRL, 4, CTRL_RST.into());
    engine.step(&Inbox::default());
    let is_over = move || faults.read(&registers, CTRL, 4) & u64::from(CTRL_RST) == 0;
    assert!(!is_over());
    let (count, looks) = counter();
    let is_over_within = is_over.clone();
    end.set(move || {
        assert!(!is_over_within(), "a driver that polls it goes on during the reset");
        add(&count);
    });
    engine.reset_function();
    assert!(is_over());
    assert_eq!(looks(), 1);
}

#[test]
fn a_device_that_hangs_does_so_until_it_is_reset() {
    let mut engine = engine(Box::new(Looker::new()));
    engine.faults.hang();
    engine.faults.write(&engine.registers, CTRL, 4, CTRL_RST.into());
    assert!(!engine.faults.lets_work(), "it would go on with queues that are about to be reset");
    engine.step(&Inbox::default());
    assert!(engine.faults.lets_work());
}

/// Frames that wait at the other side of a wire, which may be dark.
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    is_up: bool,
}

impl Waiting {
    fn new(is_up: bool) -> Self {
        Self { frames: (0..100).map(|byte| vec![byte; 60]).collect(), current: Vec::new(), is_up }
    }
}

impl End for Waiting {
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
/// More looks than any work of these tests needs, before the device's thread sleeps.
const MOST_LOOKS: u32 = 1000;

/// Has the engine look, at one moment, until its thread would sleep; for how long.
fn rest_after_looks(engine: &mut Engine, what: &str) -> SleepTime {
    let inbox = Inbox::default();
    engine.now_ns = NOW_NS;
    let mut idle = 0;
    for _ in 0..MOST_LOOKS {
        idle = if matches!(engine.step(&inbox), Step::Worked) { 0 } else { idle + 1 };
        if idle < POLLS_PER_CLOCK_READ || engine.is_due_soon(NOW_NS) {
            continue;
        }
        match engine.sleep_time(NOW_NS) {
            SleepTime::HasWork => {}
            rest => return rest,
        }
    }
    panic!("{what}: the thread looks for ever");
}

#[test]
fn frames_that_wait_while_the_link_is_down_let_the_thread_sleep() {
    let mut dark = engine(Box::new(Waiting::new(false)));
    assert_eq!(rest_after_looks(&mut dark, "a dark fibre"), SleepTime::UntilNotified);

    let trouble = Arc::new(Trouble::new(1, &[], &[]));
    let mut cut = engine(Box::new(Waiting::new(true)));
    cut.wire = Wire::new(Rate::Unlimited, Box::new(Waiting::new(true))).with_trouble(trouble.clone());
    trouble.set_cut(true);
    assert_eq!(rest_after_looks(&mut cut, "a cut cable"), SleepTime::UntilNotified);
    trouble.set_cut(false);
    cut.step(&Inbox::default());
    assert!(cut.is_up);

    let mut late = engine(Box::new(Waiting::new(true)));
    late.link_due_ns = NOW_NS + 5_000_000;
    assert_eq!(rest_after_looks(&mut late, "a link that is being set up"), SleepTime::For(5_000_000));
}

#[test]
fn a_link_that_flaps_is_looked_at_when_it_can_be_up() {
    let flap =
        TroubleRule { kind: TroubleKind::Flap, rate: Occasions::Once(1), duration_ns: Some(20_000_000) };
    let trouble = Arc::new(Trouble::new(1, &[flap], &[]));
    let mut engine = engine(Box::new(Waiting::new(true)));
    engine.wire = Wire::new(Rate::Unlimited, Box::new(Waiting::new(true))).with_trouble(trouble);
    assert_eq!(rest_after_looks(&mut engine, "a flap"), SleepTime::For(20_000_000));
    assert!(!engine.is_up);
    engine.now_ns = NOW_NS + 20_000_000;
    engine.step(&Inbox::default());
    assert!(engine.is_up);
}

#[test]
fn frames_that_the_device_does_not_take_let_the_thread_sleep() {
    let mut looped = engine(Box::new(Waiting::new(true)));
    looped.registers.write(HLREG0, 4, HLREG0_LPBK.into());
    assert_eq!(rest_after_looks(&mut looped, "a port in loopback"), SleepTime::UntilNotified);

    let mut hung = engine(Box::new(Waiting::new(true)));
    hung.faults.hang();
    assert_eq!(rest_after_looks(&mut hung, "a device that hangs"), SleepTime::UntilNotified);

    let mut unplugged = engine(Box::new(Waiting::new(true)));
    unplugged.faults.unplug();
    assert!(
        matches!(rest_after_looks(&mut unplugged, "no device"), SleepTime::For(nap) if nap > u64::MAX / 2)
    );

    for closes_port in [true, false] {
        let mut barred = engine(Box::new(Waiting::new(true)));
        barred.registers.write(RXCTRL, 4, RXCTRL_RXEN.into());
        match closes_port {
            true => barred.port.set_open(false),
            false => barred.registers.write(CTRL, 4, CTRL_MASTER_DISABLE.into()),
        }
        assert_eq!(rest_after_looks(&mut barred, "no access to memory"), SleepTime::UntilNotified);
    }
}

#[test]
fn frames_to_be_sent_let_the_thread_sleep_until_the_wire_is_free() {
    let mut engine = engine(Box::new(Looker::new()));
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
    let rest = rest_after_looks(&mut engine, "a slow wire");
    assert!(matches!(rest, SleepTime::For(nap) if nap > MIN_SLEEP_NS), "{rest:?}");
    let head = engine.registers.tx[0].head();
    assert!((1..4).contains(&head), "some were sent, and some wait: {head}");
    // Without a port to fetch them through they wait for a call.
    engine.port.set_open(false);
    let rest = rest_after_looks(&mut engine, "a closed port");
    assert!(matches!(rest, SleepTime::For(_) | SleepTime::UntilNotified), "{rest:?}");
    engine.wire = Wire::new(Rate::Unlimited, Box::new(Looker::new()));
    engine.port.set_open(true);
    assert_eq!(rest_after_looks(&mut engine, "a free wire"), SleepTime::UntilNotified);
    assert_eq!(engine.registers.tx[0].head(), 4);
}

#[test]
fn an_interrupt_that_is_held_back_comes_while_the_link_is_down() {
    let mut engine = engine(Box::new(Waiting::new(false)));
    // EITR of vector 0: 500 units of 2 us. Without MSI-X it is the vector of all causes.
    engine.registers.write(EITR, 4, 500 << 3);
    engine.registers.write(EIMS, 4, CAUSE_LINK.into());
    for _ in 0..2 {
        engine.registers.interrupts.other_event(CAUSE_LINK);
        engine.now_ns = NOW_NS;
        engine.step(&Inbox::default());
    }
    assert_eq!(rest_after_looks(&mut engine, "an interrupt"), SleepTime::For(1_000_000));
}
