//! The sequence of a trial: warm-up, resource snapshot, load with crashes for the configured time, second
//! snapshot.

use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_control::DomainState;
use coppice_experiment::{Failure, ResourceSnapshot};
use coppice_run_protocol::trial::{Begin, End, Tick, checks};
use coppice_runtime::thread::{self, Builder, JoinHandle};
use coppice_runtime::time;

use crate::{Load, Progress, Trial, Work, console, killer};

/// The interval of the progress lines, and their number between two lists of all domains.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_CENSUS: u64 = 10;
/// The timeout for a restart of the driver.
const TIMEOUT: Duration = Duration::from_secs(20);
const PAGE_BYTES: i64 = 4096;

/// Runs a trial of the driver under `load`. Returns true if all checks passed.
pub(crate) fn run<L: Load>(load: &Arc<L>) -> bool {
    let trial = load.trial().clone();
    let listen = move || {
        while let Ok(line) = trial.control.read_line() {
            if &*line == "stop" {
                trial.stop.store(true, Ordering::Relaxed);
            }
        }
    };
    // The thread waits for a line until the system ends.
    thread::spawn(listen).expect("the manifest allows a second thread");
    match try_run(load) {
        Ok(()) => !load.trial().has_failed() && load.trial().unexpected_deaths() == 0,
        Err(failure) => {
            load.trial().report_failure(&failure.0);
            false
        }
    }
}

fn try_run<L: Load>(load: &Arc<L>) -> Result<(), Failure> {
    let trial = load.trial();
    warm_up(&**load)?;
    trial.watch_deaths()?;
    let before = ResourceSnapshot::at_rest(trial, &trial.observer)?;
    begin(&**load);
    let workers = start_all(load)?;
    follow(&**load)?;
    trial.over.store(true, Ordering::Relaxed);
    workers.into_iter().for_each(JoinHandle::join);
    tick(&**load);
    census(trial)?;
    // The first snapshot was of an instance that no fault has hit yet; so is the second.
    if trial.schedule.has_crashes() {
        restart_driver(&**load)?;
    }
    let after = match before.wait_for_return(trial, &trial.observer)? {
        Ok(()) => before,
        Err(after) => after,
    };
    conclude(&**load, &before, &after)
}

/// Runs each operation once that allocates permanent memory, such as the first crash.
fn warm_up(load: &impl Load) -> Result<(), Failure> {
    load.warm_up()?;
    if load.trial().schedule.has_crashes() {
        // The first crash and the first restart fill caches; the second ones allocate nothing new.
        restart_driver(load)?;
        restart_driver(load)?;
    }
    Ok(())
}

/// Kills the driver and waits for a reply of its next instance.
fn restart_driver(load: &impl Load) -> Result<(), Failure> {
    let trial = load.trial();
    let old = trial.driver()?;
    let deadline = time::now() + TIMEOUT;
    if old.state == DomainState::Running {
        trial.announce_death(old.id, false)?;
        trial.control.kill(trial.driver_name)??;
    }
    loop {
        let now = trial.driver()?;
        if now.id != old.id && now.state == DomainState::Running {
            load.wait_for_reply()?;
            return trial.conclude_death(true);
        }
        if time::now() > deadline {
            return Err(Failure(format!("{} did not restart within {TIMEOUT:?}", trial.driver_name)));
        }
        time::sleep(Duration::from_micros(200));
    }
}

fn begin<L: Load>(load: &L) {
    let trial = load.trial();
    let schedule = &trial.schedule;
    let us = |time: Duration| time.as_micros() as u64;
    trial.print(Begin {
        us: console::now_us(),
        driver: trial.driver_name.to_string(),
        answers: L::REPLIES.into(),
        every_us: if schedule.has_crashes() { us(schedule.every) } else { 0 },
        duration_us: us(schedule.duration),
        turn_us: us(schedule.turn),
    });
    for meter in load.meters() {
        trial.print(meter);
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
        // The killer's priority is above the load's: it measures outages, not waits for the CPU.
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
            load.trial().report_failure(&failure.about(name).0);
        }
    };
    Ok(Builder::new().priority(priority).spawn(body)?)
}

/// Prints the progress until the end of the run.
fn follow(load: &impl Load) -> Result<(), Failure> {
    let trial = load.trial();
    let began = time::now();
    let mut has_killed = false;
    for number in 1_u64.. {
        let elapsed = time::now() - began;
        trial.calm.store(trial.schedule.is_calm(elapsed), Ordering::Relaxed);
        tick(load);
        trial.report_deaths()?;
        if number % TICKS_PER_CENSUS == 1 {
            census(trial)?;
        }
        if let Some(name) = trial.schedule.unannounced_kill
            && !has_killed
            && elapsed >= trial.schedule.duration / 2
        {
            trial.control.kill(name)??;
            has_killed = true;
        }
        let is_done = elapsed >= trial.schedule.duration && !load.needs_more_time();
        if is_done || trial.stop.load(Ordering::Relaxed) || trial.has_failed() {
            break;
        }
        time::sleep_until(began + TICK * number as u32);
    }
    Ok(())
}

fn tick(load: &impl Load) {
    let trial = load.trial();
    let (us, calm) = (console::now_us(), trial.calm.load(Ordering::Relaxed));
    let Progress { totals, answers } = load.progress();
    trial.print(Tick { us, totals, answers, crashes: trial.crashes(), calm });
}

/// Prints the domains and the owners of memory.
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

fn conclude(load: &impl Load, before: &ResourceSnapshot, after: &ResourceSnapshot) -> Result<(), Failure> {
    let trial = load.trial();
    trial.report_deaths()?;
    let control = &trial.control;
    let audit = control.audit()?;
    for number in 0..audit.findings {
        if let Some(finding) = control.audit_finding(number)? {
            trial.report_failure(&finding);
        }
    }
    let bytes = before.free_bytes as i64 - after.free_bytes as i64;
    let resources: [i64; checks::RESOURCES.len()] = [
        // Part of a page counts as a page.
        bytes.signum() * (bytes.abs() + PAGE_BYTES - 1) / PAGE_BYTES,
        after.kernel_bytes as i64 - before.kernel_bytes as i64,
        after.shared_objects as i64 - before.shared_objects as i64,
        i64::from(after.threads) - i64::from(before.threads),
        audit.findings.into(),
    ];
    let mut checks = load.zero_checks();
    checks.extend(checks::RESOURCES.into_iter().zip(resources));
    for (name, value) in &checks {
        console::check(control, name, *value);
    }
    trial.print(End { us: console::now_us(), crashes: trial.crashes() });
    match checks.iter().find(|(_, value)| *value != 0) {
        None => Ok(()),
        Some((name, value)) => Err(Failure(format!("{name}: {value}"))),
    }
}
