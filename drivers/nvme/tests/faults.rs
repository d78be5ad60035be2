//! A controller that breaks the rules: it is found out, and nothing is released that it may still write to.

mod scripted;

use std::thread;
use std::time::Duration;

use coppice_hardware::{Device, DmaBuffer, DmaMemory};
use device_harness::Bench;
use nvme_driver::{Command, CommandError, Controller, Fault, IoQueue, Meaning, NvmeError, SubmitError};
use scripted::{Answer, Fetched, Scripted};
use std::sync::Arc;

struct Rig {
    model: Arc<Scripted>,
    bench: Bench,
    controller: Controller,
    queue: IoQueue<DmaMemory>,
    memory: Device,
}

fn rig(depth: u16) -> Rig {
    let model = Scripted::new();
    let (bench, controller) = model.start().expect("it works");
    let queue = Scripted::queue(&controller, depth);
    let memory = bench.device();
    Rig { model, bench, controller, queue, memory }
}

impl Rig {
    /// Submits reads with these tokens.
    fn read(&mut self, tokens: std::ops::Range<u64>) -> Vec<Fetched> {
        for token in tokens {
            let buffer = self.memory.dma(512).expect("memory");
            self.queue.submit(Command::read(token, 1), Some(buffer), token).expect("there is room");
        }
        self.queue.ring();
        self.model.take()
    }

    /// Resets, and answers which tokens came back, in order; the buffers with them.
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

    /// It works.
    fn works(&mut self) {
        let fetched = self.read(900..903);
        assert_eq!(fetched.len(), 3);
        fetched.iter().for_each(|command| self.model.answer(Answer::to(command)));
        let mut good = 0;
        assert_eq!(self.queue.poll(8, |done| good += u32::from(done.outcome.is_ok())), Ok(3));
        assert_eq!(good, 3);
    }

    fn soon(&self) -> u64 {
        self.bench.now_ns() + 2_000_000_000
    }
}

/// After a false completion nothing is taken from the controller, all is handed back by the reset, and it works again.
fn is_found_out(falsify: impl Fn(&[Fetched]) -> Answer, expected: impl Fn(&[Fetched]) -> Fault) {
    let mut rig = rig(8);
    let fetched = rig.read(0..4);
    rig.model.answer(Answer::to(&fetched[1]));
    rig.model.answer(falsify(&fetched));
    rig.model.answer(Answer::to(&fetched[2]));
    let mut good = Vec::new();
    let fault = rig.queue.poll(8, |done| good.push(done.token)).expect_err("it is found out");
    assert_eq!(fault, expected(&fetched));
    assert_eq!(good, [1], "what came before is good, and nothing after");
    assert_eq!(rig.queue.poll(8, |_| panic!("nothing is taken from it")), Err(fault));
    assert_eq!(rig.queue.wait(rig.soon()), Err(fault));
    let refused = rig.queue.submit(Command::flush(), None, 9).expect_err("it is at fault");
    assert_eq!(refused.error, SubmitError::Faulted(fault));
    assert_eq!(rig.reset(), [0, 2, 3]);
    assert_eq!(rig.controller.resets(), 1);
    rig.works();
}

#[test]
fn an_unknown_identifier_is_found_out() {
    for bit in 0..16 {
        let wrong = move |fetched: &[Fetched]| fetched[0].id() ^ 1 << bit;
        is_found_out(
            |fetched| Answer { id: wrong(fetched), ..Answer::to(&fetched[0]) },
            |fetched| Fault::UnknownCommand { queue: 1, command_id: wrong(fetched) },
        );
    }
}

#[test]
fn the_identifier_that_is_none_is_found_out() {
    is_found_out(
        |fetched| Answer { id: u16::MAX, ..Answer::to(&fetched[0]) },
        |_| Fault::UnknownCommand { queue: 1, command_id: u16::MAX },
    );
}

#[test]
fn a_duplicate_is_found_out() {
    is_found_out(
        |fetched| Answer::to(&fetched[1]),
        |fetched| Fault::UnknownCommand { queue: 1, command_id: fetched[1].id() },
    );
}

#[test]
fn a_duplicate_is_found_out_when_its_slot_is_in_use_again() {
    let mut rig = rig(1);
    let first = rig.read(0..1)[0];
    rig.model.answer(Answer::to(&first));
    assert_eq!(rig.queue.poll(8, |_| ()), Ok(1));
    let second = rig.read(1..2)[0];
    assert_ne!(first.id(), second.id());
    rig.model.answer(Answer::to(&first));
    let fault = Fault::UnknownCommand { queue: 1, command_id: first.id() };
    assert_eq!(rig.queue.poll(8, |_| panic!("the second has not ended")), Err(fault));
    assert_eq!(rig.reset(), [1]);
}

#[test]
fn a_wrong_queue_is_found_out() {
    is_found_out(
        |fetched| Answer { answered: Some(2), ..Answer::to(&fetched[0]) },
        |_| Fault::WrongQueue { queue: 1, answered: 2 },
    );
}

#[test]
fn an_impossible_head_is_found_out() {
    // 4 of 9 entries are in use: the head is not beyond the tail, and not outside of the ring. That it is 0 cannot be either,
    // with one command answered already and three left.
    for head in [5, 8, 9, 500, u16::MAX, 0] {
        is_found_out(
            |fetched| Answer { head: Some(head), ..Answer::to(&fetched[0]) },
            |_| Fault::WrongHead { queue: 1, head, tail: 4 },
        );
    }
}

#[test]
fn an_answer_to_nothing_is_found_out() {
    let mut rig = rig(8);
    rig.works();
    rig.model.answer(Answer { queue: 1, id: 0, status: 0, head: None, answered: None });
    assert!(matches!(rig.queue.poll(8, |_| ()), Err(Fault::UnknownCommand { .. })));
    assert!(rig.reset().is_empty());
    rig.works();
}

#[test]
fn a_false_answer_to_an_admin_command_is_found_out() {
    let mut rig = rig(8);
    rig.read(0..2);
    rig.model.answer(Answer { queue: 0, id: 0x1234, status: 0, head: None, answered: None });
    let fault = Fault::UnknownCommand { queue: 0, command_id: 0x1234 };
    assert_eq!(rig.controller.health(), Err(NvmeError::Fault(fault)));
    assert_eq!(rig.controller.next_event(), Err(NvmeError::Fault(fault)), "until it is reset");
    assert_eq!(rig.controller.reset(0), Ok(()));
    assert_eq!(rig.queue.poll(8, |_| panic!("not before the reset is seen")), Err(Fault::WasReset));
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
    rig.model.answer(Answer::to(&fetched[0]));
    assert_eq!(rig.queue.poll(8, |_| ()), Ok(1));
    assert_eq!(rig.queue.wait(rig.soon()), Ok(true));
    let mut outcome = None;
    assert_eq!(rig.queue.poll(8, |done| outcome = Some((done.token, done.outcome))), Ok(1));
    let Some((1, Err(CommandError::Status(status)))) = outcome else { panic!("{outcome:?}") };
    assert_eq!(status.meaning(), Meaning::Aborted);
    assert_eq!(rig.controller.resets(), 0);
    rig.works();
}

#[test]
fn a_command_that_was_dropped_is_noticed_and_handed_back() {
    let mut rig = rig(8);
    let fetched = rig.read(0..3);
    rig.model.answer(Answer::to(&fetched[1]));
    rig.model.take();
    assert_eq!(rig.queue.wait(rig.soon()), Ok(true));
    assert_eq!(rig.queue.poll(8, |_| ()), Ok(1));
    assert!(matches!(rig.queue.wait(rig.soon()), Err(Fault::CommandLost { queue: 1, .. })));
    assert_eq!(rig.reset(), [0, 2]);
    rig.works();
}

#[test]
fn one_dropped_command_among_many_is_noticed_by_polling_alone() {
    let mut rig = rig(8);
    rig.read(0..1);
    rig.model.take();
    let end = rig.soon();
    let fault = loop {
        assert!(rig.bench.now_ns() < end, "it is never noticed");
        rig.read(1..2).iter().for_each(|command| rig.model.answer(Answer::to(command)));
        if let Err(fault) = rig.queue.poll(8, |done| assert_eq!(done.token, 1)) {
            break fault;
        }
    };
    assert!(matches!(fault, Fault::CommandLost { .. }), "{fault}");
}

#[test]
fn an_answer_that_came_before_the_reset_counts() {
    let mut rig = rig(8);
    let fetched = rig.read(0..3);
    rig.model.answer(Answer::to(&fetched[2]));
    assert_eq!(rig.controller.reset(0), Ok(()));
    let mut ended = Vec::new();
    assert_eq!(rig.queue.reset(|done| ended.push((done.token, done.outcome))), Ok(()));
    ended.sort_unstable_by_key(|one| one.0);
    let again = Err(CommandError::Reset);
    assert_eq!(ended, [(0, again), (1, again), (2, Ok(()))]);
    rig.works();
}

#[test]
fn other_queues_hear_of_a_reset_wherever_they_are() {
    let mut rig = rig(8);
    let mut other = Scripted::queue::<DmaMemory>(&rig.controller, 4);
    other.submit(Command::flush(), None, 5).expect("there is room");
    other.ring();
    let soon = rig.soon();
    thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            let fault = other.wait(soon);
            let mut tokens = Vec::new();
            let reset = other.reset(|done| tokens.push(done.token));
            (fault, reset, tokens)
        });
        thread::sleep(Duration::from_millis(5));
        assert_eq!(rig.controller.reset(0), Ok(()));
        let (fault, reset, tokens) = sleeper.join().expect("no panic");
        assert_eq!((fault, reset, tokens), (Err(Fault::WasReset), Ok(()), vec![5]));
    });
    // Submitted by one that has not heard of it: not a doorbell that is not there.
    let rung = rig.bench.writes(0x1008);
    rig.queue.submit(Command::flush(), None, 0).expect("it does not know yet");
    rig.queue.ring();
    assert_eq!(rig.bench.writes(0x1008), rung);
    assert_eq!(rig.queue.wait(soon), Err(Fault::WasReset));
    let mut count = 0;
    assert_eq!(rig.queue.reset(|_| count += 1), Ok(()));
    assert_eq!(count, 1);
    rig.works();
}

#[test]
fn fatal_status_is_noticed_while_waiting() {
    let mut rig = rig(8);
    rig.read(0..1);
    rig.model.script().fatal = true;
    assert!(matches!(rig.queue.wait(rig.soon()), Err(Fault::Fatal { .. })));
    rig.model.script().fatal = false;
    assert_eq!(rig.reset(), [0]);
    rig.works();
}

#[test]
fn a_controller_that_cannot_be_stopped_keeps_what_it_may_write_to() {
    for gone in [false, true] {
        let mut rig = rig(8);
        let memory = rig.bench.device();
        let buffer = memory.dma(512).expect("memory");
        let place = buffer.dma_range(memory.dma_space());
        rig.queue.submit(Command::read(0, 1), Some(buffer), 0).expect("there is room");
        rig.queue.ring();
        if gone {
            rig.bench.intercept(|access| access.is_write.then_some(access.value));
        } else {
            rig.model.script().stuck = true;
        }
        let fault = rig.queue.wait(rig.soon()).expect_err("it is not answered");
        let error = rig.queue.reset(|_| panic!("it may still be written to")).expect_err("no reset helps");
        let NvmeError::Fault(last) = error else { panic!("{error}") };
        assert!(last.is_final(), "{fault}, {last}");
        drop(rig.queue);
        drop(rig.controller);
        assert_ne!(memory.dma(512).expect("memory").dma_range(memory.dma_space()), place, "it was let go of");
    }
}

#[test]
fn a_queue_that_is_dropped_with_commands_in_flight_lets_go_of_them_when_they_are_over() {
    for refuses in [false, true] {
        let mut rig = rig(8);
        rig.read(0..3);
        if refuses {
            // Then it takes a reset.
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
fn another_controller_after_a_reset_is_not_taken_for_the_same() {
    let mut rig = rig(8);
    rig.read(0..2);
    rig.model.script().controller[4..10].copy_from_slice(b"OTHER!");
    let mut count = 0;
    let reset = rig.queue.reset(|_| count += 1);
    assert_eq!(reset, Err(NvmeError::Fault(Fault::Changed { namespace: 0 })));
    assert_eq!(count, 2, "it was stopped, so that they are free");
    assert!(rig.queue.submit(Command::flush(), None, 0).is_err());
}

#[test]
fn a_namespace_that_changed_with_a_reset_is_not_taken_for_the_same() {
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
fn lost_and_spurious_interrupts_cost_time_and_nothing_else() {
    // Lost: without a vector of its own being heard, because it is masked behind the driver's back.
    let mut rig = rig(8);
    let fetched = rig.read(0..1);
    let soon = rig.soon();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..20 {
                rig.bench.raise(1);
                thread::sleep(Duration::from_micros(300));
            }
            rig.model.script().mute(1);
            rig.model.answer(Answer::to(&fetched[0]));
        });
        assert_eq!(rig.queue.wait(soon), Ok(true));
    });
    assert_eq!(rig.queue.poll(8, |done| assert!(done.outcome.is_ok())), Ok(1));
}

#[test]
fn a_wait_ends_at_its_deadline_and_at_once_without_commands() {
    let mut rig = rig(8);
    assert_eq!(rig.queue.wait(u64::MAX), Ok(false));
    let fetched = rig.read(0..1);
    let start = rig.bench.now_ns();
    assert_eq!(rig.queue.wait(start + 15_000_000), Ok(false));
    let took = rig.bench.now_ns() - start;
    assert!((15_000_000..60_000_000_000).contains(&took), "{took} ns");
    assert_eq!(rig.queue.wait(start), Ok(false), "a deadline that is over is one");
    rig.model.answer(Answer::to(&fetched[0]));
    assert_eq!(rig.queue.wait(start), Ok(true));
}

#[test]
fn who_polls_gets_no_interrupts_and_who_sleeps_does() {
    let mut rig = rig(8);
    for _ in 0..200 {
        rig.works();
    }
    assert_eq!(rig.bench.messages(1), 0, "it never slept");
    // Who is not woken looks again after 10 ms, and never sooner. A machine that is busy may be late some of the times.
    let woken = (0..50).any(|_| {
        let fetched = rig.read(0..1);
        let soon = rig.soon();
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(2));
                rig.model.answer(Answer::to(&fetched[0]));
            });
            let start = rig.bench.now_ns();
            assert_eq!(rig.queue.wait(soon), Ok(true));
            assert_eq!(rig.queue.poll(8, |_| ()), Ok(1));
            rig.bench.now_ns() - start < 9_000_000
        })
    });
    assert!(woken, "no message has ended a wait");
    assert!(rig.bench.messages(1) > 0);
}
