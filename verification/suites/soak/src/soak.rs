//! [`Soak`]: the state shared by all threads of a soak, and its run: stretches of cycles, each between two
//! resource snapshots.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use coppice_control::{Control, ControlError, DomainState};
use coppice_example_interfaces::{Echo, Factory};
use coppice_experiment::{Failure, Random, ResourceSnapshot};
use coppice_interfaces::{Handle, Imports, Text};
use coppice_runtime::sync::Mutex;
use coppice_runtime::thread::{self, Builder};
use coppice_runtime::time;
use coppice_test_interfaces::{FaultTarget, Holder};

use crate::kill_targets::{KillTarget, RestartBy, Role};
use crate::killer::Cycle;
use crate::plan::{Method, Plan};
use crate::report::{Report, Windows};
use crate::{OWN_NAME, audit, clients, killer};

/// The number of stretches of a run. After each, the resources in use must be the same as before the first.
const STRETCHES: u64 = 10;
/// The interval at which a restart is polled.
const POLL_INTERVAL: Duration = Duration::from_micros(20);
/// The interval of progress reports.
const INTERVAL: Duration = Duration::from_millis(200);
/// Without any progress for this time, the position of each worker is reported.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);

/// The domains and services that the manifest wires to the soak.
#[derive(Imports)]
pub struct Wires {
    /// The kernel's control interface.
    pub(crate) control: Handle<dyn Control>,
    /// The end of the chain.
    pub(crate) echo: Handle<dyn Echo>,
    /// The middle of the chain.
    pub(crate) left: Handle<dyn Echo>,
    /// The beginning of the chain.
    pub(crate) right: Handle<dyn Echo>,
    /// Exports objects.
    pub(crate) factory: Handle<dyn Factory>,
    /// Keeps lent objects and calls.
    pub(crate) holder: Handle<dyn Holder>,
    /// The first of the fault targets, which raise any fault but hangs.
    pub(crate) fault_target0: Handle<dyn FaultTarget>,
    /// A fault target without a deadline.
    pub(crate) fault_target1: Handle<dyn FaultTarget>,
    /// A fault target without a deadline.
    pub(crate) fault_target2: Handle<dyn FaultTarget>,
    /// A fault target without a deadline.
    pub(crate) fault_target3: Handle<dyn FaultTarget>,
    /// A fault target with a deadline, which also hangs.
    pub(crate) fault_target4: Handle<dyn FaultTarget>,
    /// A fault target with a deadline.
    pub(crate) fault_target5: Handle<dyn FaultTarget>,
    /// An echo behind a shadow.
    pub(crate) shadowed_echo: Handle<dyn Echo>,
    /// The shadow of `shadowed_echo`.
    pub(crate) shadow_echo: Handle<dyn Echo>,
}

/// The number of fault targets, those with a deadline included.
pub(crate) const FAULT_TARGETS: u64 = 6;

/// The domains that killers end.
const VICTIMS: [(&str, Role, RestartBy); 12] = [
    ("fault-target0", Role::FaultTarget(0), RestartBy::Killer),
    ("echo", Role::Echo, RestartBy::Killer),
    ("fault-target1", Role::FaultTarget(1), RestartBy::Killer),
    ("left", Role::Relay, RestartBy::Supervisor),
    ("fault-target2", Role::FaultTarget(2), RestartBy::Killer),
    ("holder", Role::Holder, RestartBy::Killer),
    ("fault-target3", Role::FaultTarget(3), RestartBy::Supervisor),
    ("factory", Role::Factory, RestartBy::Killer),
    ("right", Role::Relay, RestartBy::Killer),
    ("fault-target4", Role::FaultTargetWithDeadline(4), RestartBy::Killer),
    ("shadowed-echo", Role::ShadowedEcho, RestartBy::Supervisor),
    ("fault-target5", Role::FaultTargetWithDeadline(5), RestartBy::Killer),
];

/// The result of a step that checks a guarantee.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// The step of a killer within its cycle.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Prepare,
    End,
    Restart,
    Ask,
}

impl Step {
    const ALL: [Self; 4] = [Self::Prepare, Self::End, Self::Restart, Self::Ask];

    /// Returns step, victim and way to end in one word, for [`Worker::does`].
    pub(crate) fn code(self, victim: usize, choice: usize) -> u32 {
        (self as u32) << 16 | (victim as u32) << 8 | choice as u32
    }
}

/// The current action of a client or killer, for the report of a stall.
pub(crate) struct Worker {
    is_killer: bool,
    cpu: u32,
    at: AtomicU32,
}

impl Worker {
    pub(crate) fn does(&self, code: u32) {
        self.at.store(code, Ordering::Relaxed);
    }

    fn position(&self, plan: &Plan) -> String {
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

/// The state shared by all threads.
pub(crate) struct Soak {
    pub(crate) wires: Wires,
    pub(crate) plan: Plan,
    pub(crate) kill_targets: Vec<KillTarget>,
    pub(crate) workers: Vec<Worker>,
    cpus: u32,
    /// Set when the stretch's killers are done, so that clients end.
    pub(crate) over: AtomicBool,
    /// Set to end the run early.
    pub(crate) stop: AtomicBool,
    broken: Mutex<Option<Failure>>,
    /// The cycles that killers have started, and the limit for this stretch.
    taken: AtomicU64,
    limit: AtomicU64,
    /// The cycles that are done.
    done: AtomicU64,
    /// True if cycles and their times count.
    counts: AtomicBool,
    /// The killers of this stretch that have not ended.
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
        let mut kill_targets = Vec::new();
        for (name, role, restart_by) in VICTIMS {
            kill_targets.push(KillTarget::new(
                name,
                role,
                restart_by,
                wires.control.find(Text::new(name))??.id,
            ));
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
            kill_targets,
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

    pub(crate) fn fault_target(&self, number: usize) -> &Handle<dyn FaultTarget> {
        let Wires {
            fault_target0,
            fault_target1,
            fault_target2,
            fault_target3,
            fault_target4,
            fault_target5,
            ..
        } = &self.wires;
        [fault_target0, fault_target1, fault_target2, fault_target3, fault_target4, fault_target5][number]
    }

    /// Ends a victim. Returns false if its deadline ended it first.
    pub(crate) fn kill(&self, victim: &KillTarget) -> Outcome<bool> {
        match self.wires.control.kill(Text::new(victim.name))? {
            Ok(()) => Ok(true),
            Err(ControlError::WrongState { .. }) if victim.has_deadline() => Ok(false),
            Err(error) => Err(Failure(format!("{} cannot be killed: {error:?}", victim.name))),
        }
    }

    /// Restarts a victim. Callers get the error before the kernel has reclaimed everything, and the restart
    /// is refused until then.
    pub(crate) fn restart(&self, victim: &KillTarget) -> Outcome {
        let deadline = time::now() + STALL_TIMEOUT;
        loop {
            match self.wires.control.restart(Text::new(victim.name))? {
                Ok(()) => break,
                Err(ControlError::WrongState { .. }) if time::now() < deadline => thread::yield_now(),
                Err(error) => return Err(Failure(format!("{} cannot be restarted: {error:?}", victim.name))),
            }
        }
        victim.count_restart();
        Ok(())
    }

    /// Waits until the supervisor has restarted a victim.
    pub(crate) fn wait_for_next_instance(&self, victim: &KillTarget) -> Outcome {
        let deadline = time::now() + STALL_TIMEOUT;
        loop {
            let info = self.wires.control.find(Text::new(victim.name))??;
            if info.id.generation() > victim.instance().generation() && info.state == DomainState::Running {
                break;
            }
            if time::now() > deadline {
                return Err(Failure(format!("{} is not restarted: {:?}", victim.name, info.state)));
            }
            // The supervisor has a lower priority than a killer.
            time::sleep(POLL_INTERVAL);
        }
        victim.count_restart();
        Ok(())
    }

    /// Returns true if no thread should start anything more.
    pub(crate) fn is_ending(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes one of the stretch's cycles, if one is left.
    pub(crate) fn take_cycle(&self) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let take = |taken| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }

    /// Returns a cycle that had no effect to the stretch.
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

    /// Records the first failure and stops all threads.
    fn accept(&self, outcome: Outcome) {
        if let Err(broken) = outcome {
            self.broken.lock().get_or_insert(broken);
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Runs the whole soak. Returns false if a check failed.
    pub(crate) fn run(self: &Arc<Self>, report: &Report<'_>) -> bool {
        report.begin(&self.plan, self.cpus, self.workers.len() as u32 - self.cpus);
        let outcome = self.stretches(report);
        self.accept(outcome);
        self.drain(report, true);
        for choice in &self.plan.choices {
            report.method(choice);
        }
        report.latencies();
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
        // The first stretch fills caches and does not count.
        let warm_up = (self.plan.cycles / 100).clamp(20, 1000);
        self.stretch(0, warm_up, report)?;
        let before = ResourceSnapshot::at_rest(self, OWN_NAME)?;
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
            let after = match before.wait_for_return(self, OWN_NAME)? {
                Ok(()) => before,
                Err(after) => after,
            };
            report.balance(self.done(), &before, &after);
            if after != before {
                return Err(Failure(format!("resources leaked: {}", before.difference(after))));
            }
            if self.is_ending() {
                break;
            }
        }
        Ok(())
    }

    /// Runs `cycles` cycles, with clients on all CPUs.
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
                let mine: Vec<usize> =
                    (worker.cpu as usize..self.kill_targets.len()).step_by(killers).collect();
                self.killers.fetch_add(1, Ordering::Relaxed);
                // Has a higher priority than clients, so that a kill is not delayed.
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
        for victim in &self.kill_targets {
            victim.expect_end(Method::Restart.kinds());
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

    /// Reports progress until `threads` have ended.
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
            } else if time::now() - since > STALL_TIMEOUT {
                since = time::now();
                for worker in &self.workers {
                    report.remark(&worker.position(&self.plan));
                }
            }
        }
        Ok(())
    }

    /// Returns counters that change with any progress.
    fn state(&self) -> (u64, u64) {
        (self.done(), self.answers.load(Ordering::Relaxed))
    }

    /// Reports complete windows, and at the end all of them.
    fn drain(&self, report: &Report<'_>, all: bool) {
        let windows = self.windows.lock().take(all);
        windows.iter().for_each(|window| report.window(window));
    }
}
