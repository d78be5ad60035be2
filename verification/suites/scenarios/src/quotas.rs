//! Shares of the shared heap: each domain gets what its manifest says, and what it passes on is no longer its own.

use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_interfaces::{CrashKind, RpcError, RpcResult, Text};
use coppice_runtime::thread::{Builder, JoinHandle};
use coppice_runtime::time;

use crate::stage::{Outcome, SOON, Stage, ensure, ensure_eq, message};

/// The hoarder's `shared` in systems/verification/scenarios.toml.
const QUOTA: u64 = 1 << 20;

/// What of it has to be had, in per cent.
const NEARLY: u64 = 90;

/// Bytes that the hoarder owns, checked to be at its quota.
fn at_the_limit(stage: &Stage) -> Outcome<u64> {
    let info = stage.info("hoarder")?;
    ensure_eq!(info.shared_quota, QUOTA, "the quota that the kernel knows");
    ensure!(info.shared_bytes <= QUOTA, "it owns {} bytes, more than its quota", info.shared_bytes);
    ensure!(info.shared_bytes >= QUOTA * NEARLY / 100, "it is refused with {} bytes", info.shared_bytes);
    Ok(info.shared_bytes)
}

/// What the hoarder does last, because it is refused what it cannot go on without.
fn ends_by_its_quota(stage: &Arc<Stage>, call: impl FnOnce() -> RpcResult<()>) -> Outcome {
    let instance = stage.info("hoarder")?.id;
    let heard = call().err().map(|error: RpcError| (error.domain(), error.kind()));
    ensure_eq!(heard, Some((instance, CrashKind::OutOfMemory)), "what the caller hears");
    let crash_record = stage.control.crash_record(instance)?.unwrap_or(Text::new(""));
    ensure!(
        crash_record.contains("the shared heap's quota is exhausted"),
        "it says of its end: {crash_record}"
    );
    Ok(())
}

pub(crate) fn a_domain_that_hoards_is_refused_at_its_quota_and_ends_alone(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(20, 3), |_| {
        let instance = stage.info("hoarder")?.id;
        let echo = stage.info("echo")?.id;
        let count = stage.hoarder.fill(1, false)?;
        at_the_limit(stage)?;
        ensure!(count > 500, "it got {count} objects of a kilobyte each");
        ensure_eq!(stage.hoarder.fill(1, false)?, 0, "objects that it got beyond its quota");
        ensure_eq!(stage.info("hoarder")?.id, instance, "who tries and is refused lives on, so its instance");
        ends_by_its_quota(stage, || stage.hoarder.overfill())?;
        ensure_eq!(stage.info("hoarder")?.shared_objects, 0, "objects that a dead domain owns");
        ensure_eq!((stage.info("echo")?.id, stage.echo.sum(&message(&[7]))?), (echo, 7), "another domain");
        stage.restart("hoarder")?;
        // The new instance begins with all of it.
        stage.hoarder.fill(1, false)?;
        at_the_limit(stage)?;
        stage.restart("hoarder")
    })
}

pub(crate) fn what_was_refused_is_granted_when_something_was_freed(stage: &Arc<Stage>) -> Outcome {
    for round in 0..stage.rounds(50, 5) {
        // Small ones, freed on one CPU or another, make room for large ones, and the other way round.
        let large = round % 2 == 1;
        stage.hoarder.fill(1 + round % stage.cpus, large)?;
        let owned = stage.info("hoarder")?.shared_bytes;
        ensure!(owned >= QUOTA * 80 / 100, "round {round}: it is refused with {owned} bytes");
        ensure!(stage.hoarder.let_go()? > 0, "it had nothing");
    }
    stage.restart("hoarder")
}

pub(crate) fn large_objects_and_handles_count_too(stage: &Arc<Stage>) -> Outcome {
    // A hundred kilobytes take two spans.
    ensure_eq!(stage.hoarder.fill(1, true)?, 8, "large objects that fit its quota");
    stage.restart("hoarder")?;
    ends_by_its_quota(stage, || stage.hoarder.clone_handles())?;
    stage.restart("hoarder")?;
    ends_by_its_quota(stage, || stage.hoarder.export_counters())?;
    stage.restart("hoarder")
}

pub(crate) fn what_is_passed_on_and_freed_counts_for_nobody(stage: &Arc<Stage>) -> Outcome {
    // Each call makes 33 objects of 10 KiB together; some are freed on another CPU than where they were made.
    let rounds = stage.rounds(4000, 300);
    stage.all_together(stage.cpus * 2, move |stage, number| {
        let mut kept = Vec::new();
        for _ in 0..rounds {
            kept.push(stage.hoarder.make_batch()?);
            if kept.len() > number as usize % 4 {
                kept.clear();
            }
        }
        Ok(())
    })?;
    ensure_eq!(stage.hoarder.fill(1, false)? > 0, true, "that something is left of its quota");
    at_the_limit(stage)?;
    stage.restart("hoarder")
}

pub(crate) fn a_receiver_that_hoards_does_not_starve_who_makes(stage: &Arc<Stage>) -> Outcome {
    // Four times the maker's quota, nested and not, in the receiver's hands.
    let mut messages = Vec::new();
    let mut batches = Vec::new();
    let before = stage.own()?.shared_bytes;
    while stage.own()?.shared_bytes - before < QUOTA {
        for _ in 0..500 {
            messages.push(stage.hoarder.make()?);
        }
    }
    for _ in 0..3 * QUOTA / (32 * 320) {
        batches.push(stage.hoarder.make_batch()?);
    }
    // And all of the maker's own quota is its own still.
    stage.hoarder.fill(1, false)?;
    at_the_limit(stage)?;
    ensure!(batches.iter().all(|batch| batch.len() == 32), "a batch has changed");
    stage.hoarder.let_go()?;
    drop((messages, batches));
    stage.restart("hoarder")
}

pub(crate) fn who_is_given_too_much_gets_no_more(stage: &Arc<Stage>) -> Outcome {
    // Whoever makes them pays, until somebody asks for more than is left.
    for _ in 0..2 * QUOTA / 320 {
        stage.hoarder.keep(message(b"a gift"))?;
    }
    // It still has what it was not charged for; what it asks beyond that shows what it owns.
    stage.hoarder.fill(1, false)?;
    let owned = stage.info("hoarder")?.shared_bytes;
    ensure!(owned > 2 * QUOTA, "it has only {owned} bytes of what it was given");
    ensure_eq!(stage.hoarder.fill(1, false)?, 0, "objects for who owns three times its quota");
    ensure!(stage.hoarder.let_go()? > 0, "it had nothing");
    stage.hoarder.fill(1, false)?;
    at_the_limit(stage)?;
    stage.restart("hoarder")
}

pub(crate) fn threads_on_all_cpus_together_get_nearly_all_of_a_quota(stage: &Arc<Stage>) -> Outcome {
    for _ in 0..stage.rounds(20, 3) {
        let began = time::now();
        stage.hoarder.fill(stage.cpus, false)?;
        at_the_limit(stage)?;
        // Being refused does not take long, though it is counted exactly.
        let took = time::now() - began;
        ensure!(took < SOON, "it took {took:?} until all of them were refused");
        stage.hoarder.let_go()?;
    }
    stage.restart("hoarder")
}

pub(crate) fn crashes_do_not_erode_the_quota(stage: &Arc<Stage>) -> Outcome {
    stage.leaks_nothing(stage.rounds(1000, 60), |round| {
        // Held on this side while it dies, by itself or not, with objects of ours and of its own inside.
        let held = (stage.hoarder.make_batch()?, stage.hoarder.make()?);
        stage.hoarder.keep(message(b"ours until now"))?;
        stage.hoarder.keep_counter(stage.factory.make(1)?)?;
        if round % 10 == 0 {
            ends_by_its_quota(stage, || stage.hoarder.overfill())?;
        } else {
            stage.kill("hoarder")?;
        }
        stage.restart("hoarder")?;
        ensure_eq!(held.0.len(), 32, "a batch whose maker has died");
        Ok(())
    })?;
    stage.hoarder.fill(1, false)?;
    at_the_limit(stage)?;
    stage.restart("hoarder")
}

pub(crate) fn who_uses_up_the_machines_memory_ends_nobody_else(stage: &Arc<Stage>) -> Outcome {
    let survivors = ["echo", "left", "right", "keeper"].map(|name| stage.info(name).map(|info| info.id));
    stage.leaks_nothing(stage.rounds(5, 1), |_| {
        stage.glutton.fill(1, true)?;
        let memory = stage.control.memory()?;
        ensure!(memory.free_bytes < memory.total_bytes / 32, "{} bytes are free", memory.free_bytes);
        // The kernel has what it needs, and whoever is refused something is told so or ends alone.
        for number in 0..200 {
            let _ = Builder::new().spawn(|| {}).map(JoinHandle::join);
            ensure_eq!(stage.right.ping(number)?, number, "a call meanwhile");
        }
        let mut counters = Vec::new();
        while counters.len() < 500
            && let Ok(counter) = stage.factory.make(7)
        {
            counters.push(counter);
        }
        drop(counters);
        let _ = stage.kill("subject");
        let _ = stage.control.restart(Text::new("subject"))?;
        stage.restart("glutton")?;
        for name in ["factory", "subject"] {
            stage.restart(name)?;
        }
        ensure_eq!(stage.subject.count()?, 1, "a call afterwards");
        Ok(())
    })?;
    for (name, before) in ["echo", "left", "right", "keeper"].into_iter().zip(survivors) {
        ensure_eq!(stage.info(name)?.id, before?, name);
    }
    Ok(())
}
