//! Calls that succeed.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;

use coppice_example_interfaces::{Job, PoolError};
use coppice_interfaces::Text;
use coppice_rref::RRef;
use coppice_runtime::thread::Builder;
use coppice_runtime::time;

use crate::context::{Context, Outcome, batch, ensure, ensure_eq, message, spawn_with_result, sum};

pub(crate) fn a_call_returns_its_answer(context: &Arc<Context>) -> Outcome {
    for number in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
        ensure_eq!(context.echo.ping(number)?, number, "ping");
    }
    Ok(())
}

pub(crate) fn a_chain_of_three_domains_forwards_calls(context: &Arc<Context>) -> Outcome {
    let text = b"through right and left";
    ensure_eq!(context.right.ping(42)?, 42, "ping");
    let message = context.right.echo(message(text))?;
    ensure_eq!(message[..], text[..], "echo");
    ensure_eq!(context.right.sum(&message)?, sum(text), "sum");
    Ok(())
}

/// The results are copied a cache line or more at a time, on a thread that is interrupted in the middle of
/// copies by a thread that copies other results.
pub(crate) fn values_cross_intact_despite_interrupts(context: &Arc<Context>) -> Outcome {
    let word = Text::new("log");
    let (askers, interrupters) = (context.disk.info()?, context.control.option(word)?);
    let is_over = Arc::new(AtomicBool::new(false));
    let interrupter = {
        let (context, is_over) = (context.clone(), is_over.clone());
        spawn_with_result(Builder::new().affinity(1).priority(0), move || -> Outcome {
            while !is_over.load(Ordering::Relaxed) {
                time::sleep(Duration::from_micros(20));
                ensure_eq!(context.control.option(word)?, interrupters, "an option");
            }
            Ok(())
        })?
    };
    let asker = {
        let context = context.clone();
        spawn_with_result(Builder::new().affinity(1), move || -> Outcome {
            for _ in 0..context.rounds(1_000_000, 20_000) {
                ensure_eq!(context.disk.info()?, askers, "the disk's description");
            }
            Ok(())
        })?
    };
    let asked = asker.join();
    is_over.store(true, Ordering::Relaxed);
    interrupter.join()?;
    asked
}

pub(crate) fn a_message_is_moved_and_not_copied(context: &Arc<Context>) -> Outcome {
    let own = context.own()?.shared_objects;
    let sent = message(b"moved");
    let address = sent.address();
    ensure_eq!(context.own()?.shared_objects, own + 1, "objects after one was made");
    let back = context.right.echo(sent)?;
    ensure_eq!(back.address(), address, "address");
    ensure_eq!(back[..], b"moved"[..], "content");
    ensure_eq!(context.own()?.shared_objects, own + 1, "objects after it came back");
    drop(back);
    ensure_eq!(context.own()?.shared_objects, own, "objects after it was dropped");
    // In the other case the object moves: an accepted argument belongs to the callee.
    let others = context.info("pool")?.shared_objects;
    let job = RRef::new(Job { tag: 3, limit: 0, sum: 0 });
    ensure!(context.pool.submit(job)?.is_ok(), "an empty pool refuses a job");
    ensure_eq!(context.info("pool")?.shared_objects, others + 1, "the pool's objects");
    ensure_eq!(context.own()?.shared_objects, own, "own objects after one was moved away");
    let Some(job) = context.pool.collect()? else { return Ok(()) };
    ensure_eq!((job.tag, context.own()?.shared_objects), (3, own + 1), "the returned job");
    Ok(())
}

pub(crate) fn a_borrow_leaves_ownership_with_the_caller(context: &Arc<Context>) -> Outcome {
    let lent = message(b"only read");
    let (own, echo) = (context.own()?.shared_objects, context.info("echo")?.shared_objects);
    ensure_eq!(context.echo.sum(&lent)?, sum(b"only read"), "sum");
    ensure_eq!(context.own()?.shared_objects, own, "own objects");
    ensure_eq!(context.info("echo")?.shared_objects, echo, "the callee's objects");
    ensure_eq!(lent[..], b"only read"[..], "content");
    Ok(())
}

pub(crate) fn a_deque_of_32_messages_moves_with_its_root(context: &Arc<Context>) -> Outcome {
    let own = context.own()?.shared_objects;
    let batch = batch(100);
    // The owner of the root owns the messages in it.
    ensure_eq!(context.own()?.shared_objects, own + 1, "roots");
    let addresses: Vec<usize> = batch.iter().map(RRef::address).collect();
    let mut back = context.right.reverse(batch)?;
    let mut returned: Vec<usize> = back.iter().map(RRef::address).collect();
    returned.reverse();
    ensure_eq!(returned, addresses, "addresses");
    ensure_eq!(context.own()?.shared_objects, own + 1, "roots afterwards");
    for number in 0..32 {
        let message = back.pop_back();
        ensure!(message.is_some_and(|message| message[..] == [100 + number]), "message {number} differs");
    }
    drop(back);
    ensure_eq!(context.own()?.shared_objects, own, "roots in the end");
    Ok(())
}

pub(crate) fn a_refusal_returns_the_argument(context: &Arc<Context>) -> Outcome {
    let mut taken = 0;
    let refused = loop {
        match context.pool.submit(RRef::new(Job { tag: taken, limit: 10, sum: 0 }))? {
            Ok(()) => taken += 1,
            Err(PoolError::Full { job, capacity }) => break (job.tag, u64::from(capacity)),
        }
    };
    ensure_eq!(refused, (taken, taken), "the refused job's tag and the capacity");
    let mut tags = Vec::new();
    while let Some(job) = context.pool.collect()? {
        let expected = (0..10).fold(0, |sum, number: u64| sum ^ number.wrapping_mul(job.tag));
        ensure_eq!(job.sum, expected, "a job's answer");
        tags.push(job.tag);
    }
    tags.sort_unstable();
    ensure!(tags.iter().copied().eq(0..taken), "jobs were lost or answered twice: {tags:?}");
    Ok(())
}

pub(crate) fn callers_on_all_cpus_get_their_own_answers(context: &Arc<Context>) -> Outcome {
    let rounds = context.rounds(5_000, 300);
    context.on_threads(context.cpus * 3, move |context, number| {
        for round in 0..rounds {
            let name = [number as u8, round as u8, (round >> 8) as u8];
            let expected = u64::from(number) << 32 | u64::from(round);
            ensure_eq!(context.right.ping(expected)?, expected, "ping");
            let sent = message(&name);
            let address = sent.address();
            let back = context.right.echo(sent)?;
            ensure!(back[..] == name && back.address() == address, "another caller's message");
            ensure_eq!(context.echo.sum(&back)?, sum(&name), "sum");
            if round % 16 == 0 {
                let back = context.right.reverse(batch(round as u8))?;
                let first = back.get(0).map(|message| message[0]);
                ensure_eq!(first, Some((round as u8).wrapping_add(31)), "another caller's batch");
            }
        }
        Ok(())
    })
}
