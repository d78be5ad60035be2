//! The killer crashes the driver by one method after the other. It measures the outage from the fault to the
//! first reply of the next instance, which a [`Probe`] observes.

use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use core::time::Duration;

use coppice_control::ControlError;
use coppice_experiment::Failure;
use coppice_interfaces::{DomainId, Text};
use coppice_run_protocol::trial::{self, DEADLINE, Fault};
use coppice_runtime::time;
use coppice_test_interfaces::{Injection, InjectionRecord};

use crate::{Method, Trial};

/// The timeout for an injection and for the next instance.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The interval after which an injection that was not raised is set again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The polling interval for a raised fault.
const POLL_INTERVAL: Duration = Duration::from_micros(50);
/// The maximum sleep of the killer, since the run may end at any time.
const MAX_SLEEP: Duration = Duration::from_millis(20);

/// Observes the replies of the driver. Calls of the load raise the faults, never calls of the killer: a hang
/// of a thread with the killer's priority would keep all others off its CPU.
pub trait Probe {
    /// Returns the time of the driver's last reply, in nanoseconds since boot. Sends a request if necessary,
    /// and retries it through a crash. Called only when the driver is about to crash, or has crashed.
    ///
    /// # Errors
    /// [`Failure`] when the driver does not reply or the reply is wrong.
    fn last_reply_ns(&mut self) -> Result<u64, Failure>;

    /// Prepares for the next crash.
    ///
    /// # Errors
    /// [`Failure`] when the load has failed.
    fn before(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Returns the number of frames that the last crash lost, for a load that may lose any. Called once the
    /// driver replies again.
    ///
    /// # Errors
    /// [`Failure`] when the load has failed.
    fn lost(&mut self) -> Result<Option<u64>, Failure> {
        Ok(None)
    }
}

/// The crashes by one method.
#[derive(Clone, Copy, Default)]
struct Tally {
    crashes: u64,
    /// The machine does not raise the fault.
    is_absent: bool,
}

/// The result of one attempt.
enum Outcome {
    Crashed(Crash),
    Absent,
    /// The instance ended before the injection, by another fault.
    OtherFault,
}

struct Crash {
    /// Nanoseconds since boot.
    at_ns: u64,
    outage_ns: u64,
    start_ns: u64,
    instance: DomainId,
}

/// Crashes the driver until the run ends.
pub(crate) fn run(trial: &Trial, probe: &mut dyn Probe) -> Result<(), Failure> {
    let plan = &trial.schedule;
    let mut killer = Killer { trial, probe };
    let mut tallies: Vec<Tally> = plan.methods.iter().map(|_| Tally::default()).collect();
    let mut turn = 0;
    let mut due = time::now() + plan.every;
    while wait_until(trial, due) {
        due = (due + plan.every).max(time::now());
        if trial.calm.load(Ordering::Relaxed) {
            continue;
        }
        if tallies.iter().all(|tally| tally.is_absent) {
            return Err(Failure("the machine raises none of the selected faults".into()));
        }
        let number = loop {
            let number = turn % tallies.len();
            turn += 1;
            if !tallies[number].is_absent {
                break number;
            }
        };
        let method = plan.methods[number];
        let outcome = killer.crash(method, (turn / tallies.len()) as u64)?;
        trial.conclude_death(matches!(outcome, Outcome::Crashed(_)))?;
        match outcome {
            Outcome::Crashed(crash) => {
                tallies[number].crashes += 1;
                trial.crashes.fetch_add(1, Ordering::Relaxed);
                killer.report(method, &crash)?;
            }
            Outcome::Absent => tallies[number].is_absent = true,
            Outcome::OtherFault => {}
        }
    }
    for (method, Tally { crashes, is_absent }) in plan.methods.iter().zip(&tallies) {
        trial.print(Fault { name: method.to_string(), crashes: *crashes, absent: *is_absent });
    }
    Ok(())
}

/// Returns false if the run ends first.
fn wait_until(trial: &Trial, due: Duration) -> bool {
    while !trial.is_over() {
        let now = time::now();
        if now >= due {
            return true;
        }
        time::sleep_until(due.min(now + MAX_SLEEP));
    }
    false
}

/// Returns the cause of death in the kernel's crash record. It must be one that the method produces, or the
/// deadline, which a busy machine reaches before a heap is full.
fn cause_of_death(trial: &Trial, method: Method, instance: DomainId) -> Result<Text<16>, Failure> {
    let Some(line) = trial.control.post_mortem(instance, 0)? else {
        return Err(Failure(format!("no crash record of generation {}", instance.generation())));
    };
    let kinds: Vec<Text<16>> = match method {
        Method::Kill => [Text::new("Killed")].into(),
        Method::Fault(fault) => {
            fault.kinds().iter().map(|kind| Text::format(format_args!("{kind:?}"))).collect()
        }
    };
    kinds
        .into_iter()
        .chain([Text::new(DEADLINE)])
        .find(|kind| line.contains(&**kind))
        .ok_or_else(|| Failure(format!("after {method} the crash record says: {}", &*line)))
}

/// Crashes the driver of `trial`.
struct Killer<'a> {
    trial: &'a Trial,
    probe: &'a mut dyn Probe,
}

impl Killer<'_> {
    fn report(&mut self, method: Method, crash: &Crash) -> Result<(), Failure> {
        let &Crash { at_ns, outage_ns, start_ns, instance } = crash;
        let died = cause_of_death(self.trial, method, instance)?;
        self.trial.print(trial::Crash {
            us: at_ns / 1000,
            fault: method.to_string(),
            died: died.to_string(),
            outage_ns,
            start_ns: Some(start_ns),
            generation: instance.generation(),
            lost: self.probe.lost()?,
        });
        Ok(())
    }

    /// Returns true if that instance has begun to raise an injected fault.
    fn is_raised(&self, instance: DomainId) -> bool {
        let record = self.trial.fault_control.record();
        record.is_ok_and(|record| record.raised.is_some_and(|(of, _)| of == instance.generation()))
    }

    /// Crashes the driver by that method, for the `turn`th time.
    fn crash(&mut self, method: Method, turn: u64) -> Result<Outcome, Failure> {
        let trial = self.trial;
        self.probe.before()?;
        let instance = trial.driver()?.id;
        trial.announce_death(instance, method.is_hang())?;
        let mut killed_ns = None;
        match method {
            Method::Kill => {
                let now = time::now().as_nanos() as u64;
                match trial.control.kill(trial.driver_name)? {
                    Ok(()) => killed_ns = Some(now),
                    Err(ControlError::WrongState { .. }) => return Ok(Outcome::OtherFault),
                    Err(error) => return Err(error.into()),
                }
            }
            Method::Fault(_) => {}
        }
        let mut set_at: Option<Duration> = None;
        let deadline = time::now() + TIMEOUT;
        loop {
            if let Method::Fault(fault) = method
                && set_at.is_none_or(|at| time::now() > at + RETRY_AFTER)
            {
                // The domain that passes injections on may have hit its own deadline; its next instance has
                // lost the injection.
                let _ = trial.fault_control.set(Injection { fault, point: method.injection_point(turn) });
                set_at = Some(time::now());
            }
            // Until then the calls of the load must raise the fault: a hang of a thread with this priority
            // would keep all others off its CPU.
            let is_under_way = killed_ns.is_some() || self.is_raised(instance);
            let reply_ns = if is_under_way { self.probe.last_reply_ns()? } else { 0 };
            let Ok(record) = trial.fault_control.record() else { continue };
            let InjectionRecord { generation, begun_ns, start_ns, raised, not_raised } = record;
            let raised_ns = raised.and_then(|(of, ns)| (of == instance.generation()).then_some(ns));
            let has_next = generation > instance.generation();
            match killed_ns.or(raised_ns) {
                // A reply before the start of the next instance came from the last one.
                Some(at_ns) if has_next && reply_ns >= begun_ns => {
                    let outage_ns = reply_ns.saturating_sub(at_ns);
                    return Ok(Outcome::Crashed(Crash { at_ns, outage_ns, start_ns, instance }));
                }
                None if has_next => return Ok(Outcome::OtherFault),
                _ if not_raised == Some(instance.generation()) => return Ok(Outcome::Absent),
                _ => {}
            }
            // While the old instance still replies, as in a partial hang, its threads need the CPU, too.
            time::sleep(POLL_INTERVAL);
            if time::now() > deadline {
                return Err(Failure(format!(
                    "{method}: generation {} {} within {TIMEOUT:?}",
                    instance.generation(),
                    if has_next { "had no next instance that replies" } else { "did not end" }
                )));
            }
        }
    }
}
