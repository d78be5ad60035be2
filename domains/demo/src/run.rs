//! The course of a run: all is tried once, then weighed, then done for as long as it was asked for, then weighed again.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_experiment::{Balance, Failure};
use coppice_interfaces::{DomainState, Text};
use coppice_runtime::thread::{Builder, JoinHandle};
use coppice_runtime::time;

use crate::queue::Queue;
use crate::stage::Stage;
use crate::{console, hasher, killer, writer};

/// How many write.
const WRITERS: u64 = 2;
/// How often it is said how things stand, and how often that is said of each domain.
const TICK: Duration = Duration::from_millis(100);
const TICKS_TO_A_CENSUS: u64 = 10;
/// How long the driver may take to live again.
const PATIENCE: Duration = Duration::from_secs(20);
const PAGE_BYTES: i64 = 4096;

type Work = fn(&Stage) -> Result<(), Failure>;

pub(crate) fn run(stage: &Arc<Stage>) -> Result<(), Failure> {
    warm_up(stage)?;
    let before = Balance::at_rest(stage, stage.observer)?;
    begin(stage);
    let workers = start(stage)?;
    follow(stage)?;
    stage.over.store(true, Ordering::Relaxed);
    workers.into_iter().for_each(JoinHandle::join);
    tick(stage);
    census(stage)?;
    // As it was when it was weighed before: a life that nothing has happened to yet.
    if stage.plan.has_crashes() {
        renew_driver(stage)?;
    }
    let after = match before.returns(stage, stage.observer)? {
        Ok(()) => before,
        Err(after) => after,
    };
    conclude(stage, &before, &after)
}

/// Has everybody have had once what takes memory for good, such as the first queue of each kind and the first crash.
fn warm_up(stage: &Arc<Stage>) -> Result<(), Failure> {
    let depths = [hasher::DEPTH, 1].into_iter().chain((0..WRITERS).map(|_| writer::DEPTH));
    let queues: Result<Vec<Queue<'_>>, Failure> =
        depths.map(|depth| Queue::open(stage, depth.min(stage.disk.queue_depth as usize))).collect();
    drop(queues?);
    if stage.plan.has_crashes() {
        // The first crash and the first life after one fill caches; from the second on nothing is new.
        renew_driver(stage)?;
        renew_driver(stage)?;
    }
    Ok(())
}

/// Kills the driver and waits for its next life to answer.
fn renew_driver(stage: &Stage) -> Result<(), Failure> {
    let old = stage.driver()?;
    let deadline = time::now() + PATIENCE;
    if old.state == DomainState::Running {
        stage.wires.control.kill(Text::new(stage.victim))??;
    }
    loop {
        let now = stage.driver()?;
        if now.id != old.id && now.state == DomainState::Running {
            stage.wires.disk.info()?;
            return Ok(());
        }
        if time::now() > deadline {
            return Err(Failure(format!("{} does not live again within {PATIENCE:?}", stage.victim)));
        }
        time::sleep(Duration::from_micros(200));
    }
}

fn begin(stage: &Stage) {
    let (us, victim, plan) = (console::now_us(), stage.victim, &stage.plan);
    let every_us = if plan.has_crashes() { plan.every.as_micros() } else { 0 };
    let (duration_us, turn_us) = (plan.duration.as_micros(), plan.turn.as_micros());
    stage.say(format_args!(
        r#""begin":{{"us":{us},"victim":"{victim}","meters":["read","written"],"every_us":{every_us},"duration_us":{duration_us},"turn_us":{turn_us}}}"#
    ));
}

fn start(stage: &Arc<Stage>) -> Result<Vec<JoinHandle>, Failure> {
    let mut workers = Vec::new();
    let mut spawn = |priority: u8, name: &'static str, work: Work| -> Result<(), Failure> {
        let stage = stage.clone();
        let body = move || {
            if let Err(failure) = work(&stage) {
                stage.breaks(&failure.about(name).0);
            }
        };
        workers.push(Builder::new().priority(priority).spawn(body)?);
        Ok(())
    };
    spawn(2, "the hasher", hasher::run)?;
    const WRITE: [Work; WRITERS as usize] =
        [|stage| writer::run(stage, 0, WRITERS), |stage| writer::run(stage, 1, WRITERS)];
    for write in WRITE {
        spawn(2, "a writer", write)?;
    }
    if stage.plan.has_crashes() {
        // More urgent than the load: what it measures is an outage, and not that others have the CPU.
        spawn(1, "the killer", killer::run)?;
    }
    Ok(workers)
}

/// Says how things stand until it is time to end.
fn follow(stage: &Stage) -> Result<(), Failure> {
    let began = time::now();
    for number in 1_u64.. {
        let elapsed = time::now() - began;
        stage.calm.store(stage.plan.is_calm(elapsed), Ordering::Relaxed);
        tick(stage);
        if number % TICKS_TO_A_CENSUS == 1 {
            census(stage)?;
        }
        let is_done = elapsed >= stage.plan.duration && stage.passes.load(Ordering::Relaxed) > 0;
        if is_done || stage.stop.load(Ordering::Relaxed) || stage.is_broken() {
            break;
        }
        time::sleep_until(began + TICK * number as u32);
    }
    Ok(())
}

fn tick(stage: &Stage) {
    let get = |number: &core::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
    let (us, calm) = (console::now_us(), stage.calm.load(Ordering::Relaxed));
    let (read, written) = (get(&stage.read_bytes), get(&stage.written_bytes));
    let (ios, crashes) = (get(&stage.ios), get(&stage.crashes));
    stage.say(format_args!(
        r#""tick":{{"us":{us},"totals":[{read},{written}],"ios":{ios},"crashes":{crashes},"calm":{calm}}}"#
    ));
}

/// Says who lives and who has how much.
fn census(stage: &Stage) -> Result<(), Failure> {
    let control = &stage.wires.control;
    for number in 0..control.domain_count()? {
        if let Some(info) = control.domain(number)? {
            console::domain(control, &info);
        }
    }
    let memory = control.memory()?;
    console::memory(control, "kernel", memory.kernel_bytes);
    console::memory(control, "stacks", memory.stack_bytes);
    console::memory(control, "shared heap", memory.shared_bytes);
    console::memory(control, "nobody", memory.free_bytes);
    Ok(())
}

fn conclude(stage: &Stage, before: &Balance, after: &Balance) -> Result<(), Failure> {
    let control = &stage.wires.control;
    let audit = control.audit()?;
    for number in 0..audit.findings {
        if let Some(finding) = control.audit_finding(number)? {
            stage.breaks(&finding);
        }
    }
    let bytes = before.free_bytes as i64 - after.free_bytes as i64;
    let count = |number: &core::sync::atomic::AtomicU64| number.load(Ordering::Relaxed) as i64;
    let checks = [
        ("bytes wrong", count(&stage.wrong_bytes)),
        ("requests lost", count(&stage.lost)),
        ("requests answered twice", count(&stage.twice)),
        // Less than a page is lost as well.
        ("pages lost", bytes.signum() * (bytes.abs() + PAGE_BYTES - 1) / PAGE_BYTES),
        ("objects lost", after.shared_objects as i64 - before.shared_objects as i64),
        ("threads lost", i64::from(after.threads) - i64::from(before.threads)),
        ("findings of the kernel's audit", audit.findings.into()),
    ];
    for (name, value) in checks {
        console::check(control, name, value);
    }
    let (us, crashes) = (console::now_us(), stage.crashes.load(Ordering::Relaxed));
    stage.say(format_args!(r#""end":{{"us":{us},"crashes":{crashes}}}"#));
    match checks.iter().find(|(_, value)| *value != 0) {
        None => Ok(()),
        Some((name, value)) => Err(Failure(format!("{name}: {value}"))),
    }
}
