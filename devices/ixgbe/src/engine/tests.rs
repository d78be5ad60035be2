use std::sync::{Mutex, PoisonError};

use device_bus::{Bench, Rate as Occasions};
use device_link::End;

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
    let port = Arc::new(Port::new());
    port.attach(Arc::new(Bench::new(1 << 20, 64))).expect("a new port");
    port.set_open(true);
    let registers = Arc::new(Registers::new(mac, Serial::new(mac, Chip::I82599.device_id(), false)));
    let faults = Arc::new(FaultInjector::new(1, &Rule::parse_all("unplug:never").expect("a rule")));
    Engine::new(registers, port, faults, Wire::new(device_link::Rate::Unlimited, end), 0, 0)
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
    assert!(engine.registers.attention.is_called(attention::RESET));
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
    assert!(!engine.registers.attention.is_called(attention::RESET));
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
