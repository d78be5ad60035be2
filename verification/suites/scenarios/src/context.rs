//! [`Context`]: the system under test, and the checks and waits that scenarios share.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_block::BlockDevice;
use coppice_control::{Control, ControlError, DomainInfo, DomainState, RestartPlan};
use coppice_example_interfaces::{Echo, Engine, Factory, Filter, Message, Pool};
pub(crate) use coppice_experiment::Failure;
use coppice_experiment::{Random, ResourceSnapshot, Scenario, ScenarioContext};
use coppice_interfaces::{DomainId, Handle, Imports, Text};
use coppice_net::NetDevice;
use coppice_rref::{Bytes, RRef, RRefDeque};
use coppice_runtime::thread::{Builder, JoinHandle};
use coppice_runtime::time;
use coppice_test_interfaces::{FaultTarget, Holder, QuotaHog, TestParent};

/// The limit of each wait for an event that happens soon. It is generous for a busy host: only a scenario
/// that fails waits this long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The domains that scenarios end. All of them run again after each scenario.
const DOMAINS: [&str; 55] = [
    "echo",
    "left",
    "right",
    "echo-always-restarts",
    "pool",
    "factory",
    "holder",
    "fault-target",
    "fault-target-fails-odd-starts",
    "echo-deadline-2ms",
    "holder-deadline-2ms",
    "fault-target-deadline-20ms",
    "fault-target-deadline-2ms",
    "fault-target-fails-while-held",
    "fault-target-hangs-while-held",
    "fault-target-cpu-20",
    "fault-target-logs-without-limit",
    "echo-transparent",
    "shadow-echo-transparent",
    "echo-never-restarts",
    "shadow-echo-never-restarts",
    "filter",
    "shadow-filter",
    "grandparent",
    "test-parent",
    "child-echo",
    "child-relay",
    "child-never-restarts",
    "quota-hog",
    "quota-hog-247mib",
    "edu-2ms",
    "edu-20ms",
    "memory-disk",
    "disk",
    "shadow-disk",
    "relay-disk",
    "disk-crash-in-recovery",
    "shadow-disk-crash-in-recovery",
    "disk-drops-answers",
    "shadow-disk-drops-answers",
    "disk-never-restarts",
    "shadow-disk-never-restarts",
    "loopback-nic",
    "nic",
    "shadow-nic",
    "slow-nic",
    "nic-crash-in-recovery",
    "shadow-nic-crash-in-recovery",
    "nic-never-restarts",
    "shadow-nic-never-restarts",
    "nic-hangs",
    "shadow-nic-hangs",
    "reflector-nic",
    "shadow-reflector-nic",
    "reflector",
];

/// The recovery timeout of the shadows of `echo-never-restarts`, `disk-never-restarts` and
/// `nic-never-restarts`. It is long enough that a call that does not wait for the driver returns before it,
/// even on a busy host.
pub(crate) const SHORT_RECOVERY_TIMEOUT: Duration = Duration::from_secs(1);

/// The name of the domain that runs the scenarios.
const OWN_NAME: &str = "scenarios";

/// The result of a scenario or of a step of it.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Fails the scenario with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $message:literal $(, $argument:expr)*) => {
        if !$condition {
            return Err($crate::context::Failure(alloc::format!($message $(, $argument)*)));
        }
    };
}
pub(crate) use ensure;

/// Fails the scenario unless both values are equal.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $what:expr) => {
        let (left, right) = (&$left, &$right);
        $crate::context::ensure!(left == right, "{}: {left:?} instead of {right:?}", $what);
    };
}
pub(crate) use ensure_eq;

/// The domains and services that the manifest wires to the scenarios.
#[derive(Imports)]
pub struct Wires {
    /// The kernel's control interface.
    pub(crate) control: Handle<dyn Control>,
    /// The end of the chain.
    pub(crate) echo: Handle<dyn Echo>,
    /// The middle of the chain, with restart policy `always`.
    pub(crate) left: Handle<dyn Echo>,
    /// The beginning of the chain.
    pub(crate) right: Handle<dyn Echo>,
    /// An echo with restart policy `always`.
    pub(crate) echo_always_restarts: Handle<dyn Echo>,
    /// The same, three generations before the last one.
    pub(crate) echo_last_generations: Handle<dyn Echo>,
    /// Runs jobs on threads of its own.
    pub(crate) pool: Handle<dyn Pool>,
    /// Exports objects.
    pub(crate) factory: Handle<dyn Factory>,
    /// Keeps objects and calls.
    pub(crate) holder: Handle<dyn Holder>,
    /// Raises any fault, in any situation.
    pub(crate) fault_target: Handle<dyn FaultTarget>,
    /// A fault target that fails at the start of every second instance, with restart policy `always`.
    pub(crate) fault_target_fails_odd_starts: Handle<dyn FaultTarget>,
    /// A holder with a deadline of 2 ms.
    pub(crate) holder_deadline_2ms: Handle<dyn Holder>,
    /// A fault target with a deadline of 20 ms. It calls `holder_deadline_2ms`.
    pub(crate) fault_target_deadline_20ms: Handle<dyn FaultTarget>,
    /// A fault target with a deadline of 2 ms.
    pub(crate) fault_target_deadline_2ms: Handle<dyn FaultTarget>,
    /// A fault target whose threads have a quota of 20 % of a CPU.
    pub(crate) fault_target_cpu_20: Handle<dyn FaultTarget>,
    /// A fault target whose log records have no limit of their rate.
    pub(crate) fault_target_logs_without_limit: Handle<dyn FaultTarget>,
    /// An echo behind a shadow, restarted automatically.
    pub(crate) echo_transparent: Handle<dyn Echo>,
    /// An echo that does not restart, behind a shadow with a recovery timeout of 1 s.
    pub(crate) echo_never_restarts: Handle<dyn Echo>,
    /// A filter that has to be configured, behind a shadow.
    pub(crate) filter: Handle<dyn Filter>,
    /// The test parent's parent.
    pub(crate) grandparent: Handle<dyn TestParent>,
    /// The parent of the next three domains.
    pub(crate) test_parent: Handle<dyn TestParent>,
    /// An echo with restart policy `always`.
    pub(crate) child_echo: Handle<dyn Echo>,
    /// A relay to `child-echo`, with restart policy `always`.
    pub(crate) child_relay: Handle<dyn Echo>,
    /// An echo that stays dead until a scenario restarts it.
    pub(crate) child_never_restarts: Handle<dyn Echo>,
    /// Allocates shared objects up to its quota.
    pub(crate) quota_hog: Handle<dyn QuotaHog>,
    /// A quota hog whose quota is nearly all of the machine's memory.
    pub(crate) quota_hog_247mib: Handle<dyn QuotaHog>,
    /// Drives a device that completes a copy after 2 ms.
    pub(crate) edu_2ms: Handle<dyn Engine>,
    /// Drives a device that completes a copy after 20 ms.
    pub(crate) edu_20ms: Handle<dyn Engine>,
    /// A disk in memory that records the operations on it.
    pub(crate) memory_disk: Handle<dyn BlockDevice>,
    /// The same disk through a shadow and a driver that holds requests in flight.
    pub(crate) disk: Handle<dyn BlockDevice>,
    /// The same disk through a client of that shadow. Scenarios end this client.
    pub(crate) relayed_disk: Handle<dyn BlockDevice>,
    /// The disk through a shadow whose driver crashes again during its recovery.
    pub(crate) disk_crash_in_recovery: Handle<dyn BlockDevice>,
    /// The disk through a shadow whose driver leaves requests unanswered.
    pub(crate) disk_drops_answers: Handle<dyn BlockDevice>,
    /// The disk through a shadow whose driver stays dead, or reports another disk after its restart.
    pub(crate) disk_never_restarts: Handle<dyn BlockDevice>,
    /// A network device that returns each packet at once.
    pub(crate) loopback_nic: Handle<dyn NetDevice>,
    /// A network driver that holds packets, with restart policy `always`.
    pub(crate) unshadowed_nic: Handle<dyn NetDevice>,
    /// The same driver behind a shadow.
    pub(crate) nic: Handle<dyn NetDevice>,
    /// The same driver behind a relay.
    pub(crate) relayed_nic: Handle<dyn NetDevice>,
    /// A network device that returns packets after 1 ms.
    pub(crate) slow_nic: Handle<dyn NetDevice>,
    /// A shadow whose network driver crashes again during its recovery.
    pub(crate) nic_crash_in_recovery: Handle<dyn NetDevice>,
    /// A shadow whose network driver stays dead, or reports another device after its restart.
    pub(crate) nic_never_restarts: Handle<dyn NetDevice>,
    /// A shadow whose network driver hangs and is ended by its deadline.
    pub(crate) nic_hangs: Handle<dyn NetDevice>,
    /// The network device of the reflector, a client that scenarios end.
    pub(crate) reflector_nic: Handle<dyn NetDevice>,
}

/// The system as the scenarios see it.
pub struct Context {
    wires: Wires,
    /// The number of CPUs of the machine.
    pub(crate) cpus: u32,
    /// True if the scenarios themselves were granted a device.
    pub(crate) has_device: bool,
    /// True on the bare machine, which is usually emulated: fewer rounds.
    slow: bool,
    /// The factor by which scenarios last longer than usual.
    soak: u32,
    /// The seed of the random numbers.
    seed: u64,
}

impl core::ops::Deref for Context {
    type Target = Wires;
    fn deref(&self) -> &Wires {
        &self.wires
    }
}

impl AsRef<Handle<dyn Control>> for Context {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.wires.control
    }
}

impl Context {
    /// Returns the random numbers of a thread. The option `seed` reproduces them.
    pub(crate) fn random(&self, thread: u32) -> Random {
        Random::new(self.seed, thread.into())
    }

    /// Returns true on the bare machine.
    pub(crate) fn is_bare(&self) -> bool {
        self.slow
    }

    /// Returns the number of rounds, which is lower on an emulated machine.
    pub(crate) fn rounds(&self, native: u32, emulated: u32) -> u32 {
        self.soak * if self.slow { emulated } else { native }
    }

    /// Returns the kernel's accounting of a domain.
    pub(crate) fn info(&self, name: &str) -> Outcome<DomainInfo> {
        Ok(self.control.find(Text::new(name))??)
    }

    /// Returns the kernel's accounting of the scenarios' own domain.
    pub(crate) fn own(&self) -> Outcome<DomainInfo> {
        self.info(OWN_NAME)
    }

    /// Ends a domain.
    pub(crate) fn kill(&self, name: &str) -> Outcome {
        Ok(self.control.kill(Text::new(name))??)
    }

    /// Returns the kernel's whole post-mortem of an instance.
    pub(crate) fn post_mortem(&self, instance: DomainId) -> Outcome<String> {
        let mut text = String::new();
        for number in 0.. {
            let Some(line) = self.control.post_mortem(instance, number)? else { break };
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }

    /// Restarts a domain, also if another thread or the kernel is about to restart it.
    pub(crate) fn restart(&self, name: &str) -> Outcome {
        let deadline = time::now() + SOON;
        loop {
            match self.control.restart(Text::new(name))? {
                Err(ControlError::WrongState { .. }) if time::now() < deadline => {
                    time::sleep(Duration::from_micros(50));
                }
                other => return Ok(other?),
            }
        }
    }

    /// Waits until `condition` holds.
    pub(crate) fn eventually(&self, what: &str, mut condition: impl FnMut() -> Outcome<bool>) -> Outcome {
        let deadline = time::now() + SOON;
        while !condition()? {
            ensure!(time::now() < deadline, "not true after {SOON:?}: {what}");
            time::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Returns true if a domain is dead and the kernel is not going to restart it.
    fn stays_dead(&self, name: &str) -> Outcome<bool> {
        let is_idle = self.control.in_use()?.kernel_work == 0;
        let now = self.info(name)?;
        let is_dead = now.state == DomainState::Dead && now.restart_plan == RestartPlan::None;
        // A parent restarts its children.
        Ok(is_idle && is_dead && &*now.parent == "kernel")
    }

    /// Runs `body` three times to fill caches, and then `rounds` times. Fails unless the resources in use are
    /// the same before and after these rounds.
    pub(crate) fn leaks_nothing(
        self: &Arc<Self>,
        rounds: u32,
        mut body: impl FnMut(u32) -> Outcome,
    ) -> Outcome {
        for round in 0..3 {
            body(round)?;
        }
        let before = ResourceSnapshot::at_rest(self, OWN_NAME)?;
        for round in 0..rounds {
            body(round).map_err(|failure| Failure(format!("round {round}: {failure}")))?;
        }
        // Threads and objects that have just ended may still be in the kernel's hands.
        let settled = before.wait_for_return(self, OWN_NAME)?;
        settled.map_err(|after| {
            Failure(format!("resources leaked in {rounds} rounds: {}", before.difference(after)))
        })
    }

    /// Returns the allocations and bytes of a part of the kernel's own heap.
    pub(crate) fn kernel_heap(&self, payer: &str, what: &str) -> Outcome<(u64, u64)> {
        for number in 0.. {
            let Some(line) = self.control.kernel_heap_line(number)? else { break };
            if (&*line.payer, &*line.what) == (payer, what) {
                return Ok((line.objects, line.bytes));
            }
        }
        Ok((0, 0))
    }

    /// Fails if the kernel's audit of its own records has findings.
    pub(crate) fn audit_is_clean(&self) -> Outcome {
        let audit = self.control.audit()?;
        let first = self.control.audit_finding(0)?.unwrap_or(Text::new("none"));
        ensure!(audit.findings == 0, "the audit has {} findings, the first: {first}", audit.findings);
        Ok(())
    }

    /// Runs `body` on `count` threads, spread over the CPUs, and waits for all of them. Returns the first
    /// failure.
    pub(crate) fn on_threads(
        self: &Arc<Self>,
        count: u32,
        body: impl Fn(&Arc<Self>, u32) -> Outcome + Clone + Send + 'static,
    ) -> Outcome {
        let mut crowd = Vec::new();
        for number in 0..count {
            let (context, body) = (self.clone(), body.clone());
            crowd.push(spawn_with_result(Builder::new().affinity(1 << (number % self.cpus)), move || {
                body(&context, number)
            })?);
        }
        crowd.into_iter().map(ThreadWithResult::join).fold(Ok(()), Result::and)
    }
}

impl AsRef<Handle<dyn Control>> for Wires {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.control
    }
}

impl ScenarioContext for Context {
    type Wires = Wires;
    const SCENARIOS: &'static [Scenario<Self>] = crate::list::SCENARIOS;

    fn new(wires: Wires, has_device: bool) -> Outcome<Self> {
        let cpus = wires.control.cpu_count()?;
        let slow = &*wires.control.machine()? == "bare";
        let number = |name, otherwise| -> Outcome<u64> {
            let value = wires.control.option(Text::new(name))?.map_or(Ok(otherwise), |value| value.parse());
            value.map_err(|_| Failure(format!("option {name}: not a number")))
        };
        let (soak, seed) = (number("soak", 1)? as u32, number("seed", 0)?);
        Ok(Self { wires, cpus, has_device, slow, soak, seed })
    }

    fn check_after(&self) -> Outcome {
        for name in DOMAINS {
            self.eventually(name, || {
                ensure!(!self.stays_dead(name)?, "{name} stays dead");
                Ok(self.info(name)?.state == DomainState::Running)
            })?;
        }
        self.audit_is_clean()
    }

    fn clean_up(&self) {
        let _ = self.control.set_tracing(false);
        for name in DOMAINS {
            let _ = self.restart(name);
        }
    }
}

/// A thread that leaves a result.
pub(crate) struct ThreadWithResult<T> {
    thread: JoinHandle,
    answer: Arc<coppice_runtime::sync::Mutex<Option<T>>>,
}

/// Starts a thread that leaves a result.
pub(crate) fn spawn_with_result<T: Send + 'static>(
    builder: Builder,
    body: impl FnOnce() -> T + Send + 'static,
) -> Outcome<ThreadWithResult<T>> {
    let answer = Arc::new(coppice_runtime::sync::Mutex::new(None));
    let place = answer.clone();
    let thread = builder.spawn(move || {
        let value = body();
        *place.lock() = Some(value);
    })?;
    Ok(ThreadWithResult { thread, answer })
}

impl<T> ThreadWithResult<T> {
    /// Waits for the thread and returns its result.
    pub(crate) fn join(self) -> T {
        self.thread.join();
        self.answer.lock().take().expect("a thread that has ended has left its answer")
    }
}

/// Returns a message on the shared heap.
pub(crate) fn message(text: &[u8]) -> RRef<Message> {
    Bytes::shared_from(text).expect("the text fits a message")
}

/// Returns the sum of the bytes.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte)).sum()
}

/// Returns a batch of 32 messages of one byte each: `first`, `first + 1`, ...
pub(crate) fn batch(first: u8) -> RRef<RRefDeque<Message, 32>> {
    let mut batch = RRef::new(RRefDeque::new());
    for number in 0..32 {
        batch.push_back(message(&[first.wrapping_add(number)])).expect("a batch has room for 32 messages");
    }
    batch
}

/// Computes for `time` without giving up the CPU.
pub(crate) fn spin(time: Duration) {
    let end = time::now() + time;
    while time::now() < end {
        core::hint::spin_loop();
    }
}
