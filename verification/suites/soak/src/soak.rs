//! [`Soak`]: what all threads of a soak share, and the course of it: stretches of cycles, each between two balances.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use coppice_control::{Control, ControlError, DomainState};
use coppice_example_interfaces::{Echo, Factory};
use coppice_experiment::{Balance, Failure, Random};
use coppice_interfaces::{Handle, Imports, Text};
use coppice_runtime::sync::Mutex;
use coppice_runtime::thread::{self, Builder};
use coppice_runtime::time;
use coppice_test_interfaces::{FaultTarget, Holder};

use crate::killer::Cycle;
use crate::plan::{Method, Plan};
use crate::report::{Report, Windows};
use crate::victims::{Return, Role, Victim};
use crate::{OBSERVER, audit, clients, killer};

/// The run is cut into so many parts; after each, everything has to be as it was before the first.
const STRETCHES: u64 = 10;
/// How much the kernel's own heap may grow in a run, in bytes: it takes 256 KiB at once when more is in use than ever before
/// (kernel/src/memory/heap.rs), and keeps them. More than two such steps are a leak.
const GROWTH: u64 = 2 * 64 * 4096;
/// How often somebody looks whether a domain lives again.
const GLANCE: Duration = Duration::from_micros(20);
/// How often the course of things is reported.
const INTERVAL: Duration = Duration::from_millis(200);
/// Without any progress for that long, each worker's whereabouts are reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the manifest wires the soak to.
#[derive(Imports)]
pub struct Wires {
    /// Looks after all of them.
    pub(crate) control: Handle<dyn Control>,
    /// The end of the chain.
    pub(crate) echo: Handle<dyn Echo>,
    /// Its middle.
    pub(crate) left: Handle<dyn Echo>,
    /// Its beginning.
    pub(crate) right: Handle<dyn Echo>,
    /// Hands out objects.
    pub(crate) factory: Handle<dyn Factory>,
    /// Is lent objects, and keeps calls.
    pub(crate) keeper: Handle<dyn Holder>,
    /// These fail in any way that they are told to.
    pub(crate) subject0: Handle<dyn FaultTarget>,
    /// As above.
    pub(crate) subject1: Handle<dyn FaultTarget>,
    /// As above.
    pub(crate) subject2: Handle<dyn FaultTarget>,
    /// As above.
    pub(crate) subject3: Handle<dyn FaultTarget>,
    /// As above, and hang.
    pub(crate) brief0: Handle<dyn FaultTarget>,
    /// As above.
    pub(crate) brief1: Handle<dyn FaultTarget>,
    /// An echo that has a shadow.
    pub(crate) twin: Handle<dyn Echo>,
    /// Its shadow.
    pub(crate) steady: Handle<dyn Echo>,
}

/// How many subjects there are, those with a deadline included.
pub(crate) const SUBJECTS: u64 = 6;

/// Who is ended.
const VICTIMS: [(&str, Role, Return); 12] = [
    ("subject0", Role::Subject(0), Return::Asked),
    ("echo", Role::Echo, Return::Asked),
    ("subject1", Role::Subject(1), Return::Asked),
    ("left", Role::Relay, Return::Supervised),
    ("subject2", Role::Subject(2), Return::Asked),
    ("keeper", Role::Keeper, Return::Asked),
    ("subject3", Role::Subject(3), Return::Supervised),
    ("factory", Role::Factory, Return::Asked),
    ("right", Role::Relay, Return::Asked),
    ("brief0", Role::Brief(4), Return::Asked),
    ("twin", Role::Twin, Return::Supervised),
    ("brief1", Role::Brief(5), Return::Asked),
];

/// What comes of anything that a promise is about.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Where a killer is in its cycle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Prepare,
    End,
    Restart,
    Ask,
}

impl Step {
    const ALL: [Self; 4] = [Self::Prepare, Self::End, Self::Restart, Self::Ask];

    /// Step, victim and way to end in one word, for [`Worker::does`].
    pub(crate) fn code(self, victim: usize, choice: usize) -> u32 {
        (self as u32) << 16 | (victim as u32) << 8 | choice as u32
    }
}

/// What a client or killer is doing, for whoever wants to know where one stays.
pub(crate) struct Worker {
    is_killer: bool,
    cpu: u32,
    at: AtomicU32,
}

impl Worker {
    pub(crate) fn does(&self, code: u32) {
        self.at.store(code, Ordering::Relaxed);
    }

    fn whereabouts(&self, plan: &Plan) -> String {
        let at = self.at.load(Ordering::Relaxed);
        if !self.is_killer {
            return format!("the client of CPU {} calls: {}", self.cpu, clients::CALLS[at as usize].0);
        }
        let step = Step::ALL[(at >> 16) as usize];
        let (victim, method) =
            (VICTIMS[(at >> 8 & 0xff) as usize].0, plan.choices[(at & 0xff) as usize].method);
        format!("the killer of CPU {}: {step:?} {victim} by {method}", self.cpu)
    }
}

/// What all threads share.
pub(crate) struct Soak {
    pub(crate) wires: Wires,
    pub(crate) plan: Plan,
    pub(crate) victims: Vec<Victim>,
    pub(crate) workers: Vec<Worker>,
    cpus: u32,
    /// The stretch's killers are done, and clients need not go on.
    pub(crate) over: AtomicBool,
    /// Somebody wants the run to end early.
    pub(crate) stop: AtomicBool,
    broken: Mutex<Option<Failure>>,
    /// Cycles that killers have taken up, and those that they may take up at all in this stretch.
    taken: AtomicU64,
    limit: AtomicU64,
    /// Cycles that are done.
    done: AtomicU64,
    /// Cycles count, and so do their times.
    counts: AtomicBool,
    /// Threads of this stretch that have not ended.
    killers: AtomicU32,
    clients: AtomicU32,
    pub(crate) answers: AtomicU64,
    pub(crate) errors: AtomicU64,
    windows: Mutex<Windows>,
}

impl AsRef<Handle<dyn Control>> for Soak {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.wires.control
    }
}

impl Soak {
    pub(crate) fn new(wires: Wires, plan: Plan) -> Outcome<Self> {
        let cpus = wires.control.cpu_count()?;
        let mut victims = Vec::new();
        for (name, role, comes_back) in VICTIMS {
            victims.push(Victim::new(name, role, comes_back, wires.control.find(Text::new(name))??.id));
        }
        let worker = |is_killer, cpu| Worker { is_killer, cpu, at: AtomicU32::new(0) };
        let killers = cpus.min(VICTIMS.len() as u32);
        Ok(Self {
            workers: (0..cpus)
                .map(|cpu| worker(false, cpu))
                .chain((0..killers).map(|cpu| worker(true, cpu)))
                .collect(),
            windows: Mutex::new(Windows::new(plan.cycles)),
            wires,
            plan,
            victims,
            cpus,
            over: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            broken: Mutex::new(None),
            taken: AtomicU64::new(0),
            limit: AtomicU64::new(0),
            done: AtomicU64::new(0),
            counts: AtomicBool::new(false),
            killers: AtomicU32::new(0),
            clients: AtomicU32::new(0),
            answers: AtomicU64::new(0),
            errors: AtomicU64::new(0),
        })
    }

    pub(crate) fn subject(&self, number: usize) -> &Handle<dyn FaultTarget> {
        let Wires { subject0, subject1, subject2, subject3, brief0, brief1, .. } = &self.wires;
        [subject0, subject1, subject2, subject3, brief0, brief1][number]
    }

    /// Ends a victim. False if its deadline has been quicker.
    pub(crate) fn kill(&self, victim: &Victim) -> Outcome<bool> {
        match self.wires.control.kill(Text::new(victim.name))? {
            Ok(()) => Ok(true),
            Err(ControlError::WrongState { .. }) if victim.is_brief() => Ok(false),
            Err(error) => Err(Failure(format!("{} cannot be killed: {error:?}", victim.name))),
        }
    }

    /// Makes the next instance of a victim begin. Callers are told of an end before all is taken back, and until then there is
    /// no next instance.
    pub(crate) fn restart(&self, victim: &Victim) -> Outcome {
        let deadline = time::now() + PATIENCE;
        loop {
            match self.wires.control.restart(Text::new(victim.name))? {
                Ok(()) => break,
                Err(ControlError::WrongState { .. }) if time::now() < deadline => thread::yield_now(),
                Err(error) => return Err(Failure(format!("{} does not restart: {error:?}", victim.name))),
            }
        }
        victim.is_reborn();
        Ok(())
    }

    /// Waits until the supervisor has made the next instance of a victim begin.
    pub(crate) fn wait_for_next_instance(&self, victim: &Victim) -> Outcome {
        let deadline = time::now() + PATIENCE;
        loop {
            let info = self.wires.control.find(Text::new(victim.name))??;
            if info.id.generation() > victim.instance().generation() && info.state == DomainState::Running {
                break;
            }
            if time::now() > deadline {
                return Err(Failure(format!("{} is not restarted: {:?}", victim.name, info.state)));
            }
            // The supervisor is less urgent than a killer.
            time::sleep(GLANCE);
        }
        victim.is_reborn();
        Ok(())
    }

    /// Whether nobody should begin anything more.
    pub(crate) fn is_ending(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes up one of the stretch's cycles, if there is one left.
    pub(crate) fn take_cycle(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let take = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Leaves a cycle that came to nothing to somebody else.
    pub(crate) fn give_cycle_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a cycle that is done.
    pub(crate) fn count_cycle(&self, cycle: &Cycle) {
        let number = self.done.fetch_add(1, Ordering::Relaxed);
        if self.counts.load(Ordering::Relaxed) {
            self.windows.lock().record(number, cycle);
        }
    }

    /// Remembers the first broken promise, and has everybody stop.
    fn accept(&self, outcome: Outcome) {
        if let Err(broken) = outcome {
            self.broken.lock().get_or_insert(broken);
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// All of it. False when a promise was broken.
    pub(crate) fn run(self: &Arc<Self>, report: &Report<'_>) -> bool {
        report.begin(&self.plan, self.cpus, self.workers.len() as u32 - self.cpus);
        let outcome = self.stretches(report);
        self.accept(outcome);
        self.drain(report, true);
        for choice in &self.plan.choices {
            report.method(choice);
        }
        let broken = self.broken.lock().take();
        let done = self.done();
        if let Some(Failure(what)) = &broken {
            report.broken(done, what);
        }
        report.end(done, self.answers.load(Ordering::Relaxed), self.errors.load(Ordering::Relaxed));
        broken.is_none()
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn stretches(self: &Arc<Self>, report: &Report<'_>) -> Outcome {
        // What stays filled once it has been filled is filled by a first stretch, which does not count.
        let warm_up = (self.plan.cycles / 100).clamp(20, 1000);
        self.stretch(0, warm_up, report)?;
        let before = Balance::at_rest(self, OBSERVER)?;
        let kernel_bytes = self.wires.control.memory()?.kernel_bytes;
        self.done.store(0, Ordering::Relaxed);
        self.plan.choices.iter().for_each(|choice| choice.ended.store(0, Ordering::Relaxed));
        self.plan.choices.iter().for_each(|choice| choice.missed.store(0, Ordering::Relaxed));
        self.answers.store(0, Ordering::Relaxed);
        self.errors.store(0, Ordering::Relaxed);
        self.counts.store(true, Ordering::Relaxed);
        for number in 1..=STRETCHES {
            let until = self.plan.cycles * number / STRETCHES;
            self.stretch(number, until - self.done(), report)?;
            if self.broken.lock().is_some() {
                break;
            }
            let after = match before.returns(self, OBSERVER)? {
                Ok(()) => before,
                Err(after) => after,
            };
            let grown = self.wires.control.memory()?.kernel_bytes.saturating_sub(kernel_bytes);
            report.balance(self.done(), &before, &after, grown);
            if after != before || grown > GROWTH {
                return Err(Failure(format!(
                    "not all came back: {before:?} before, {after:?} after, and the kernel's heap grew by {grown}"
                )));
            }
            if self.is_ending() {
                break;
            }
        }
        Ok(())
    }

    /// Does `cycles` cycles, with clients on all CPUs.
    fn stretch(self: &Arc<Self>, number: u64, cycles: u64, report: &Report<'_>) -> Outcome {
        self.over.store(false, Ordering::Relaxed);
        self.taken.store(0, Ordering::Relaxed);
        self.limit.store(cycles, Ordering::Relaxed);
        for index in 0..self.workers.len() {
            let worker = &self.workers[index];
            let stream = number << 32 | index as u64;
            let (soak, random) = (self.clone(), Random::new(self.plan.seed, stream));
            let here = Builder::new().affinity(1 << worker.cpu);
            if worker.is_killer {
                let killers = self.workers.len() - self.cpus as usize;
                let mine: Vec<usize> = (worker.cpu as usize..self.victims.len()).step_by(killers).collect();
                self.killers.fetch_add(1, Ordering::Relaxed);
                // More urgent than clients, so that a kill comes when its time has come.
                here.priority(1).spawn(move || {
                    soak.accept(killer::run(&soak, index, &mine, random));
                    soak.killers.fetch_sub(1, Ordering::Relaxed);
                })?;
            } else {
                self.clients.fetch_add(1, Ordering::Relaxed);
                here.spawn(move || {
                    soak.accept(clients::run(&soak, index, random));
                    soak.clients.fetch_sub(1, Ordering::Relaxed);
                })?;
            }
        }
        self.wait_for(&self.killers, report)?;
        self.over.store(true, Ordering::Relaxed);
        self.wait_for(&self.clients, report)?;
        for victim in &self.victims {
            victim.sentence(Method::Restart.kinds());
            self.restart(victim)?;
            let instance = self.wires.control.find(Text::new(victim.name))??.id;
            if instance != victim.instance() {
                return Err(Failure(format!(
                    "{} should be {:?} and is {instance:?}",
                    victim.name,
                    victim.instance()
                )));
            }
        }
        Ok(())
    }

    /// Reports what goes on until `threads` have ended.
    fn wait_for(self: &Arc<Self>, threads: &AtomicU32, report: &Report<'_>) -> Outcome {
        let (mut seen, mut since, mut next) = (self.state(), time::now(), time::now());
        while threads.load(Ordering::Relaxed) > 0 {
            time::sleep(Duration::from_millis(1));
            if time::now() < next {
                continue;
            }
            next = time::now() + INTERVAL;
            let now = self.state();
            report.progress(now.0, now.1, self.errors.load(Ordering::Relaxed));
            self.drain(report, false);
            audit::audit(&self.wires.control)?;
            if now != seen {
                (seen, since) = (now, time::now());
            } else if time::now() - since > PATIENCE {
                since = time::now();
                for worker in &self.workers {
                    report.remark(&worker.whereabouts(&self.plan));
                }
            }
        }
        Ok(())
    }

    /// What changes as long as anybody gets on.
    fn state(&self) -> (u64, u64) {
        (self.done(), self.answers.load(Ordering::Relaxed))
    }

    /// Reports windows that are full, and at the end all of them.
    fn drain(&self, report: &Report<'_>, all: bool) {
        let windows = self.windows.lock().take(all);
        windows.iter().for_each(|window| report.window(window));
    }
}
