use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::*;
use crate::host::DmaError;
use crate::model::{ClassCode, MsixLayout};
use crate::presence::Presence;
use crate::test_host::TestHost;

/// A limit that only a broken thread exceeds.
const LIMIT: Duration = Duration::from_secs(60);
const REQUEST: u32 = 1;
const PORT: u32 = 1 << 1;
const REGISTER: u32 = 1 << 2;

/// The state of a device with one register, which signals each write.
struct TestState {
    signal: WorkSignal,
    register: AtomicU64,
    presence: Presence,
}

struct TestModel {
    thread: ModelThread<TestFrontend, u64>,
    shared: Arc<TestState>,
    /// The events of the engine.
    events: Mutex<Receiver<Event>>,
}

struct TestFrontend(Arc<TestState>);

/// An event of the engine.
#[derive(PartialEq, Eq, Debug)]
enum Event {
    Register(u64),
    Command(u64),
    Reset { is_visible: bool, port_is_open: bool },
    Dropped,
}

struct TestEngine {
    shared: Arc<TestState>,
    port: Arc<DmaPort>,
    events: Sender<Event>,
    is_asleep: Arc<AtomicBool>,
}

impl Drop for TestEngine {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Dropped);
    }
}

impl ModelFrontend for TestFrontend {
    const REQUEST_BIT: u32 = REQUEST;
    const PORT_BIT: u32 = PORT;

    fn work_signal(&self) -> &WorkSignal {
        &self.0.signal
    }

    fn read(&self, _: u64, _: u8) -> u64 {
        self.0.register.load(Ordering::Relaxed)
    }

    fn write(&self, _: u64, _: u8, value: u64) {
        self.0.register.store(value, Ordering::Relaxed);
        self.0.signal.notify(REGISTER);
    }

    fn presence(&self) -> &Presence {
        &self.0.presence
    }

    fn unplug_ns(&self) -> u64 {
        u64::MAX
    }
}

impl TestEngine {
    fn reset(&self) {
        let is_visible = !self.shared.presence.is_unplugged();
        let _ = self.events.send(Event::Reset { is_visible, port_is_open: self.port.is_open() });
    }
}

impl ModelEngine for TestEngine {
    type Command = u64;

    fn spin_ns(&self) -> u64 {
        0
    }

    fn set_time(&mut self, _: u64) {}

    fn is_timed(&self) -> bool {
        false
    }

    fn step(&mut self, inbox: &Inbox<ModelRequest<u64>>) -> Step {
        let signals = self.shared.signal.take();
        if signals == 0 {
            return Step::Idle;
        }
        self.is_asleep.store(false, Ordering::Relaxed);
        if signals & REGISTER != 0 {
            let _ = self.events.send(Event::Register(self.shared.register.load(Ordering::Relaxed)));
        }
        let stop = inbox.serve(|request| match request {
            ModelRequest::Reset => self.reset(),
            ModelRequest::Replug => {
                self.shared.presence.replug(|| self.reset());
            }
            ModelRequest::Stop => {}
            ModelRequest::Command(number) => {
                let _ = self.events.send(Event::Command(number));
            }
        });
        if stop { Step::Stop } else { Step::Worked }
    }

    fn has_work(&self) -> bool {
        self.is_asleep.store(true, Ordering::Relaxed);
        false
    }

    fn idle_ns(&self, _: u64) -> Option<u64> {
        None
    }
}

impl TestModel {
    fn new() -> (Self, Arc<DmaPort>, Arc<AtomicBool>) {
        let shared = Arc::new(TestState {
            signal: WorkSignal::new(),
            register: AtomicU64::new(0),
            presence: Presence::new(),
        });
        let port = Arc::new(DmaPort::new());
        let (sender, events) = channel();
        let is_asleep = Arc::new(AtomicBool::new(false));
        let engine = TestEngine {
            shared: shared.clone(),
            port: port.clone(),
            events: sender,
            is_asleep: is_asleep.clone(),
        };
        let identity = PciIdentity {
            vendor: 0x1234,
            device: 1,
            class: ClassCode { base: 1, sub: 8, interface: 2 },
            revision: 0,
            subsystem_vendor: 0,
            subsystem: 0,
            bars: Vec::new(),
            msix: MsixLayout { vectors: 1, bar: 4 },
        };
        let frontend = TestFrontend(shared.clone());
        let thread = ModelThread::start("test-model", identity, frontend, port.clone(), engine);
        let thread = thread.expect("the host has threads");
        (Self { thread, shared, events: Mutex::new(events) }, port, is_asleep)
    }

    /// Waits for the next event.
    fn event(&self) -> Event {
        let events = self.events.lock().expect("no thread panics with the lock held");
        events.recv_timeout(LIMIT).expect("the thread handles its signals")
    }
}

#[test]
fn a_sleeping_thread_sees_each_register_write_and_command() {
    let (model, _, is_asleep) = TestModel::new();
    for value in 1..=100 {
        while !is_asleep.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        model.thread.write(0, 0, 8, value);
        assert_eq!(model.event(), Event::Register(value));
        model.thread.request(ModelRequest::Command(value));
        assert_eq!(model.event(), Event::Command(value));
    }
    model.thread.write(1, 0, 8, 7);
    assert_eq!(
        (model.thread.read(0, 0, 8), model.thread.read(1, 0, 8)),
        (100, 0),
        "only BAR 0 has registers"
    );
}

#[test]
fn a_reset_closes_the_port_and_is_complete_when_it_returns() {
    let (model, port, _) = TestModel::new();
    model.thread.attach(Arc::new(TestHost::new(4096, 1))).expect("the model has no host");
    model.thread.set_bus_master(true);
    assert_eq!(port.raise(0), Ok(()));
    model.thread.reset();
    let events = model.events.lock().expect("no thread panics with the lock held").try_recv();
    assert_eq!(events, Ok(Event::Reset { is_visible: true, port_is_open: false }));
    assert_eq!(port.raise(0), Err(DmaError::Disabled));
}

#[test]
fn an_unplugged_device_ignores_bus_mastering_and_is_visible_after_its_reset() {
    let (model, port, _) = TestModel::new();
    model.thread.unplug();
    model.thread.set_bus_master(true);
    assert!(!port.is_open() && !model.thread.is_present());
    model.thread.request(ModelRequest::Replug);
    assert_eq!(model.event(), Event::Reset { is_visible: false, port_is_open: false });
    assert!(model.thread.is_present());
    assert_eq!(model.thread.insertions(), 1);
    model.thread.set_bus_master(true);
    assert!(port.is_open());
}

#[test]
fn dropping_the_model_closes_its_port_and_ends_its_thread() {
    let (model, port, _) = TestModel::new();
    model.thread.set_bus_master(true);
    let TestModel { thread, shared, events } = model;
    drop(thread);
    assert!(!port.is_open());
    let events = events.into_inner().expect("no thread panics with the lock held");
    assert_eq!(events.try_recv(), Ok(Event::Dropped), "the thread has ended before the drop returns");
    assert_eq!(Arc::strong_count(&shared), 1);
}
