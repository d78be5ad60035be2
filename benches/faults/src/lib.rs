//! What comes of each kind of fault?
//!
//! Each is raised in a subject, which notes the time-stamp counter right before, in an object that it was lent and that its
//! end gives back. A figure is the time from there to the caller's having its error, and beside it to the first good
//! answer of the next instance. It says how often the fault was *contained* (the caller heard of the right instance and kind, and
//! nobody else noticed), how often the next instance was good, and how many bytes were gone after all of it.
//!
//! The next instance is the supervisor's business, as in a real system, and the caller asks until it is answered: so the second
//! time is the outage that a client sees. What must not be measured is the pause for domains that keep crashing. So several
//! subjects take turns, and rest before any of them has had more crashes than are answered at once.
//!
//! Baselines of the same run: a call that is answered, and a restart that somebody asks for.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod samples;

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use coppice_control::Control;
use coppice_example_interfaces::Echo;
use coppice_experiment::{Balance, Failure};
use coppice_interfaces::{CrashKind, DomainId, Handle, Imports, RpcError, Text};
use coppice_rref::RRef;
use coppice_runtime::thread::{self, Builder};
use coppice_runtime::time::{self, tsc};
use coppice_runtime::{Domain, Environment, StartError};
use coppice_test_interfaces::{Fault, FaultTarget};
use samples::Samples;

/// How long all figures together may take, unless option `seconds` says otherwise.
const DEFAULT_SECONDS: u64 = 60;
/// Crashes of a subject between two rests: less than the supervisor answers at once.
const IN_A_ROW: usize = 6;
/// A rest: longer than the instance after which the supervisor forgives all crashes.
const REST: Duration = Duration::from_millis(1100);
/// Between two crashes.
const BREATHER: Duration = Duration::from_millis(1);
/// What takes longer does not happen.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a kill is tried, and how long each time the victim computes, in milliseconds: less than its deadline.
const ATTEMPTS: u32 = 10;
const VISIT_MS: u32 = 10;
/// This domain's name in the manifest.
const OBSERVER: &str = "faults";
/// Who fails.
const SUBJECTS: [&str; 8] =
    ["subject0", "subject1", "subject2", "subject3", "subject4", "subject5", "subject6", "subject7"];
/// Who must not notice anything.
const BYSTANDERS: [&str; 2] = ["echo", "keeper"];

/// The domain.
pub struct FaultsBench;

/// What it is wired to.
#[derive(Imports)]
pub struct Wires {
    control: Handle<dyn Control>,
    echo: Handle<dyn Echo>,
    subject0: Handle<dyn FaultTarget>,
    subject1: Handle<dyn FaultTarget>,
    subject2: Handle<dyn FaultTarget>,
    subject3: Handle<dyn FaultTarget>,
    subject4: Handle<dyn FaultTarget>,
    subject5: Handle<dyn FaultTarget>,
    subject6: Handle<dyn FaultTarget>,
    subject7: Handle<dyn FaultTarget>,
}

impl Domain for FaultsBench {
    type Imports = Wires;
    type Export = ();

    /// `deadline_ms=N` among the arguments is the subjects' deadline in the manifest; without it nothing hangs.
    fn start(environment: &Environment<'_>, wires: Wires) -> Result<(), StartError> {
        let deadline_ms = environment.option("deadline_ms").and_then(|text| text.parse().ok());
        // One thread that stays on the last CPU, since the first has the console.
        let cpus = wires.control.cpu_count().unwrap_or(1);
        let bench = Builder::new().affinity(1 << (cpus - 1)).spawn(move || {
            let control = wires.control.clone();
            let result = Bench::new(wires, deadline_ms).and_then(|bench| Arc::new(bench).measure());
            if let Err(Failure(what)) = &result {
                log::error!("{what}");
            }
            let _ = control.shut_down(result.is_ok());
        });
        bench?;
        Ok(())
    }
}

/// How a instance ends.
#[derive(Clone, Copy)]
enum End {
    Fault(Fault),
    /// By somebody else, while it computes.
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

/// The caller's side of an end.
struct Heard {
    /// Who was called.
    instance: DomainId,
    error: RpcError,
    /// When the fault was raised, or should have been noticed.
    raised: u64,
    heard: u64,
}

/// What came of an end.
struct Crash {
    error_ticks: u64,
    answer_ticks: u64,
    is_contained: bool,
    is_good_again: bool,
}

struct Bench {
    wires: Wires,
    /// Ticks of the counter in the subjects' deadline, if they have one.
    deadline_ticks: Option<u64>,
    /// How often each subject gets through its turns.
    rounds: u32,
}

impl AsRef<Handle<dyn Control>> for Bench {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.wires.control
    }
}

impl Bench {
    fn new(wires: Wires, deadline_ms: Option<u64>) -> Result<Self, Failure> {
        let seconds = wires.control.option(Text::new("seconds"))?.and_then(|seconds| seconds.parse().ok());
        // Nearly all of the time is rest.
        let rests = REST * (Fault::ALL.len() as u32 + 1);
        let rounds = Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS)).as_millis() / rests.as_millis();
        let hz = wires.control.tsc_hz()?;
        let deadline_ticks = deadline_ms.map(|ms: u64| ms * hz / 1000);
        Ok(Self { wires, deadline_ticks, rounds: (rounds as u32).max(1) })
    }

    fn subject(&self, number: usize) -> &Handle<dyn FaultTarget> {
        let Wires { subject0, subject1, subject2, subject3, .. } = &self.wires;
        let Wires { subject4, subject5, subject6, subject7, .. } = &self.wires;
        [subject0, subject1, subject2, subject3, subject4, subject5, subject6, subject7][number]
    }

    fn print(&self, line: Text<256>) -> Result<(), Failure> {
        Ok(self.wires.control.print(line)?)
    }

    fn measure(self: &Arc<Self>) -> Result<(), Failure> {
        self.baselines()?;
        // Fills what stays filled; nobody looks at the figures.
        self.series(End::Fault(Fault::Panic), 1)?;
        for end in Fault::ALL.map(End::Fault).into_iter().chain([End::Kill]) {
            self.figure(end)?;
        }
        Ok(())
    }

    fn baselines(&self) -> Result<(), Failure> {
        let timed = |times: u32, call: &dyn Fn() -> Result<(), Failure>| {
            let once = |_| {
                let begin = tsc();
                call().map(|()| tsc() - begin)
            };
            (0..times).map(once).collect::<Result<Vec<_>, _>>().map(Samples::new)
        };
        let ask = || Ok(self.subject(0).count().map(drop)?);
        self.print(timed(1000, &ask)?.line("healthy/call", ""))?;
        // A restart that is asked for has no pause, however many there are.
        let restart = || {
            self.wires.control.restart(Text::new(SUBJECTS[0]))??;
            ask()
        };
        self.print(timed(500, &restart)?.line("healthy/restart_and_answer", ""))
    }

    /// The figure of one kind of end.
    fn figure(self: &Arc<Self>, end: End) -> Result<(), Failure> {
        let id = format!("fault/{end}");
        let before = Balance::at_rest(self, OBSERVER)?;
        let Some(crashes) = self.series(end, self.rounds)? else {
            return self.print(samples::absent(&id));
        };
        // Some of it may still be on its way back.
        let after = before.returns(self, OBSERVER)?.err().unwrap_or(before);
        let count = |what: fn(&Crash) -> bool| crashes.iter().filter(|crash| what(crash)).count();
        let answers = Samples::new(crashes.iter().map(|crash| crash.answer_ticks).collect());
        let more = format!(
            ", \"contained\": {}, \"restarted\": {}, \"bytes_lost\": {}, \"answer_median\": {}, \"answer_p99\": {}",
            count(|crash| crash.is_contained),
            count(|crash| crash.is_good_again),
            before.free_bytes as i64 - after.free_bytes as i64,
            answers.at(0.5),
            answers.at(0.99),
        );
        let errors = Samples::new(crashes.iter().map(|crash| crash.error_ticks).collect());
        self.print(errors.line(&id, &more))
    }

    /// Ends subjects in turn; `None` if that end is not to be had here.
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
            for number in (0..IN_A_ROW).flat_map(|_| 0..SUBJECTS.len()) {
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
        let [echo, keeper] = BYSTANDERS.map(|name| self.instance(name));
        Ok([echo?, keeper?])
    }

    /// Ends subject `number`, and asks until its next instance has answered.
    fn crash(&self, number: usize, end: End) -> Result<Option<Crash>, Failure> {
        // The kernel's line about the last crash is written by now: each is measured by itself.
        time::sleep(BREATHER);
        let bystanders = self.bystanders()?;
        let heard = match end {
            End::Fault(fault) => self.fail(number, fault)?,
            End::Kill => Some(self.kill(number)?),
        };
        let Some(Heard { instance, error, raised, heard }) = heard else { return Ok(None) };
        let first = self.ask(number)?;
        let answered = tsc();
        let (next, after) = (self.instance(SUBJECTS[number])?, self.bystanders()?);
        let others_are_well = after == bystanders && self.wires.echo.ping(7)? == 7;
        Ok(Some(Crash {
            // A hang may be noticed by a clock that is a tick ahead of ours.
            error_ticks: heard.saturating_sub(raised),
            answer_ticks: answered.saturating_sub(raised),
            is_contained: error.domain() == instance
                && end.kinds().contains(&error.kind())
                && others_are_well,
            // Its data are pristine, and no instance was skipped.
            is_good_again: first == 1
                && next == DomainId::new(instance.slot() as u32, instance.generation() + 1),
        }))
    }

    /// Asks subject `number` until it answers.
    fn ask(&self, number: usize) -> Result<u64, Failure> {
        let mut answer = None;
        self.until("the next instance answers", || {
            answer = self.subject(number).count().ok();
            answer.is_some()
        })?;
        answer.ok_or_else(|| Failure("an answer got lost".into()))
    }

    /// Has subject `number` fail; `None` if it comes back.
    fn fail(&self, number: usize, fault: Fault) -> Result<Option<Heard>, Failure> {
        let instance = self.instance(SUBJECTS[number])?;
        let (claim, clock) = RRef::new(0_u64).lend();
        let answer = self.subject(number).fail_with_timestamp(fault, clock);
        let heard = tsc();
        let Err(error) = answer else { return Ok(None) };
        // Callers are told before all is taken back.
        self.until("what was lent is back", || claim.is_back())?;
        let clock = claim.redeem().map_err(|_| Failure("what is back cannot be redeemed".into()))?;
        // A hang is noticed at its deadline at the earliest.
        let allowed = if fault.is_hang() { self.deadline_ticks.unwrap_or(0) } else { 0 };
        Ok(Some(Heard { instance, error, raised: *clock + allowed, heard }))
    }

    /// Has another thread kill subject `number` while we are inside. On a busy host it may strike before we are, and we
    /// visit the next instance: then once more.
    fn kill(&self, number: usize) -> Result<Heard, Failure> {
        for _ in 0..ATTEMPTS {
            let instance = self.instance(SUBJECTS[number])?;
            let began = Arc::new(AtomicU64::new(0));
            let (control, begins) = (self.wires.control.clone(), began.clone());
            // More urgent, for where there is one CPU.
            let killer = Builder::new().priority(1).spawn(move || {
                time::sleep(Duration::from_micros(100));
                begins.store(tsc(), Ordering::Release);
                let _ = control.kill(Text::new(SUBJECTS[number]));
            })?;
            let answer = self.subject(number).spin(VISIT_MS);
            let heard = tsc();
            killer.join();
            match answer {
                Err(error) if error.kind() != CrashKind::NotRunning => {
                    return Ok(Heard { instance, error, raised: began.load(Ordering::Acquire), heard });
                }
                _ => self.ask(number)?,
            };
        }
        Err(Failure(format!("{} was never killed while it was visited", SUBJECTS[number])))
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) -> Result<(), Failure> {
        let deadline = time::now() + PATIENCE;
        while !holds() {
            if time::now() > deadline {
                return Err(Failure(format!("after {PATIENCE:?} still not so: {what}")));
            }
            thread::yield_now();
        }
        Ok(())
    }
}
