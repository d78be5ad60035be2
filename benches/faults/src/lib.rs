//! The consequences of each kind of fault.
//!
//! Each fault is raised in a fault target, which records the time-stamp counter right before, in a lent
//! object that its end returns. A figure is the time from there until the caller gets its error, and the time
//! until the first correct answer of the next instance. It includes the number of faults that were
//! *contained* (the caller got the right instance and kind, and no other domain was affected), the number of
//! correct next instances, and the bytes lost over the whole series.
//!
//! The supervisor restarts the fault target, as in a real system, and the caller repeats its call until it is
//! answered, so the second time is the outage of a client. The pause for domains that keep crashing must not
//! be measured. So several fault targets take turns, and rest before any of them reaches the crash count that
//! delays restarts.
//!
//! Baselines of the same run: a successful call, and a restart on request.
//!
//! `foreign/N` is the time of a restart on request of an idle domain while another domain owns N objects of
//! the shared heap. The numbers take turns in short rounds, so that a slower phase of the host affects all of
//! them.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use coppice_bench_harness::{Bench, Samples};
use coppice_control::Control;
use coppice_example_interfaces::Echo;
use coppice_experiment::{Failure, ResourceSnapshot};
use coppice_interfaces::{CrashKind, DomainId, Handle, Imports, RpcError, Text};
use coppice_rref::RRef;
use coppice_runtime::thread::{self, Builder};
use coppice_runtime::time::{self, tsc};
use coppice_runtime::{Domain, Environment, StartError};
use coppice_test_interfaces::{Fault, FaultTarget, QuotaHog};

/// The default of the option `seconds`: the time for all figures.
const DEFAULT_SECONDS: u32 = 60;
/// The crashes of a fault target between two rests: fewer than delay a restart.
const MAX_CONSECUTIVE: usize = 6;
/// The length of a rest: longer than the run after which the supervisor forgets all crashes.
const REST: Duration = Duration::from_millis(1100);
/// The pause between two crashes.
const PAUSE: Duration = Duration::from_millis(1);
/// The limit for each wait.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The number of attempts of a kill, and the time for which the victim computes in each, in milliseconds:
/// less than its deadline.
const ATTEMPTS: u32 = 10;
const VISIT_MS: u32 = 10;
/// This domain's name in the manifest.
const OWN_NAME: &str = "faults";
/// The domains that fail.
const FAULT_TARGETS: [&str; 8] = [
    "fault-target0",
    "fault-target1",
    "fault-target2",
    "fault-target3",
    "fault-target4",
    "fault-target5",
    "fault-target6",
    "fault-target7",
];
/// The figures of the baselines.
const BASELINES: [&str; 2] = ["healthy/call", "healthy/restart_and_answer"];
/// The domain that owns the foreign objects, and the numbers of these objects.
const OWNER: &str = "owner";
const FOREIGN: [u32; 3] = [0, 117_000, 1_400_000];
/// The rounds of `foreign/N`, and the restarts of a round.
const FOREIGN_ROUNDS: u32 = 10;
const FOREIGN_RESTARTS: u32 = 100;
/// The domains that must not be affected.
const BYSTANDERS: [&str; 2] = ["echo", "holder"];

/// The domain that runs the benchmark.
pub struct FaultsBench;

/// The domains and services that the manifest wires to the benchmark.
#[derive(Imports)]
pub struct Wires {
    control: Handle<dyn Control>,
    echo: Handle<dyn Echo>,
    owner: Handle<dyn QuotaHog>,
    fault_target0: Handle<dyn FaultTarget>,
    fault_target1: Handle<dyn FaultTarget>,
    fault_target2: Handle<dyn FaultTarget>,
    fault_target3: Handle<dyn FaultTarget>,
    fault_target4: Handle<dyn FaultTarget>,
    fault_target5: Handle<dyn FaultTarget>,
    fault_target6: Handle<dyn FaultTarget>,
    fault_target7: Handle<dyn FaultTarget>,
}

impl Domain for FaultsBench {
    type Imports = Wires;
    type Export = ();

    /// The argument `deadline_ms=N` is the fault targets' deadline in the manifest. Without it no hang is
    /// measured.
    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let deadline_ms = environment.option("deadline_ms").and_then(|text| text.parse().ok());
        let control = wires.control.clone();
        coppice_bench_harness::start(&control, DEFAULT_SECONDS, move |bench| {
            Arc::new(Experiment::new(wires, bench, deadline_ms)).measure(bench)
        })
    }
}

/// The figure of restarts beside `count` foreign objects.
fn foreign_id(count: u32) -> String {
    format!("foreign/{count}")
}

/// A way to end an instance.
#[derive(Clone, Copy)]
enum End {
    Fault(Fault),
    /// A kill by another thread while it computes.
    Kill,
}

impl End {
    fn kinds(self) -> &'static [CrashKind] {
        match self {
            Self::Fault(fault) => fault.kinds(),
            Self::Kill => &[CrashKind::Killed],
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(fault) => write!(f, "{fault:?}"),
            Self::Kill => f.write_str("Kill"),
        }
    }
}

/// A crash as its caller sees it.
struct CallerError {
    /// The called instance.
    instance: DomainId,
    error: RpcError,
    /// The time of the fault, or of its expected detection.
    raised: u64,
    returned: u64,
}

/// The consequences of an end.
struct Crash {
    error_ticks: u64,
    answer_ticks: u64,
    is_contained: bool,
    is_good_again: bool,
}

/// The system under test, and the limits of the measurement.
struct Experiment {
    wires: Wires,
    /// The ticks of the fault targets' deadline, if they have one.
    deadline_ticks: Option<u64>,
    /// The number of turns of each fault target.
    rounds: u32,
}

impl AsRef<Handle<dyn Control>> for Experiment {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.wires.control
    }
}

impl Experiment {
    fn new(wires: Wires, bench: &Bench, deadline_ms: Option<u64>) -> Self {
        // Nearly all of the time is rest.
        let rests = REST * (Fault::ALL.len() as u32 + 1);
        let rounds = Duration::from_secs(bench.seconds().into()).as_millis() / rests.as_millis();
        let deadline_ticks = deadline_ms.map(|ms| ms * bench.tsc_hz() / 1000);
        Self { wires, deadline_ticks, rounds: (rounds as u32).max(1) }
    }

    fn fault_target(&self, number: usize) -> &Handle<dyn FaultTarget> {
        let Wires { fault_target0, fault_target1, fault_target2, fault_target3, .. } = &self.wires;
        let Wires { fault_target4, fault_target5, fault_target6, fault_target7, .. } = &self.wires;
        [
            fault_target0,
            fault_target1,
            fault_target2,
            fault_target3,
            fault_target4,
            fault_target5,
            fault_target6,
            fault_target7,
        ][number]
    }

    fn measure(self: &Arc<Self>, bench: &Bench) -> Result<(), Failure> {
        if FOREIGN.iter().any(|count| bench.wants(&foreign_id(*count))) {
            self.foreign_objects(bench)?;
        }
        if BASELINES.iter().any(|id| bench.wants(id)) {
            self.baselines(bench)?;
        }
        let ends = Fault::ALL.map(End::Fault).into_iter().chain([End::Kill]);
        let mut ends = ends.filter(|end| bench.wants(&format!("fault/{end}"))).peekable();
        if ends.peek().is_some() {
            // Fills caches; the figures are dropped.
            self.series(End::Fault(Fault::Panic), 1)?;
        }
        for end in ends {
            self.figure(bench, end)?;
        }
        Ok(bench.report_latencies()?)
    }

    fn baselines(&self, bench: &Bench) -> Result<(), Failure> {
        let timed = |times: u32, call: &dyn Fn() -> Result<(), Failure>| {
            let once = |_| {
                let begin = tsc();
                call().map(|()| tsc() - begin)
            };
            (0..times).map(once).collect::<Result<Vec<_>, _>>().map(Samples::of_ticks)
        };
        let ask = || Ok(self.fault_target(0).count().map(drop)?);
        bench.report(BASELINES[0], &timed(1000, &ask)?)?;
        // A restart on request is never delayed.
        let restart = || {
            self.wires.control.restart(Text::new(FAULT_TARGETS[0]))??;
            ask()
        };
        Ok(bench.report(BASELINES[1], &timed(500, &restart)?)?)
    }

    /// Measures restarts beside the objects of another domain.
    fn foreign_objects(&self, bench: &Bench) -> Result<(), Failure> {
        let mut ticks = FOREIGN.map(|_| Vec::new());
        for _ in 0..FOREIGN_ROUNDS {
            for (count, ticks) in FOREIGN.into_iter().zip(&mut ticks) {
                let leaked = self.wires.owner.leak(count, false)?;
                if leaked < count {
                    return Err(Failure(format!("{OWNER} got {leaked} objects of {count}")));
                }
                for _ in 0..FOREIGN_RESTARTS {
                    time::sleep(PAUSE);
                    let begin = tsc();
                    self.wires.control.restart(Text::new(FAULT_TARGETS[0]))??;
                    ticks.push(tsc() - begin);
                }
                self.wires.control.restart(Text::new(OWNER))??;
            }
        }
        for (count, ticks) in FOREIGN.into_iter().zip(ticks) {
            bench.report(&foreign_id(count), &Samples::of_ticks(ticks))?;
        }
        Ok(())
    }

    /// Measures one way to end.
    fn figure(self: &Arc<Self>, bench: &Bench, end: End) -> Result<(), Failure> {
        let id = format!("fault/{end}");
        let before = ResourceSnapshot::at_rest(self, OWN_NAME)?;
        let Some(crashes) = self.series(end, self.rounds)? else {
            return Ok(bench.print(Samples::absent(&id))?);
        };
        // Some resources may still be on their way back.
        let after = before.wait_for_return(self, OWN_NAME)?.err().unwrap_or(before);
        let count = |what: fn(&Crash) -> bool| crashes.iter().filter(|crash| what(crash)).count();
        let answers = Samples::of_ticks(crashes.iter().map(|crash| crash.answer_ticks));
        let bytes = before.free_bytes as i64 - after.free_bytes as i64 + after.kernel_bytes as i64
            - before.kernel_bytes as i64;
        let more = [
            ("contained", count(|crash| crash.is_contained) as f64),
            ("restarted", count(|crash| crash.is_good_again) as f64),
            ("bytes_lost", bytes as f64),
            ("answer_median", answers.at(0.5)),
            ("answer_p99", answers.at(0.99)),
        ];
        let errors = Samples::of_ticks(crashes.iter().map(|crash| crash.error_ticks));
        Ok(bench.print(errors.figure(&id).with(more))?)
    }

    /// Ends fault targets in turn. Returns `None` if this machine cannot raise the fault.
    fn series(&self, end: End, rounds: u32) -> Result<Option<Vec<Crash>>, Failure> {
        if let End::Fault(fault) = end
            && fault.is_hang()
            && self.deadline_ticks.is_none()
        {
            return Ok(None);
        }
        let mut crashes = Vec::new();
        for _ in 0..rounds {
            time::sleep(REST);
            for number in (0..MAX_CONSECUTIVE).flat_map(|_| 0..FAULT_TARGETS.len()) {
                match self.crash(number, end)? {
                    Some(crash) => crashes.push(crash),
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(crashes))
    }

    fn instance(&self, name: &str) -> Result<DomainId, Failure> {
        Ok(self.wires.control.find(Text::new(name))??.id)
    }

    fn bystanders(&self) -> Result<[DomainId; 2], Failure> {
        let [echo, holder] = BYSTANDERS.map(|name| self.instance(name));
        Ok([echo?, holder?])
    }

    /// Ends fault target `number`, and repeats a call until its next instance has answered.
    fn crash(&self, number: usize, end: End) -> Result<Option<Crash>, Failure> {
        // By now the kernel has printed its line about the last crash: each crash is measured by itself.
        time::sleep(PAUSE);
        let bystanders = self.bystanders()?;
        let returned = match end {
            End::Fault(fault) => self.fail(number, fault)?,
            End::Kill => Some(self.kill(number)?),
        };
        let Some(CallerError { instance, error, raised, returned }) = returned else { return Ok(None) };
        let first = self.ask(number)?;
        let answered = tsc();
        let (next, after) = (self.instance(FAULT_TARGETS[number])?, self.bystanders()?);
        let others_are_well = after == bystanders && self.wires.echo.ping(7)? == 7;
        Ok(Some(Crash {
            // A clock that is a tick ahead of ours may find a hang.
            error_ticks: returned.saturating_sub(raised),
            answer_ticks: answered.saturating_sub(raised),
            is_contained: error.domain() == instance
                && end.kinds().contains(&error.kind())
                && others_are_well,
            // Its data are pristine, and no instance was skipped.
            is_good_again: first == 1
                && next == DomainId::new(instance.slot() as u32, instance.generation() + 1),
        }))
    }

    /// Calls fault target `number` until it answers.
    fn ask(&self, number: usize) -> Result<u64, Failure> {
        let mut answer = None;
        self.until("the next instance answers", || {
            answer = self.fault_target(number).count().ok();
            answer.is_some()
        })?;
        answer.ok_or_else(|| Failure("the answer was lost".into()))
    }

    /// Raises a fault in fault target `number`. Returns `None` if the call comes back.
    fn fail(&self, number: usize, fault: Fault) -> Result<Option<CallerError>, Failure> {
        let instance = self.instance(FAULT_TARGETS[number])?;
        let (claim, clock) = RRef::new(0_u64).lend();
        let answer = self.fault_target(number).fail_with_timestamp(fault, clock);
        let returned = tsc();
        let Err(error) = answer else { return Ok(None) };
        // The caller gets its error before the kernel has reclaimed everything.
        self.until("the lent object is back", || claim.is_back())?;
        let clock = claim.redeem().map_err(|_| Failure("the returned object cannot be redeemed".into()))?;
        // A hang is found at its deadline at the earliest.
        let allowed = if fault.is_hang() { self.deadline_ticks.unwrap_or(0) } else { 0 };
        Ok(Some(CallerError { instance, error, raised: *clock + allowed, returned }))
    }

    /// Makes another thread kill fault target `number` during a call to it. On a busy host the kill may come
    /// before the call, which then reaches the next instance: then it is repeated.
    fn kill(&self, number: usize) -> Result<CallerError, Failure> {
        for _ in 0..ATTEMPTS {
            let instance = self.instance(FAULT_TARGETS[number])?;
            let began = Arc::new(AtomicU64::new(0));
            let (control, begins) = (self.wires.control.clone(), began.clone());
            // A higher priority, for machines with one CPU.
            let killer = Builder::new().priority(1).spawn(move || {
                time::sleep(Duration::from_micros(100));
                begins.store(tsc(), Ordering::Release);
                let _ = control.kill(Text::new(FAULT_TARGETS[number]));
            })?;
            let answer = self.fault_target(number).spin(VISIT_MS);
            let returned = tsc();
            killer.join();
            match answer {
                Err(error) if error.kind() != CrashKind::NotRunning => {
                    return Ok(CallerError {
                        instance,
                        error,
                        raised: began.load(Ordering::Acquire),
                        returned,
                    });
                }
                _ => self.ask(number)?,
            };
        }
        Err(Failure(format!("{} was never killed during a call", FAULT_TARGETS[number])))
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
        let deadline = time::now() + TIMEOUT;
        while !holds() {
            if time::now() > deadline {
                return Err(Failure(format!("not true after {TIMEOUT:?}: {what}")));
            }
            thread::yield_now();
        }
        Ok(())
    }
}
