//! Bring-up from reset to queues, and controllers that cannot be used.

mod scripted;

use std::time::Instant;

use coppice_hardware::DmaMemory;
use device_harness::Bench;
use nvme_driver::{Command, Controller, Event, Fault, NamespaceRefusal, NvmeError, Transition};
use scripted::{CAP, PostedCompletion, Scripted, namespace, options, options_without_timeouts};

fn refusal(change: impl FnOnce(&mut scripted::Script)) -> NvmeError {
    let model = Scripted::new();
    change(&mut model.script());
    model.start().map(|_| ()).expect_err("the controller cannot be used")
}

#[test]
fn a_controller_comes_up_and_is_shut_down_when_its_last_queue_is_dropped() {
    let model = Scripted::new();
    let (_bench, controller) = model.start().expect("the controller works");
    assert_eq!(&controller.info().serial, b"SCRIPT-1            ");
    assert_eq!(controller.info().max_transfer_bytes, 4096 << 5);
    assert_eq!((controller.info().max_depth, controller.info().queues), (63, 8));
    assert!(controller.info().volatile_write_cache && controller.info().deallocate);
    let queue = Scripted::queue::<DmaMemory>(&controller, 8);
    drop(controller);
    assert_eq!(model.script().shutdowns, 0, "a queue keeps the controller");
    drop(queue);
    let script = model.script();
    assert_eq!(script.shutdowns, 1);
    let deleted: Vec<u8> = script.admin.iter().map(|entry| entry[0] as u8).rev().take(2).collect();
    assert_eq!(deleted, [0x04, 0x00], "the submission queue goes first");
}

#[test]
fn a_controller_left_enabled_is_disabled_first() {
    let model = Scripted::new();
    let bench = Bench::new(model.clone(), 4096);
    let first = Controller::new(bench.device(), options()).expect("the controller works");
    std::mem::forget(first);
    assert_eq!(model.script().enables, 1);
    let second = Controller::new(bench.device(), options()).expect("the controller works again");
    assert_eq!(model.script().enables, 2);
    assert_eq!(second.namespaces().len(), 1);
}

#[test]
fn queue_sizes_and_doorbell_strides_are_taken_from_the_capabilities() {
    for (mqes, stride) in [(1, 0), (2, 3), (63, 4), (4095, 1)] {
        let model = Scripted::with(0x8000, 9);
        model.script().cap = CAP & !0xFFFF | mqes | stride << 32;
        let (bench, controller) = model.start().expect("the controller works");
        let mut queue = Scripted::queue::<DmaMemory>(&controller, 500);
        assert_eq!(u64::from(queue.depth()), mqes.min(500));
        for token in 0..u64::from(queue.depth()) {
            queue.submit(Command::flush(), None, token).expect("there is room");
        }
        assert!(queue.submit(Command::flush(), None, 0).is_err(), "at most depth commands");
        queue.ring();
        let doorbell = 0x1000 + 2 * (4 << stride);
        assert_eq!(bench.writes(doorbell), 1, "one doorbell write for all, at the stride's offset");
        let fetched = model.take();
        assert_eq!(fetched.len(), queue.depth().into());
        fetched.iter().for_each(|command| model.complete(PostedCompletion::to(command)));
        assert_eq!(queue.poll(usize::MAX, |_| ()), Ok(queue.depth().into()));
    }
}

#[test]
fn an_unsupported_controller_is_refused_with_the_reason() {
    assert_eq!(refusal(|script| script.cap |= 1 << 48), NvmeError::PageSize { smallest: 8192 });
    let none = refusal(|script| script.cap = CAP & !(0xFF << 37) | 1 << 44);
    assert_eq!(none, NvmeError::NoCommandSet { command_sets: 0x80 });
    assert_eq!(refusal(|script| script.cap &= !0xFFFF), NvmeError::Depth { depth: 1 });
    let discovery = refusal(|script| script.controller[111] = 2);
    assert_eq!(discovery, NvmeError::NotIoController { controller_type: 2 });
    let large = refusal(|script| script.controller[512] = 0x77);
    assert_eq!(large, NvmeError::EntrySizes { submission: 0x77, completion: 0x44 });
    let failed = refusal(|script| _ = script.admin_status.insert(0x06, 0x06));
    assert!(matches!(failed, NvmeError::Admin { opcode: 0x06, .. }), "{failed}");

    let short = Scripted::with(0x1000, 1).start().map(|_| ()).expect_err("no doorbells");
    assert_eq!(short, NvmeError::ShortWindow { bytes: 0x1000, needed: 0x1008 });
    let no_bar = Scripted::with(0, 1).start().map(|_| ()).expect_err("no registers");
    assert!(matches!(no_bar, NvmeError::Device(_)), "{no_bar}");
}

#[test]
fn every_wait_has_a_time_limit() {
    let start = Instant::now();
    let stuck = refusal(|script| script.stuck = true);
    assert!(
        matches!(stuck, NvmeError::Fault(Fault::Stuck { transition: Transition::Enable, .. })),
        "{stuck}"
    );
    assert!(start.elapsed().as_millis() >= 500, "the controller may take up to CAP.TO");
    let mute = refusal(|script| _ = script.swallowed.insert(0x06));
    assert!(matches!(mute, NvmeError::Fault(Fault::CommandLost { queue: 0, .. })), "{mute}");
    assert!(start.elapsed().as_secs() < 60);
}

#[test]
fn fatal_status_and_a_missing_controller_are_detected_at_once() {
    let fatal = refusal(|script| script.fatal = true);
    assert!(matches!(fatal, NvmeError::Fault(Fault::Fatal { .. })), "{fatal}");
    let model = Scripted::new();
    let bench = Bench::new(model, 64);
    bench.intercept(|_| None);
    let gone = Controller::new(bench.device(), options()).map(|_| ()).expect_err("the controller is gone");
    assert_eq!(gone, NvmeError::Fault(Fault::Gone));
}

#[test]
fn unusable_namespaces_are_listed_with_the_reason() {
    let model = Scripted::new();
    {
        let mut script = model.script();
        let mut metadata = namespace(100, 12);
        metadata[128] = 8;
        let mut protected = namespace(100, 12);
        protected[29] = 1;
        script.namespaces.extend([
            (2, namespace(50, 12)),
            (3, metadata),
            (7, protected),
            (9, namespace(9, 18)),
        ]);
    }
    let (_bench, controller) = model.start().expect("the controller works");
    let usable: Vec<_> = controller.namespaces().iter().map(|one| (one.id(), one.block_bytes())).collect();
    assert_eq!(usable, [(1, 512), (2, 4096)]);
    assert_eq!(
        controller.refused_namespaces(),
        [
            (3, NamespaceRefusal::Metadata { bytes: 8 }),
            (7, NamespaceRefusal::Protection { settings: 1 }),
            (9, NamespaceRefusal::LargeBlocks { bytes: 1 << 18, limit: 1 << 17 }),
        ]
    );
}

#[test]
fn a_queue_without_an_interrupt_is_polled() {
    for vectors in [0, 1, 2] {
        let model = Scripted::with(0x4000, vectors);
        let (bench, controller) = model.start_with(options_without_timeouts()).expect("the controller works");
        let mut queues = [Scripted::queue::<DmaMemory>(&controller, 4), Scripted::queue(&controller, 4)];
        for queue in &mut queues {
            queue.submit(Command::flush(), None, 1).expect("there is room");
            queue.ring();
            let commands = model.take();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(std::time::Duration::from_millis(3));
                    commands.iter().for_each(|command| model.complete(PostedCompletion::to(command)));
                });
                assert_eq!(queue.wait(bench.now_ns() + 60_000_000_000), Ok(true), "{vectors} vectors");
            });
            assert_eq!(queue.poll(8, |_| ()), Ok(1));
        }
    }
}

#[test]
fn queues_are_limited_and_a_closed_one_can_be_opened_again() {
    let model = Scripted::new();
    model.script().queues = 2;
    let (_bench, controller) = model.start().expect("the controller works");
    let first = Scripted::queue::<DmaMemory>(&controller, 4);
    let _second = Scripted::queue::<DmaMemory>(&controller, 4);
    let namespace = controller.namespaces()[0];
    let third = controller.open_queue::<DmaMemory>(&namespace, 4).map(|_| ());
    assert_eq!(third, Err(NvmeError::NoQueue { queues: 2 }));
    drop(first);
    assert!(controller.open_queue::<DmaMemory>(&namespace, 4).is_ok());
    assert_eq!(
        controller.open_queue::<DmaMemory>(&namespace, 0).map(|_| ()),
        Err(NvmeError::Depth { depth: 0 })
    );
}

#[test]
fn a_queue_that_the_controller_refuses_leaves_its_identifier_free() {
    let model = Scripted::new();
    model.script().queues = 1;
    let (_bench, controller) = model.start().expect("the controller works");
    let namespace = controller.namespaces()[0];
    for opcode in [0x05, 0x01] {
        model.script().admin_status.insert(opcode, 0x02);
        let refused = controller.open_queue::<DmaMemory>(&namespace, 4).map(|_| ());
        assert!(matches!(refused, Err(NvmeError::Admin { .. })), "{refused:?}");
        model.script().admin_status.clear();
    }
    assert!(controller.open_queue::<DmaMemory>(&namespace, 4).is_ok());
}

#[test]
fn events_are_reported_and_requested_again() {
    let model = Scripted::new();
    let (bench, controller) = model.start().expect("the controller works");
    assert_eq!(controller.next_event(), Ok(None));
    for round in 0..20 {
        assert!(model.event(0x02_01_01), "round {round}: an event request is pending");
        let event = controller.wait_event(bench.now_ns() + 1_000_000_000);
        assert_eq!(event, Ok(Some(Event::Health { information: 1 })));
    }
    let before = bench.now_ns();
    assert_eq!(controller.wait_event(before + 20_000_000), Ok(None));
    assert!(bench.now_ns() - before >= 20_000_000);
}
