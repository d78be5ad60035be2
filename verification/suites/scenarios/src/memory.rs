//! Private and shared heaps at their limits.

use alloc::format;
use alloc::sync::Arc;
use core::time::Duration;

use coppice_control::DomainState;
use coppice_example_interfaces::Message;
use coppice_interfaces::CrashKind;
use coppice_rref::{Bytes, RRef, RRefDeque};
use coppice_runtime::time;

use crate::stage::{Failure, Outcome, Stage, batch, ensure, ensure_eq, message};

pub(crate) fn a_large_private_allocation_is_whole(stage: &Arc<Stage>) -> Outcome {
    for bytes in [8, 4096, 65_536, 1_000_000, 1_500_000] {
        ensure!(stage.subject.fill_heap(bytes, false)?, "{bytes} bytes read back otherwise than written");
        let info = stage.info("subject")?;
        ensure!(info.heap_bytes <= info.heap_quota, "{} bytes are more than the quota", info.heap_bytes);
        stage.restart("subject")?;
    }
    Ok(())
}

pub(crate) fn an_exhausted_private_heap_ends_its_domain_and_nothing_else(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(20, 5), |round| {
        let instance = stage.info("subject")?.id;
        let echo = stage.info("echo")?.id;
        let error = if round % 2 == 0 {
            stage.subject.fill_heap(3 << 20, false).err()
        } else {
            (0..100).find_map(|_| stage.subject.fill_heap(100_000, true).err())
        };
        let heard = error.map(|error| (error.domain(), error.kind()));
        ensure_eq!(heard, Some((instance, CrashKind::OutOfMemory)), "what the caller hears");
        ensure_eq!(stage.info("subject")?.state, DomainState::Dead, "the domain");
        ensure_eq!(stage.info("subject")?.heap_bytes, 0, "its heap");
        ensure_eq!((stage.info("echo")?.id, stage.echo.ping(1)?), (echo, 1), "another domain");
        stage.restart("subject")
    })
}

pub(crate) fn large_shared_objects_come_and_go(stage: &Arc<Stage>) -> Outcome {
    const LARGE: usize = 1 << 20;
    stage.leaks_nothing(10, |round| {
        let before = stage.control.memory()?.shared_bytes;
        let mut large = Bytes::<LARGE>::new_shared();
        ensure!(large.set_len(LARGE).is_ok() && large.iter().all(|&byte| byte == 0), "it is not clear");
        large.fill(round as u8);
        let more = RRef::new([round; 10_000]);
        let shared = stage.control.memory()?.shared_bytes - before;
        ensure!((LARGE as u64..2 * LARGE as u64).contains(&shared), "the shared heap has grown by {shared}");
        ensure!(large.iter().all(|&byte| byte == round as u8), "its bytes have changed");
        ensure!(more.iter().all(|&word| word == round), "a neighbour's words have changed");
        Ok(())
    })
}

pub(crate) fn containers_free_what_they_hold(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(50, 10), |_| {
        let mut batch = batch(1);
        drop(batch.pop_front());
        let refused =
            batch.push_back(message(b"fits again")).and_then(|()| batch.push_back(message(b"one too many")));
        ensure!(
            refused.is_err_and(|message| message[..] == b"one too many"[..]),
            "a full deque takes another message"
        );
        drop(batch);
        let mut deque = RRef::new(RRefDeque::<Message, 32>::new());
        for round in 0..100 {
            ensure!(deque.push_back(message(&[round])).is_ok(), "a deque with room refuses");
            let message = if round % 2 == 0 { deque.pop_front() } else { deque.pop_back() };
            ensure!(message.is_some_and(|message| message[..] == [round]), "a deque mixes up its messages");
        }
        Ok(())
    })
}

pub(crate) fn every_frame_has_an_owner(stage: &Arc<Stage>) -> Outcome {
    // What is left when everybody's memory is taken from the whole: the kernel's own.
    let kernels = || -> Outcome<u64> {
        let memory = stage.control.memory()?;
        let mut rest = memory.total_bytes - memory.free_bytes - memory.shared_bytes - memory.stack_bytes;
        for number in 0..stage.control.domain_count()? {
            if let Some(info) = stage.control.domain(number)? {
                rest -= info.heap_bytes;
            }
        }
        Ok(rest)
    };
    let mut known = 0;
    for round in 0..3 {
        // What the first round makes the kernel keep for good, it has.
        stage.restart("subject")?;
        let before = kernels()?;
        stage.subject.fill_heap(700_000, true)?;
        stage.subject.own(500)?;
        stage.subject.spawn(10)?;
        let large = Bytes::<300_000>::new_shared();
        let after = kernels()?;
        drop(large);
        if round > 0 {
            ensure_eq!(after, before, "bytes of the kernel's own while others took memory");
            ensure!(before == known || round == 1, "the kernel has {before} bytes instead of {known}");
        }
        known = before;
    }
    stage.restart("subject")
}

pub(crate) fn the_audit_accounts_for_every_frame(stage: &Arc<Stage>) -> Outcome {
    let frames_of = |owner: &str, what: &str| -> Outcome<u64> {
        let summary = stage.control.audit()?;
        ensure_eq!(summary.findings, 0, "findings");
        let (mut sum, mut found) = (0, None);
        for number in 0..summary.lines {
            let line = stage.control.audit_line(number)?;
            let Some(line) = line else { return Err(Failure(format!("line {number} is missing"))) };
            sum += line.frames;
            if (&*line.owner, &*line.what) == (owner, what) {
                found = Some(line.frames);
            }
        }
        ensure!(stage.control.audit_line(summary.lines)?.is_none(), "there are more lines than it says");
        ensure_eq!(sum * 4096, stage.control.memory()?.total_bytes, "bytes in all lines");
        found.ok_or_else(|| Failure(format!("no line for {owner}: {what}")))
    };
    stage.restart("subject")?;
    // Threads of the instance before are its slot's until they have found their way out.
    stage.eventually("the subject has no threads", || Ok(frames_of("subject", "stacks")? == 0))?;
    let before =
        [("subject", "private heap"), ("subject", "stacks"), ("shared heap", "spans"), ("none", "free")];
    let before = before.map(|(owner, what)| frames_of(owner, what));
    let [heap, stacks, spans, free] = before;
    stage.subject.fill_heap(700_000, true)?;
    stage.subject.spawn(5)?;
    let large = Bytes::<300_000>::new_shared();
    let info = stage.info("subject")?;
    ensure_eq!(frames_of("subject", "private heap")?, info.heap_bytes / 4096, "frames of its heap");
    ensure!(info.heap_bytes / 4096 >= heap? + 700_000 / 4096, "its heap has not grown");
    // Of 128 KiB each, with a guard page.
    ensure_eq!(frames_of("subject", "stacks")? - stacks?, 5 * 33, "frames of five stacks");
    ensure_eq!(frames_of("subject", "image")? > 4, true, "that it has an image");
    ensure!(frames_of("shared heap", "spans")? >= spans? + 75, "the shared heap has not grown");
    ensure!(frames_of("none", "free")? < free?, "there is as much free as before");
    drop(large);
    stage.restart("subject")
}

pub(crate) fn the_books_agree_while_everybody_works(stage: &Arc<Stage>) -> Outcome {
    let rounds = stage.rounds(100, 10);
    stage.all_together(stage.cpus + 1, move |stage, number| {
        for round in 0..rounds {
            match number {
                // One audits, at whatever places the others are stopped.
                0 => stage.books_agree()?,
                1 if round % 8 == 0 => {
                    stage.subject.own(10)?;
                    stage.subject.stress_services(4)?;
                    time::sleep(Duration::from_micros(u64::from(round % 7) * 300));
                    stage.kill("subject")?;
                    stage.keeper.give_back()?;
                    stage.restart("subject")?;
                }
                _ => {
                    for _ in 0..20 {
                        let _ = stage.hoarder.make_batch()?;
                        let _ = stage.right.reverse(batch(1))?;
                        let _ = stage.factory.make(1)?.next();
                    }
                }
            }
        }
        Ok(())
    })
}
