//! [`Stage`]: what scenarios have in common, and how they say that a promise is broken.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_block::BlockDevice;
use coppice_control::{Control, ControlError, DomainInfo, DomainState, RestartPlan};
use coppice_example_interfaces::{Echo, Engine, Factory, Filter, Message, Pool};
pub(crate) use coppice_experiment::Failure;
use coppice_experiment::{Balance, Random, Scene};
use coppice_interfaces::{DomainId, Handle, Imports, Text};
use coppice_net::NetDevice;
use coppice_rref::{Bytes, RRef, RRefDeque};
use coppice_runtime::thread::{Builder, JoinHandle};
use coppice_runtime::time;
use coppice_test_interfaces::{FaultTarget, Holder, QuotaHog, TestParent};

/// How long something may take that happens soon, on the busiest host. Only a scenario that fails waits for so long.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The domains that scenarios end; after each scenario they all run.
const DOMAINS: [&str; 54] = [
    "echo",
    "left",
    "right",
    "phoenix",
    "pool",
    "factory",
    "keeper",
    "subject",
    "sickly",
    "quick-echo",
    "quick-keeper",
    "hasty",
    "brief",
    "unready",
    "late",
    "frugal",
    "twin",
    "shadow-twin",
    "mortal",
    "shadow-mortal",
    "filter",
    "shadow-filter",
    "elder",
    "guardian",
    "ward",
    "pupil",
    "stray",
    "hoarder",
    "glutton",
    "engine",
    "slow-engine",
    "platter",
    "drive",
    "shadow-drive",
    "guest-drive",
    "frail-drive",
    "shadow-frail-drive",
    "mad-drive",
    "shadow-mad-drive",
    "mortal-drive",
    "shadow-mortal-drive",
    "lake",
    "nic",
    "shadow-nic",
    "slow-nic",
    "frail-nic",
    "shadow-frail-nic",
    "mortal-nic",
    "shadow-mortal-nic",
    "hung-nic",
    "shadow-hung-nic",
    "pond",
    "shadow-pond",
    "reflector",
];

/// The time after which the shadows of `mortal`, `mortal-drive` and `mortal-nic` give up: long enough that a busy host lets a call which
/// does not wait for it return before.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// The domain that looks.
const OBSERVER: &str = "scenarios";

/// What comes of a scenario.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Fails the scenario with a message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $message:literal $(, $argument:expr)*) => {
        if !$condition {
            return Err($crate::stage::Failure(alloc::format!($message $(, $argument)*)));
        }
    };
}
pub(crate) use ensure;

/// Fails the scenario unless both are equal.
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $what:expr) => {
        let (left, right) = (&$left, &$right);
        $crate::stage::ensure!(left == right, "{}: {left:?} instead of {right:?}", $what);
    };
}
pub(crate) use ensure_eq;

/// What the manifest wires the scenarios to.
#[derive(Imports)]
pub struct Wires {
    /// Looks after all of them.
    pub(crate) control: Handle<dyn Control>,
    /// The end of the chain.
    pub(crate) echo: Handle<dyn Echo>,
    /// Its middle; comes back by itself.
    pub(crate) left: Handle<dyn Echo>,
    /// Its beginning.
    pub(crate) right: Handle<dyn Echo>,
    /// An echo that comes back by itself.
    pub(crate) phoenix: Handle<dyn Echo>,
    /// Has threads of its own.
    pub(crate) pool: Handle<dyn Pool>,
    /// Hands out objects.
    pub(crate) factory: Handle<dyn Factory>,
    /// Keeps objects and calls.
    pub(crate) keeper: Handle<dyn Holder>,
    /// Can be ended in any situation.
    pub(crate) subject: Handle<dyn FaultTarget>,
    /// Another one, which fails at the start of every second instance and comes back by itself.
    pub(crate) sickly: Handle<dyn FaultTarget>,
    /// A keeper with a deadline of 2 ms.
    pub(crate) quick_keeper: Handle<dyn Holder>,
    /// A subject with a deadline of 20 ms, whose keeper that is.
    pub(crate) hasty: Handle<dyn FaultTarget>,
    /// A subject with a deadline of 2 ms.
    pub(crate) brief: Handle<dyn FaultTarget>,
    /// A subject whose threads may use a fifth of a CPU.
    pub(crate) frugal: Handle<dyn FaultTarget>,
    /// An echo that comes back by itself, behind a shadow.
    pub(crate) twin: Handle<dyn Echo>,
    /// One that does not, behind an impatient shadow.
    pub(crate) mortal: Handle<dyn Echo>,
    /// Has to be configured; behind a shadow.
    pub(crate) filter: Handle<dyn Filter>,
    /// The guardian's parent.
    pub(crate) elder: Handle<dyn TestParent>,
    /// The parent of the other three.
    pub(crate) guardian: Handle<dyn TestParent>,
    /// An echo that comes back by itself.
    pub(crate) ward: Handle<dyn Echo>,
    /// A relay to the ward, which comes back by itself.
    pub(crate) pupil: Handle<dyn Echo>,
    /// An echo that does not.
    pub(crate) stray: Handle<dyn Echo>,
    /// Comes to the limit of its share of the shared heap.
    pub(crate) hoarder: Handle<dyn QuotaHog>,
    /// Another one, whose share is nearly all of the machine's memory.
    pub(crate) glutton: Handle<dyn QuotaHog>,
    /// Drives a device that is soon done.
    pub(crate) engine: Handle<dyn Engine>,
    /// Drives one that takes its time.
    pub(crate) slow_engine: Handle<dyn Engine>,
    /// A disk in memory, which records what is done to it.
    pub(crate) platter: Handle<dyn BlockDevice>,
    /// The same, by a driver behind a shadow that keeps requests under way.
    pub(crate) disk: Handle<dyn BlockDevice>,
    /// The same, by a client of that shadow that can be ended.
    pub(crate) guest_disk: Handle<dyn BlockDevice>,
    /// By a driver behind a shadow that dies again while it is recovered.
    pub(crate) frail_disk: Handle<dyn BlockDevice>,
    /// By one that forgets answers.
    pub(crate) mad_disk: Handle<dyn BlockDevice>,
    /// By one that stays dead, or is another disk.
    pub(crate) mortal_disk: Handle<dyn BlockDevice>,
    /// A network device that gives each packet back at once.
    pub(crate) lake: Handle<dyn NetDevice>,
    /// A driver that keeps some, and comes back by itself.
    pub(crate) plain_nic: Handle<dyn NetDevice>,
    /// The same, behind a shadow.
    pub(crate) nic: Handle<dyn NetDevice>,
    /// The same driver, behind a relay.
    pub(crate) relayed_nic: Handle<dyn NetDevice>,
    /// One that takes its time.
    pub(crate) slow_nic: Handle<dyn NetDevice>,
    /// By a driver behind a shadow that dies again while it is recovered.
    pub(crate) frail_nic: Handle<dyn NetDevice>,
    /// By one that stays dead, or has another device.
    pub(crate) mortal_nic: Handle<dyn NetDevice>,
    /// By one that hangs, and is ended for it.
    pub(crate) hung_nic: Handle<dyn NetDevice>,
    /// One with a client that can be ended.
    pub(crate) pond: Handle<dyn NetDevice>,
}

/// The system as scenarios see it.
pub(crate) struct Stage {
    wires: Wires,
    /// CPUs of the machine.
    pub(crate) cpus: u32,
    /// Whether the scenarios themselves were given a device.
    pub(crate) has_device: bool,
    /// The machine is an emulated one: time is dear.
    slow: bool,
    /// How many times longer than usual to go on.
    soak: u32,
    /// What chance is made of.
    seed: u64,
}

impl core::ops::Deref for Stage {
    type Target = Wires;
    fn deref(&self) -> &Wires {
        &self.wires
    }
}

impl AsRef<Handle<dyn Control>> for Stage {
    fn as_ref(&self) -> &Handle<dyn Control> {
        &self.wires.control
    }
}

impl Stage {
    pub(crate) fn new(wires: Wires, has_device: bool) -> Outcome<Self> {
        let cpus = wires.control.cpu_count()?;
        let slow = &*wires.control.machine()? == "bare";
        let number = |name, otherwise| -> Outcome<u64> {
            let value = wires.control.option(Text::new(name))?.map_or(Ok(otherwise), |value| value.parse());
            value.map_err(|_| Failure(format!("option {name}: a number is wanted")))
        };
        let (soak, seed) = (number("soak", 1)? as u32, number("seed", 0)?);
        Ok(Self { wires, cpus, has_device, slow, soak, seed })
    }

    /// Chance for the thread of that number; the option `seed` brings it back.
    pub(crate) fn random(&self, thread: u32) -> Random {
        Random::new(self.seed, thread.into())
    }

    /// Whether this is the bare machine.
    pub(crate) fn is_bare(&self) -> bool {
        self.slow
    }

    /// How often to do something: fewer times where the machine is emulated.
    pub(crate) fn rounds(&self, native: u32, emulated: u32) -> u32 {
        self.soak * if self.slow { emulated } else { native }
    }

    /// What accounting knows of a domain.
    pub(crate) fn info(&self, name: &str) -> Outcome<DomainInfo> {
        Ok(self.control.find(Text::new(name))??)
    }

    /// What it knows of the scenarios.
    pub(crate) fn own(&self) -> Outcome<DomainInfo> {
        self.info(OBSERVER)
    }

    /// Ends a domain.
    pub(crate) fn kill(&self, name: &str) -> Outcome {
        Ok(self.control.kill(Text::new(name))??)
    }

    /// All that the kernel has to say of a death.
    pub(crate) fn post_mortem(&self, instance: DomainId) -> Outcome<String> {
        let mut text = String::new();
        for number in 0.. {
            let Some(line) = self.control.post_mortem(instance, number)? else { break };
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }

    /// Makes a new instance of a domain begin, whether somebody else is about to or not.
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
            ensure!(time::now() < deadline, "after {SOON:?} still not so: {what}");
            time::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Whether a domain is dead and the kernel is not going to change that.
    fn stays_dead(&self, name: &str) -> Outcome<bool> {
        let is_idle = self.control.in_use()?.kernel_work == 0;
        let now = self.info(name)?;
        let is_dead = now.state == DomainState::Dead && now.restart_plan == RestartPlan::None;
        // A parent brings its children up.
        Ok(is_idle && is_dead && &*now.parent == "kernel")
    }

    /// Runs `body` once to fill what stays filled, and then `rounds` times, after which the balance has to be as before.
    pub(crate) fn leaks_nothing(
        self: &Arc<Self>,
        rounds: u32,
        mut body: impl FnMut(u32) -> Outcome,
    ) -> Outcome {
        for round in 0..3 {
            body(round)?;
        }
        let before = Balance::at_rest(self, OBSERVER)?;
        for round in 0..rounds {
            body(round).map_err(|failure| Failure(format!("round {round}: {failure}")))?;
        }
        // What ended a moment ago may still be on its way out.
        let settled = before.returns(self, OBSERVER)?;
        settled.map_err(|after| Failure(format!("before: {before:?}, after {rounds} rounds: {after:?}")))
    }

    /// Whether the kernel's audit of itself finds nothing wrong.
    pub(crate) fn books_agree(&self) -> Outcome {
        let audit = self.control.audit()?;
        let first = self.control.audit_finding(0)?.unwrap_or(Text::new("none"));
        ensure!(audit.findings == 0, "the audit has {} findings, the first: {first}", audit.findings);
        Ok(())
    }

    /// Runs `body` on `count` threads, spread over the CPUs, and waits for all of them. The first failure counts.
    pub(crate) fn all_together(
        self: &Arc<Self>,
        count: u32,
        body: impl Fn(&Arc<Self>, u32) -> Outcome + Clone + Send + 'static,
    ) -> Outcome {
        let mut crowd = Vec::new();
        for number in 0..count {
            let (stage, body) = (self.clone(), body.clone());
            crowd.push(promise(Builder::new().affinity(1 << (number % self.cpus)), move || {
                body(&stage, number)
            })?);
        }
        crowd.into_iter().map(Promise::keep).fold(Ok(()), Result::and)
    }
}

impl Scene for Stage {
    fn is_in_order(&self) -> Outcome {
        for name in DOMAINS {
            self.eventually(name, || {
                ensure!(!self.stays_dead(name)?, "{name} stays dead");
                Ok(self.info(name)?.state == DomainState::Running)
            })?;
        }
        self.books_agree()
    }

    fn tidy(&self) {
        let _ = self.control.set_tracing(false);
        for name in DOMAINS {
            let _ = self.restart(name);
        }
    }
}

/// A thread that has an answer when it ends.
pub(crate) struct Promise<T> {
    thread: JoinHandle,
    answer: Arc<coppice_runtime::sync::Mutex<Option<T>>>,
}

/// Starts a thread that has an answer when it ends.
pub(crate) fn promise<T: Send + 'static>(
    builder: Builder,
    body: impl FnOnce() -> T + Send + 'static,
) -> Outcome<Promise<T>> {
    let answer = Arc::new(coppice_runtime::sync::Mutex::new(None));
    let place = answer.clone();
    let thread = builder.spawn(move || {
        let value = body();
        *place.lock() = Some(value);
    })?;
    Ok(Promise { thread, answer })
}

impl<T> Promise<T> {
    /// Waits for the answer.
    pub(crate) fn keep(self) -> T {
        self.thread.join();
        self.answer.lock().take().expect("a thread that has ended has left its answer")
    }
}

/// A message on the shared heap.
pub(crate) fn message(text: &[u8]) -> RRef<Message> {
    Bytes::shared_from(text).expect("the text fits a message")
}

/// The sum of its bytes.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|&byte| u64::from(byte)).sum()
}

/// A batch of 32 messages, each a byte long: `first`, `first + 1`, ...
pub(crate) fn batch(first: u8) -> RRef<RRefDeque<Message, 32>> {
    let mut batch = RRef::new(RRefDeque::new());
    for number in 0..32 {
        batch.push_back(message(&[first.wrapping_add(number)])).expect("as many as fit");
    }
    batch
}

/// Waits a little without giving the CPU up.
pub(crate) fn spin(time: Duration) {
    let end = time::now() + time;
    while time::now() < end {
        core::hint::spin_loop();
    }
}
