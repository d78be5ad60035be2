//! Crashes the driver, by one method after the other, and measures from the instant of the fault to the first answer of the
//! next instance, of which a [`Probe`] knows.

use alloc::format;
use alloc::vec::Vec;
use core::fmt::Write;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_control::ControlError;
use coppice_experiment::Failure;
use coppice_interfaces::{DomainId, Text};
use coppice_runtime::time;
use coppice_test_interfaces::{Injection, InjectionRecord};

use crate::{Method, Trial};

/// How long an order, or a next instance, may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// When an order that nobody has carried out is given again.
const AGAIN: Duration = Duration::from_secs(1);
/// How often it is looked whether one is carried out.
const GLANCE: Duration = Duration::from_micros(50);
/// How long the killer sleeps at a time, as the run may be over meanwhile.
const NAP: Duration = Duration::from_millis(20);

/// When the driver has answered. Calls of the load's and not of the killer's carry orders out: a hang of a thread as urgent
/// as the killer's would keep all others off its CPU.
pub trait Probe {
    /// When the driver was last seen to answer, in nanoseconds since boot: asks it, if need be, through whatever happens to it
    /// meanwhile. Only called when it is about to end, or has.
    ///
    /// # Errors
    /// What is broken.
    fn answered_ns(&mut self) -> Result<u64, Failure>;

    /// The driver is about to be crashed.
    ///
    /// # Errors
    /// What is broken.
    fn before(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// It answers again: how many frames that crash has lost, if this is something that may lose any.
    ///
    /// # Errors
    /// What is broken.
    fn lost(&mut self) -> Result<Option<u64>, Failure> {
        Ok(None)
    }
}

/// What came of a method.
#[derive(Clone, Copy, Default)]
struct Tally {
    crashes: u64,
    /// The machine does not raise it.
    is_absent: bool,
}

/// What came of one attempt.
enum Outcome {
    Crashed(Crash),
    Absent,
    /// The instance was over before its time: somebody else's fault.
    Unasked,
}

struct Crash {
    /// Nanoseconds since boot.
    at_ns: u64,
    outage_ns: u64,
    start_ns: u64,
    instance: DomainId,
}

/// Crashes until the run is over.
pub(crate) fn run(trial: &Trial, probe: &mut dyn Probe) -> Result<(), Failure> {
    let plan = &trial.schedule;
    let mut killer = Killer { trial, probe };
    let mut tallies: Vec<Tally> = plan.methods.iter().map(|_| Tally::default()).collect();
    let mut turn = 0;
    let first = trial.driver()?.id.generation();
    let mut due = time::now() + plan.every;
    while wait_until(trial, due) {
        due = (due + plan.every).max(time::now());
        if trial.calm.load(Ordering::Relaxed) {
            continue;
        }
        if tallies.iter().all(|tally| tally.is_absent) {
            return Err(Failure("the machine raises nothing of what was asked for".into()));
        }
        let number = loop {
            let number = turn % tallies.len();
            turn += 1;
            if !tallies[number].is_absent {
                break number;
            }
        };
        let method = plan.methods[number];
        match killer.crash(method, (turn / tallies.len()) as u64)? {
            Outcome::Crashed(crash) => {
                tallies[number].crashes += 1;
                trial.crashes.fetch_add(1, Ordering::Relaxed);
                killer.report(method, &crash)?;
            }
            Outcome::Absent => tallies[number].is_absent = true,
            // What the lives come to at the end has it.
            Outcome::Unasked => {}
        }
    }
    for (method, Tally { crashes, is_absent }) in plan.methods.iter().zip(&tallies) {
        trial.say(format_args!(r#""fault":{{"name":"{method}","crashes":{crashes},"absent":{is_absent}}}"#));
    }
    let instances = trial.driver()?.id.generation().wrapping_sub(first);
    let unasked = u64::from(instances).saturating_sub(trial.crashes());
    if unasked > 0 {
        trial.say(format_args!(r#""fault":{{"name":"unasked","crashes":{unasked}}}"#));
    }
    Ok(())
}

/// False if the run was over before.
fn wait_until(trial: &Trial, due: Duration) -> bool {
    while !trial.is_over() {
        let now = time::now();
        if now >= due {
            return true;
        }
        time::sleep_until(due.min(now + NAP));
    }
    false
}

/// What the kernel says that a instance died of. It has to be what that method ends with; or the deadline, which is earlier when
/// the machine is so busy that filling a heap takes as long.
fn death(trial: &Trial, method: Method, instance: DomainId) -> Result<Text<16>, Failure> {
    let Some(line) = trial.control.post_mortem(instance, 0)? else {
        return Err(Failure(format!("nobody knows what generation {} died of", instance.generation())));
    };
    let kinds: Vec<Text<16>> = match method {
        Method::Kill => [Text::new("Killed")].into(),
        Method::Fault(fault) => {
            fault.kinds().iter().map(|kind| Text::format(format_args!("{kind:?}"))).collect()
        }
    };
    kinds
        .into_iter()
        .chain([Text::new("Deadline")])
        .find(|kind| line.contains(&**kind))
        .ok_or_else(|| Failure(format!("after {method} the kernel says: {}", &*line)))
}

/// Who crashes the driver of `trial`.
struct Killer<'a> {
    trial: &'a Trial,
    probe: &'a mut dyn Probe,
}

impl Killer<'_> {
    fn report(&mut self, method: Method, crash: &Crash) -> Result<(), Failure> {
        let Crash { at_ns, outage_ns, start_ns, instance } = crash;
        let (us, generation) = (at_ns / 1000, instance.generation());
        let died = death(self.trial, method, *instance)?;
        let mut lost = Text::<32>::new("");
        if let Some(frames) = self.probe.lost()? {
            let _ = write!(lost, r#","lost":{frames}"#);
        }
        self.trial.say(format_args!(
            r#""crash":{{"us":{us},"fault":"{method}","died":"{died}","outage_ns":{outage_ns},"start_ns":{start_ns},"generation":{generation}{lost}}}"#
        ));
        Ok(())
    }

    /// Whether that instance has begun to carry an order out.
    fn is_raised(&self, instance: DomainId) -> bool {
        let record = self.trial.orders.record();
        record.is_ok_and(|record| record.raised.is_some_and(|(of, _)| of == instance.generation()))
    }

    /// Has the driver end by that method, for the `turn`th time.
    fn crash(&mut self, method: Method, turn: u64) -> Result<Outcome, Failure> {
        let trial = self.trial;
        self.probe.before()?;
        let instance = trial.driver()?.id;
        let mut killed_ns = None;
        match method {
            Method::Kill => {
                let now = time::now().as_nanos() as u64;
                match trial.control.kill(trial.victim)? {
                    Ok(()) => killed_ns = Some(now),
                    Err(ControlError::WrongState { .. }) => return Ok(Outcome::Unasked),
                    Err(error) => return Err(error.into()),
                }
            }
            Method::Fault(_) => {}
        }
        let mut told: Option<Duration> = None;
        let deadline = time::now() + PATIENCE;
        loop {
            if let Method::Fault(fault) = method
                && told.is_none_or(|at| time::now() > at + AGAIN)
            {
                // Who passes it on may have been ended by its deadline, and its next instance knows of nothing.
                let _ = trial.orders.set(Injection { fault, point: method.place(turn) });
                told = Some(time::now());
            }
            // Until then it is for the load's calls to carry the order out: a hang of a thread as urgent as this one would keep
            // all others off its CPU.
            let is_under_way = killed_ns.is_some() || self.is_raised(instance);
            let answered_ns = if is_under_way { self.probe.answered_ns()? } else { 0 };
            let Ok(record) = trial.orders.record() else { continue };
            let InjectionRecord { generation, begun_ns, start_ns, raised, not_raised } = record;
            let raised_ns = raised.and_then(|(of, ns)| (of == instance.generation()).then_some(ns));
            let has_next = generation > instance.generation();
            match killed_ns.or(raised_ns) {
                // What was answered before the next instance began, the last one had answered.
                Some(at_ns) if has_next && answered_ns >= begun_ns => {
                    let outage_ns = answered_ns.saturating_sub(at_ns);
                    return Ok(Outcome::Crashed(Crash { at_ns, outage_ns, start_ns, instance }));
                }
                None if has_next => return Ok(Outcome::Unasked),
                _ if not_raised == Some(instance.generation()) => return Ok(Outcome::Absent),
                _ => {}
            }
            // While the old instance still answers, as when it only half hangs, its threads and their locks want the CPU too.
            time::sleep(GLANCE);
            if time::now() > deadline {
                return Err(Failure(format!(
                    "{method}: generation {} {} within {PATIENCE:?}",
                    instance.generation(),
                    if has_next { "had no next instance that answers" } else { "does not end" }
                )));
            }
        }
    }
}
