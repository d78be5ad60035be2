//! The course of a trial: all is tried once, then weighed, then done for as long as it was asked for, then weighed again.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_control::{Control, DomainState};
use coppice_experiment::{Balance, Failure};
use coppice_interfaces::{Handle, Text};
use coppice_runtime::thread::{self, Builder, JoinHandle};
use coppice_runtime::{Environment, time};
use coppice_test_interfaces::FaultControl;

use crate::{Load, Trial, Work, console, killer};

/// How often it is said how things stand, and how often that is said of each domain.
const TICK: Duration = Duration::from_millis(100);
const TICKS_TO_A_CENSUS: u64 = 10;
/// How long the driver may take to live again.
const PATIENCE: Duration = Duration::from_secs(20);
const PAGE_BYTES: i64 = 4096;

/// Tries the driver under the load that `make` makes, on a thread of its own, and ends the system.
///
/// The domain's options `victim` and `name` say who is crashed and who this is: `names` if they do not.
///
/// # Panics
/// When the manifest allows no thread.
pub fn start<L: Load>(
    environment: &Environment<'_>,
    names: [&'static str; 2],
    control: Handle<dyn Control>,
    orders: Handle<dyn FaultControl>,
    make: impl FnOnce(Arc<Trial>) -> Result<L, Failure> + Send + 'static,
) {
    let [victim, observer] = names;
    let victim = environment.option("victim").unwrap_or(victim);
    let observer = environment.option("name").unwrap_or(observer);
    let run = move || {
        let trial = Trial::new(control.clone(), orders, [victim, observer].map(Text::new));
        let success = match trial.and_then(|trial| make(Arc::new(trial))) {
            Ok(load) => run(&Arc::new(load)),
            Err(failure) => {
                console::broken(&control, &failure.0);
                false
            }
        };
        let _ = control.shut_down(success);
    };
    // More urgent than the load, which otherwise would hold up what is reported.
    Builder::new().priority(0).spawn(run).expect("the manifest allows a thread");
}

/// Whether all promises were kept.
fn run<L: Load>(load: &Arc<L>) -> bool {
    let trial = load.trial().clone();
    let listen = move || {
        while let Ok(line) = trial.control.read_line() {
            if &*line == "stop" {
                trial.stop.store(true, Ordering::Relaxed);
            }
        }
    };
    // It waits for a line until the system ends.
    thread::spawn(listen).expect("the manifest allows a second thread");
    match course(load) {
        Ok(()) => !load.trial().is_broken(),
        Err(failure) => {
            load.trial().breaks(&failure.0);
            false
        }
    }
}

fn course<L: Load>(load: &Arc<L>) -> Result<(), Failure> {
    let trial = load.trial();
    warm_up(&**load)?;
    let before = Balance::at_rest(trial, &trial.observer)?;
    begin(&**load);
    let workers = start_all(load)?;
    follow(&**load)?;
    trial.over.store(true, Ordering::Relaxed);
    workers.into_iter().for_each(JoinHandle::join);
    tick(&**load);
    census(trial)?;
    // As it was when it was weighed before: a instance that nothing has happened to yet.
    if trial.schedule.has_crashes() {
        renew_driver(&**load)?;
    }
    let after = match before.returns(trial, &trial.observer)? {
        Ok(()) => before,
        Err(after) => after,
    };
    conclude(&**load, &before, &after)
}

/// Has everybody have had once what takes memory for good, such as the first crash.
fn warm_up(load: &impl Load) -> Result<(), Failure> {
    load.warm_up()?;
    if load.trial().schedule.has_crashes() {
        // The first crash and the first instance after one fill caches; from the second on nothing is new.
        renew_driver(load)?;
        renew_driver(load)?;
    }
    Ok(())
}

/// Kills the driver and waits for its next instance to answer.
fn renew_driver(load: &impl Load) -> Result<(), Failure> {
    let trial = load.trial();
    let old = trial.driver()?;
    let deadline = time::now() + PATIENCE;
    if old.state == DomainState::Running {
        trial.control.kill(trial.victim)??;
    }
    loop {
        let now = trial.driver()?;
        if now.id != old.id && now.state == DomainState::Running {
            return load.greet();
        }
        if time::now() > deadline {
            return Err(Failure(format!("{} does not live again within {PATIENCE:?}", trial.victim)));
        }
        time::sleep(Duration::from_micros(200));
    }
}

fn begin<L: Load>(load: &L) {
    let trial = load.trial();
    let (us, victim, answers, schedule) = (console::now_us(), trial.victim, L::ANSWERS, &trial.schedule);
    let every_us = if schedule.has_crashes() { schedule.every.as_micros() } else { 0 };
    let (duration_us, turn_us) = (schedule.duration.as_micros(), schedule.turn.as_micros());
    trial.say(format_args!(
        r#""begin":{{"us":{us},"victim":"{victim}","answers":"{answers}","every_us":{every_us},"duration_us":{duration_us},"turn_us":{turn_us}}}"#
    ));
    for meter in load.meters() {
        trial.say(format_args!(r#""meter":{meter}"#));
    }
}

fn start_all<L: Load>(load: &Arc<L>) -> Result<Vec<JoinHandle>, Failure> {
    let mut workers = Vec::new();
    let has_killer = load.trial().schedule.has_crashes();
    load.trial().killing.store(has_killer, Ordering::Relaxed);
    for (name, work) in load.workers() {
        workers.push(start_one(load, 2, name, work)?);
    }
    if has_killer {
        // More urgent than the load: what it measures is an outage, and not that others have the CPU.
        workers.push(start_one(load, 1, "the killer", |load| {
            let outcome = load.probe().and_then(|mut probe| killer::run(load.trial(), &mut *probe));
            load.trial().killing.store(false, Ordering::Release);
            outcome
        })?);
    }
    Ok(workers)
}

fn start_one<L: Load>(
    load: &Arc<L>,
    priority: u8,
    name: &'static str,
    work: Work<L>,
) -> Result<JoinHandle, Failure> {
    let load = load.clone();
    let body = move || {
        if let Err(failure) = work(&load) {
            load.trial().breaks(&failure.about(name).0);
        }
    };
    Ok(Builder::new().priority(priority).spawn(body)?)
}

/// Says how things stand until it is time to end.
fn follow(load: &impl Load) -> Result<(), Failure> {
    let trial = load.trial();
    let began = time::now();
    for number in 1_u64.. {
        let elapsed = time::now() - began;
        trial.calm.store(trial.schedule.is_calm(elapsed), Ordering::Relaxed);
        tick(load);
        if number % TICKS_TO_A_CENSUS == 1 {
            census(trial)?;
        }
        let is_done = elapsed >= trial.schedule.duration && !load.wants_more();
        if is_done || trial.stop.load(Ordering::Relaxed) || trial.is_broken() {
            break;
        }
        time::sleep_until(began + TICK * number as u32);
    }
    Ok(())
}

fn tick(load: &impl Load) {
    let trial = load.trial();
    let (us, calm) = (console::now_us(), trial.calm.load(Ordering::Relaxed));
    let progress = load.progress();
    let mut totals = String::new();
    for (place, total) in progress.totals.iter().enumerate() {
        let _ = write!(totals, "{}{total}", if place == 0 { "" } else { "," });
    }
    let (answers, crashes) = (progress.answers, trial.crashes());
    trial.say(format_args!(
        r#""tick":{{"us":{us},"totals":[{totals}],"answers":{answers},"crashes":{crashes},"calm":{calm}}}"#
    ));
}

/// Says who lives and who has how much.
fn census(trial: &Trial) -> Result<(), Failure> {
    let control = &trial.control;
    for number in 0..control.domain_count()? {
        if let Some(info) = control.domain(number)? {
            console::domain(control, &info);
        }
    }
    let memory = control.memory()?;
    console::memory(control, "kernel", memory.kernel_bytes);
    console::memory(control, "stacks", memory.stack_bytes);
    console::memory(control, "shared heap", memory.shared_bytes);
    console::memory(control, "none", memory.free_bytes);
    Ok(())
}

fn conclude(load: &impl Load, before: &Balance, after: &Balance) -> Result<(), Failure> {
    let trial = load.trial();
    let control = &trial.control;
    let audit = control.audit()?;
    for number in 0..audit.findings {
        if let Some(finding) = control.audit_finding(number)? {
            trial.breaks(&finding);
        }
    }
    let bytes = before.free_bytes as i64 - after.free_bytes as i64;
    let mut checks = load.losses();
    checks.extend([
        // Less than a page is lost as well.
        ("pages lost", bytes.signum() * (bytes.abs() + PAGE_BYTES - 1) / PAGE_BYTES),
        ("objects lost", after.shared_objects as i64 - before.shared_objects as i64),
        ("threads lost", i64::from(after.threads) - i64::from(before.threads)),
        ("findings of the kernel's audit", audit.findings.into()),
    ]);
    for (name, value) in &checks {
        console::check(control, name, *value);
    }
    let (us, crashes) = (console::now_us(), trial.crashes());
    trial.say(format_args!(r#""end":{{"us":{us},"crashes":{crashes}}}"#));
    match checks.iter().find(|(_, value)| *value != 0) {
        None => Ok(()),
        Some((name, value)) => Err(Failure(format!("{name}: {value}"))),
    }
}
