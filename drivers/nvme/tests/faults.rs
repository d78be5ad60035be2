//! Controllers that violate the specification: the driver detects each violation, and frees no memory that
//! the controller may still write to.

mod scripted;

use std::thread;
use std::time::Duration;

use coppice_hardware::{Device, DmaBuffer, DmaMemory};
use device_harness::Bench;
use nvme_driver::{
    Command, CommandError, Controller, Fault, IoQueue, Meaning, NvmeError, Options, SubmitError,
};
use scripted::{Fetched, PostedCompletion, Scripted, options, options_without_timeouts};
use std::sync::Arc;

struct Rig {
    model: Arc<Scripted>,
    bench: Bench,
    controller: Controller,
    queue: IoQueue<DmaMemory>,
    memory: Device,
}

fn rig(depth: u16) -> Rig {
    rig_with(depth, options())
}

/// Creates a rig for commands that complete: a busy machine may delay a completion, but not past the command
/// timeout.
fn rig_without_timeouts(depth: u16) -> Rig {
    rig_with(depth, options_without_timeouts())
}

fn rig_with(depth: u16, options: Options) -> Rig {
    let model = Scripted::new();
    let (bench, controller) = model.start_with(options).expect("the controller works");
    let queue = Scripted::queue(&controller, depth);
    let memory = bench.device();
    Rig { model, bench, controller, queue, memory }
}

impl Rig {
    /// Submits one read for each token.
    fn read(&mut self, tokens: std::ops::Range<u64>) -> Vec<Fetched> {
        for token in tokens {
            let buffer = self.memory.dma(512).expect("memory");
            self.queue.submit(Command::read(token, 1), Some(buffer), token).expect("there is room");
        }
        self.queue.ring();
        self.model.take()
    }

    /// Resets the queue. Returns the tokens of the returned commands in order, and checks that each has its
    /// buffer.
    fn reset(&mut self) -> Vec<u64> {
        let mut tokens = Vec::new();
        let reset = self.queue.reset(|done| {
            assert!(done.buffer.is_some());
            if done.outcome == Err(CommandError::Reset) {
                tokens.push(done.token);
            }
        });
        assert_eq!(reset, Ok(()));
        tokens.sort_unstable();
        tokens
    }

    /// Checks that the queue executes commands.
    fn works(&mut self) {
        let fetched = self.read(900..903);
        assert_eq!(fetched.len(), 3);
        fetched.iter().for_each(|command| self.model.complete(PostedCompletion::to(command)));
        let mut good = 0;
        assert_eq!(self.queue.poll(8, |done| good += u32::from(done.outcome.is_ok())), Ok(3));
        assert_eq!(good, 3);
    }

    fn deadline(&self) -> u64 {
        self.bench.now_ns() + 60_000_000_000
    }
}

/// After a false completion the driver ignores the controller, the reset returns all commands, and the queue
/// works again.
fn is_detected(falsify: impl Fn(&[Fetched]) -> PostedCompletion, expected: impl Fn(&[Fetched]) -> Fault) {
    let mut rig = rig(8);
    let fetched = rig.read(0..4);
    rig.model.complete(PostedCompletion::to(&fetched[1]));
    rig.model.complete(falsify(&fetched));
    rig.model.complete(PostedCompletion::to(&fetched[2]));
    let mut good = Vec::new();
    let fault = rig.queue.poll(8, |done| good.push(done.token)).expect_err("the violation is detected");
    assert_eq!(fault, expected(&fetched));
    assert_eq!(good, [1], "only the completion before the violation counts");
    assert_eq!(rig.queue.poll(8, |_| panic!("no completion of a faulty controller counts")), Err(fault));
    assert_eq!(rig.queue.wait(rig.deadline()), Err(fault));
    let refused = rig.queue.submit(Command::flush(), None, 9).expect_err("the queue is faulty");
    assert_eq!(refused.error, SubmitError::Faulted(fault));
    assert_eq!(rig.reset(), [0, 2, 3]);
    assert_eq!(rig.controller.resets(), 1);
    rig.works();
}

#[test]
fn an_unknown_identifier_is_detected() {
    for bit in 0..16 {
        let wrong = move |fetched: &[Fetched]| fetched[0].id() ^ 1 << bit;
        is_detected(
            |fetched| PostedCompletion { id: wrong(fetched), ..PostedCompletion::to(&fetched[0]) },
            |fetched| Fault::UnknownCommand { queue: 1, command_id: wrong(fetched) },
        );
    }
}

#[test]
fn the_reserved_identifier_is_detected() {
    is_detected(
        |fetched| PostedCompletion { id: u16::MAX, ..PostedCompletion::to(&fetched[0]) },
        |_| Fault::UnknownCommand { queue: 1, command_id: u16::MAX },
    );
}

#[test]
fn a_duplicate_completion_is_detected() {
    is_detected(
        |fetched| PostedCompletion::to(&fetched[1]),
        |fetched| Fault::UnknownCommand { queue: 1, command_id: fetched[1].id() },
    );
}

#[test]
fn a_duplicate_is_found_out_when_its_slot_is_in_use_again() {
    let mut rig = rig(1);
    let first = rig.read(0..1)[0];
    rig.model.complete(PostedCompletion::to(&first));
    assert_eq!(rig.queue.poll(8, |_| ()), Ok(1));
    let second = rig.read(1..2)[0];
    assert_ne!(first.id(), second.id());
    rig.model.complete(PostedCompletion::to(&first));
    let fault = Fault::UnknownCommand { queue: 1, command_id: first.id() };
    assert_eq!(rig.queue.poll(8, |_| panic!("the second has not ended")), Err(fault));
    assert_eq!(rig.reset(), [1]);
}

#[test]
fn a_wrong_queue_is_detected() {
    is_detected(
        |fetched| PostedCompletion { submission_queue: Some(2), ..PostedCompletion::to(&fetched[0]) },
        |_| Fault::WrongQueue { queue: 1, reported: 2 },
    );
}

#[test]
fn an_impossible_head_is_detected() {
    // 4 of 9 entries are in use, so the head is neither beyond the tail nor outside of the ring. It cannot be
    // 0 either, with one command completed and three left.
    for head in [5, 8, 9, 500, u16::MAX, 0] {
        is_detected(
            |fetched| PostedCompletion { head: Some(head), ..PostedCompletion::to(&fetched[0]) },
            |_| Fault::WrongHead { queue: 1, head, tail: 4 },
        );
    }
}

#[test]
fn a_completion_without_a_command_is_detected() {
    let mut rig = rig(8);
    rig.works();
    rig.model.complete(PostedCompletion { queue: 1, id: 0, status: 0, head: None, submission_queue: None });
    assert!(matches!(rig.queue.poll(8, |_| ()), Err(Fault::UnknownCommand { .. })));
    assert!(rig.reset().is_empty());
    rig.works();
}

#[test]
fn a_false_completion_of_an_admin_command_is_detected() {
    let mut rig = rig(8);
    rig.read(0..2);
    rig.model.complete(PostedCompletion {
        queue: 0,
        id: 0x1234,
        status: 0,
        head: None,
        submission_queue: None,
    });
    let fault = Fault::UnknownCommand { queue: 0, command_id: 0x1234 };
    assert_eq!(rig.controller.health(), Err(NvmeError::Fault(fault)));
    assert_eq!(rig.controller.next_event(), Err(NvmeError::Fault(fault)), "the fault stays until a reset");
    assert_eq!(rig.controller.reset(0), Ok(()));
    assert_eq!(
        rig.queue.poll(8, |_| panic!("no completion counts before the queue's reset")),
        Err(Fault::WasReset)
    );
    assert_eq!(rig.reset(), [0, 1]);
    assert_eq!(rig.controller.resets(), 1, "one reset is enough");
    assert!(rig.controller.health().is_ok());
    rig.works();
}

#[test]
fn a_command_that_takes_too_long_is_aborted() {
    let mut rig = rig(8);
    let fetched = rig.read(0..2);
    rig.model.script().aborts = true;
    rig.model.script().pending = vec![fetched[1]];
    rig.model.complete(PostedCompletion::to(&fetched[0]));
    assert_eq!(rig.queue.poll(8, |_| ()), Ok(1));
    assert_eq!(rig.queue.wait(rig.deadline()), Ok(true));
    let mut outcome = None;
    assert_eq!(rig.queue.poll(8, |done| outcome = Some((done.token, done.outcome))), Ok(1));
    let Some((1, Err(CommandError::Status(status)))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(status.meaning(), Meaning::Aborted);
    assert_eq!(rig.controller.resets(), 0);
    rig.works();
}

#[test]
fn a_dropped_command_is_detected_and_returned() {
    let mut rig = rig(8);
    let fetched = rig.read(0..3);
    rig.model.complete(PostedCompletion::to(&fetched[1]));
    rig.model.take();
    assert_eq!(rig.queue.wait(rig.deadline()), Ok(true));
    assert_eq!(rig.queue.poll(8, |_| ()), Ok(1));
    assert!(matches!(rig.queue.wait(rig.deadline()), Err(Fault::CommandLost { queue: 1, .. })));
    assert_eq!(rig.reset(), [0, 2]);
    rig.works();
}

#[test]
fn one_dropped_command_among_many_is_detected_by_polling_alone() {
    let mut rig = rig(8);
    rig.read(0..1);
    rig.model.take();
    let end = rig.deadline();
    let fault = loop {
        assert!(rig.bench.now_ns() < end, "the dropped command is never detected");
        rig.read(1..2).iter().for_each(|command| rig.model.complete(PostedCompletion::to(command)));
        if let Err(fault) = rig.queue.poll(8, |done| assert_eq!(done.token, 1)) {
            break fault;
        }
    };
    assert!(matches!(fault, Fault::CommandLost { .. }), "{fault}");
}

#[test]
fn a_completion_from_before_the_reset_counts() {
    let mut rig = rig(8);
    let fetched = rig.read(0..3);
    rig.model.complete(PostedCompletion::to(&fetched[2]));
    assert_eq!(rig.controller.reset(0), Ok(()));
    let mut ended = Vec::new();
    assert_eq!(rig.queue.reset(|done| ended.push((done.token, done.outcome))), Ok(()));
    ended.sort_unstable_by_key(|one| one.0);
    let again = Err(CommandError::Reset);
    assert_eq!(ended, [(0, again), (1, again), (2, Ok(()))]);
    rig.works();
}

#[test]
fn other_queues_detect_a_reset_in_any_state() {
    let mut rig = rig_without_timeouts(8);
    let mut other = Scripted::queue::<DmaMemory>(&rig.controller, 4);
    other.submit(Command::flush(), None, 5).expect("there is room");
    other.ring();
    let deadline = rig.deadline();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let fault = other.wait(deadline);
            let mut tokens = Vec::new();
            let reset = other.reset(|done| tokens.push(done.token));
            (fault, reset, tokens)
        });
        thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.controller.reset(0), Ok(()));
        let (fault, reset, tokens) = sleeper.join().expect("no panic");
        assert_eq!((fault, reset, tokens), (Err(Fault::WasReset), Ok(()), vec![5]));
    });
    // This queue has not yet noticed the reset. It must not write to a doorbell that does not exist.
    let rung = rig.bench.writes(0x1008);
    rig.queue.submit(Command::flush(), None, 0).expect("the queue has not noticed the reset");
    rig.queue.ring();
    assert_eq!(rig.bench.writes(0x1008), rung);
    assert_eq!(rig.queue.wait(deadline), Err(Fault::WasReset));
    let mut count = 0;
    assert_eq!(rig.queue.reset(|_| count += 1), Ok(()));
    assert_eq!(count, 1);
    rig.works();
}

#[test]
fn fatal_status_ends_a_wait() {
    let mut rig = rig(8);
    rig.read(0..1);
    rig.model.script().fatal = true;
    assert!(matches!(rig.queue.wait(rig.deadline()), Err(Fault::Fatal { .. })));
    rig.model.script().fatal = false;
    assert_eq!(rig.reset(), [0]);
    rig.works();
}

#[test]
fn memory_of_a_controller_that_cannot_be_stopped_is_never_freed() {
    for gone in [false, true] {
        let mut rig = rig(8);
        let memory = rig.bench.device();
        let buffer = memory.dma(512).expect("memory");
        let range = buffer.dma_range(memory.dma_space());
        rig.queue.submit(Command::read(0, 1), Some(buffer), 0).expect("there is room");
        rig.queue.ring();
        if gone {
            rig.bench.intercept(|access| access.is_write.then_some(access.value));
        } else {
            rig.model.script().stuck = true;
        }
        let fault = rig.queue.wait(rig.deadline()).expect_err("the command is never completed");
        let error = rig
            .queue
            .reset(|_| panic!("the controller may still write to the buffer"))
            .expect_err("a reset does not help");
        let NvmeError::Fault(last) = error else { panic!("{error}") };
        assert!(last.is_final(), "{fault}, {last}");
        drop(rig.queue);
        drop(rig.controller);
        assert_ne!(
            memory.dma(512).expect("memory").dma_range(memory.dma_space()),
            range,
            "the buffer was freed"
        );
    }
}

#[test]
fn a_queue_dropped_with_commands_in_flight_ends_them_first() {
    for refuses in [false, true] {
        let mut rig = rig(8);
        rig.read(0..3);
        if refuses {
            // Then a reset is needed.
            rig.model.script().admin_status.insert(0x00, 0x06);
        }
        let controller = rig.controller;
        drop(rig.queue);
        assert_eq!(controller.resets(), u32::from(refuses));
        assert!(rig.model.script().pending.is_empty());
        rig.model.script().admin_status.clear();
        let namespace = controller.namespaces()[0];
        assert!(controller.open_queue::<DmaMemory>(&namespace, 8).is_ok());
    }
}

#[test]
fn a_different_controller_after_a_reset_is_detected() {
    let mut rig = rig(8);
    rig.read(0..2);
    rig.model.script().controller[4..10].copy_from_slice(b"OTHER!");
    let mut count = 0;
    let reset = rig.queue.reset(|_| count += 1);
    assert_eq!(reset, Err(NvmeError::Fault(Fault::Changed { namespace: 0 })));
    assert_eq!(count, 2, "the controller was stopped, so the buffers are free");
    assert!(rig.queue.submit(Command::flush(), None, 0).is_err());
}

#[test]
fn a_changed_namespace_after_a_reset_is_detected() {
    for changed in [scripted::namespace(1 << 19, 9), scripted::namespace(1 << 20, 12)] {
        let mut rig = rig(8);
        rig.read(0..2);
        rig.model.script().namespaces = [(1, changed)].into();
        let mut count = 0;
        let reset = rig.queue.reset(|_| count += 1);
        assert_eq!(reset, Err(NvmeError::Fault(Fault::Changed { namespace: 1 })));
        assert_eq!(count, 2);
        assert!(rig.queue.submit(Command::flush(), None, 0).is_err());
    }
}

#[test]
fn lost_and_spurious_interrupts_only_cost_time() {
    let mut rig = rig_without_timeouts(8);
    let fetched = rig.read(0..1);
    let deadline = rig.deadline();
    let spurious = thread::scope(|scope| {
        let device = scope.spawn(|| {
            // An interrupt counts once the queue has enabled it, which it does to sleep. Twenty of them have
            // no cause.
            while rig.bench.messages(1) < 20 {
                assert!(rig.bench.now_ns() < deadline, "the queue never sleeps");
                rig.bench.raise(1);
                thread::sleep(Duration::from_micros(300));
            }
            // The model stops sending the queue's interrupt, so the periodic check alone finds the
            // completion.
            let spurious = rig.bench.messages(1);
            rig.model.script().mute(1);
            rig.model.complete(PostedCompletion::to(&fetched[0]));
            spurious
        });
        assert_eq!(rig.queue.wait(deadline), Ok(true));
        assert!(rig.bench.now_ns() < deadline, "the wait slept until its deadline");
        let polled = rig.queue.poll(8, |done| assert!(done.outcome.is_ok()));
        assert_eq!(polled, Ok(1), "only a completion ends the wait");
        device.join().expect("the device thread does not panic")
    });
    assert_eq!(rig.bench.messages(1), spurious, "no interrupt belongs to the completion");
}

#[test]
fn a_wait_ends_at_its_deadline_and_at_once_without_commands() {
    let mut rig = rig_without_timeouts(8);
    assert_eq!(rig.queue.wait(u64::MAX), Ok(false));
    let fetched = rig.read(0..1);
    let start = rig.bench.now_ns();
    assert_eq!(rig.queue.wait(start + 15_000_000), Ok(false));
    let took = rig.bench.now_ns() - start;
    assert!((15_000_000..60_000_000_000).contains(&took), "{took} ns");
    assert_eq!(rig.queue.wait(start), Ok(false), "a deadline in the past counts");
    rig.model.complete(PostedCompletion::to(&fetched[0]));
    assert_eq!(rig.queue.wait(start), Ok(true));
}

#[test]
fn a_polled_queue_gets_no_interrupts_and_a_sleeping_one_does() {
    let mut rig = rig_without_timeouts(8);
    for _ in 0..200 {
        rig.works();
    }
    assert_eq!(rig.bench.messages(1), 0, "the queue never slept");
    // Without an interrupt the driver checks every 10 ms. On a busy machine some of the wake-ups may be late.
    let woken = (0..50).any(|_| {
        let fetched = rig.read(0..1);
        let deadline = rig.deadline();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(2));
                rig.model.complete(PostedCompletion::to(&fetched[0]));
            });
            let start = rig.bench.now_ns();
            assert_eq!(rig.queue.wait(deadline), Ok(true));
            assert_eq!(rig.queue.poll(8, |_| ()), Ok(1));
            rig.bench.now_ns() - start < 9_000_000
        })
    });
    assert!(woken, "no interrupt has ended a wait");
    assert!(rig.bench.messages(1) > 0);
}
