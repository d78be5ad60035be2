//! What becomes of a domain that has died: a new instance by the manifest's policy, at once or after a pause, or what its
//! parent wants. And the kernel's undertaker, which drops objects that nobody holds a handle to any more.
//!
//! Nothing here waits for domain code but the threads of the [`crate::agenda`], of which there is always one more.

use alloc::vec::Vec;
use core::ptr::NonNull;

use coppice_abi::{ChildFailing, CrashKind, DomainId, Upcall, Verdict};
use coppice_interfaces::{DomainState, Prospect, Text};
use coppice_manifest::Restart;

use crate::agenda::{self, Task, Ticket};
use crate::domain::{self, Domain};
use crate::load::{self, StartError};
use crate::machine::machine;
use crate::proxy::{self, Proxy};
use crate::sync::Lock;
use crate::thread::{DEFAULT_PRIORITY, SpawnError, Thread, Work};
use crate::{crash_log, terminate, wait};

/// The first pause after crashes that are answered at once; it doubles with each.
const FIRST_PAUSE_NS: u64 = 1_000_000;
/// The longest pause.
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;

const BURIALS: wait::Key = wait::Key::Work(wait::Post::Burials);

static TO_BURY: Lock<Vec<Unclaimed>> = Lock::new(Vec::new());

struct Unclaimed(NonNull<Proxy>);

// SAFETY: a proxy without claims is whoever's holds this.
unsafe impl Send for Unclaimed {}

/// How a domain has fared lately, and what is to become of it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Fate {
    /// When its present row of crashes began its last instance; `None` if there is no row.
    restarted_ns: Option<u64>,
    /// Crashes since then that each ended a short instance.
    in_a_row: u32,
    plan: Plan,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Plan {
    /// It lives, or nobody is about to change that it does not.
    #[default]
    Nothing,
    Restart {
        due_ns: u64,
        ticket: Ticket,
    },
    /// That instance of its parent is being asked. If it wants a restart, it may not be before then.
    Verdict {
        due_ns: u64,
        ticket: Ticket,
        asked: DomainId,
    },
    /// Its parent does not want it any more.
    GivenUp,
}

impl Plan {
    /// Whether it is the one of that ticket.
    fn is(self, expected: Ticket) -> bool {
        matches!(self, Self::Restart { ticket, .. } | Self::Verdict { ticket, .. } if ticket == expected)
    }
}

impl Fate {
    /// Counts a death. Answers when the domain may live again, and whether it dies too often.
    fn count_death(&mut self, domain: &Domain) -> (u64, bool) {
        let (now, policy) = (machine().now_ns(), domain.manifest.policy);
        let was_good = |restarted_ns| now.saturating_sub(restarted_ns) > policy.restart_window_ns;
        self.in_a_row = if self.restarted_ns.is_none_or(was_good) { 0 } else { self.in_a_row + 1 };
        let beyond = self.in_a_row.checked_sub(policy.restart_limit);
        let pause = match beyond {
            // So often doubled it is the longest.
            Some(beyond) => (FIRST_PAUSE_NS << beyond.min(32)).min(LONGEST_PAUSE_NS),
            None => 0,
        };
        self.restarted_ns = Some(now + pause);
        (now + pause, beyond.is_some())
    }

    /// Takes the plan of that ticket back, if it still is one.
    fn take(&mut self, ticket: Ticket) -> Option<Plan> {
        self.plan.is(ticket).then(|| core::mem::take(&mut self.plan))
    }
}

/// Starts the kernel's own threads.
pub(crate) fn start() -> Result<(), SpawnError> {
    const STACK: usize = 128 * 1024;
    agenda::start()?;
    [bury_proxies as fn(), crash_log::clerk].into_iter().try_for_each(|work| {
        Thread::spawn(DomainId::KERNEL, DEFAULT_PRIORITY, u64::MAX, STACK, Work::Kernel(work)).map(drop)
    })
}

/// Decides what follows a death. The domain is dead and may have begun a new instance already. Answers whether a thread of the
/// agenda is about to do it, which announces the death then.
pub(crate) fn after_death(domain: &'static Domain) -> bool {
    if domain.manifest.restart == Restart::Never {
        return false;
    }
    let ticket = Ticket::new();
    let mut fate = domain.fate.lock();
    let (due_ns, too_often) = fate.count_death(domain);
    let (plan, due_ns, task) = match domain.family.parent().filter(|_| too_often) {
        Some(parent) => {
            let asked = parent.last_instance();
            (Plan::Verdict { due_ns, ticket, asked }, 0, Task::TellParent(domain.slot, ticket))
        }
        None => (Plan::Restart { due_ns, ticket }, due_ns, Task::Restart(domain.slot, ticket)),
    };
    // Somebody with the authority was quicker.
    if domain.state() != DomainState::Dead {
        return false;
    }
    fate.plan = plan;
    drop(fate);
    agenda::follow_up(due_ns, task);
    due_ns <= machine().now_ns()
}

/// A instance of `domain` begins: whatever was planned for it is done. Before any of its code runs.
pub(crate) fn forget_plan(domain: &Domain) {
    domain.fate.lock().plan = Plan::Nothing;
}

/// What is planned for a domain.
pub(crate) fn prospect(domain: &Domain) -> Prospect {
    match domain.fate.lock().plan {
        Plan::Nothing => Prospect::Open,
        Plan::Restart { due_ns, .. } => Prospect::Restart { due_ns },
        Plan::Verdict { .. } => Prospect::Verdict,
        Plan::GivenUp => Prospect::GivenUp,
    }
}

/// Begins a instance of `domain`, and then those of the domains below it.
pub(crate) fn revive(domain: &'static Domain) -> Result<(), StartError> {
    let instance = load::start(domain)?;
    log::debug!("{} lives again: generation {}", domain.manifest.name, instance.generation());
    if domain.family.below().len() > 0 {
        agenda::now(Task::BringUp(instance));
    }
    Ok(())
}

pub(crate) fn restart_as_planned(slot: usize, ticket: Ticket) {
    let Some(domain) = domain::get(slot) else { return };
    if domain.fate.lock().take(ticket).is_some() {
        report(domain, revive(domain));
    }
}

/// Begins lives of the domains below a parent that has just begun its own, in the order in which they started first.
/// Those that are not to be restarted stay dead.
pub(crate) fn bring_up(parent: DomainId) {
    let Some(domain) = domain::get(parent.slot()) else { return };
    for child in domain.family.below() {
        if domain.instance() != Some(parent) {
            // Who restarts it brings them up.
            return;
        }
        if child.manifest.restart == Restart::Always || child.state() == DomainState::Absent {
            // How it fared with the parent's last instance says nothing about this one.
            if child.instance().is_none() {
                let mut fate = child.fate.lock();
                (fate.restarted_ns, fate.in_a_row) = (None, 0);
            }
            report(child, load::start(child).map(drop));
        }
    }
}

fn report(domain: &Domain, outcome: Result<(), StartError>) {
    match outcome {
        // Somebody else was quicker; or its parent will begin this instance too when it has one itself.
        Ok(()) | Err(StartError::State(_) | StartError::NoParent { .. }) => {}
        Err(error) => log::error!("{} did not start again: {error}", domain.manifest.name),
    }
}

/// Asks the parent what is to become of a child that keeps crashing, and does it.
pub(crate) fn tell_parent(slot: usize, ticket: Ticket) {
    let Some(child) = domain::get(slot) else { return };
    let Some(parent) = child.family.parent() else { return };
    let fate = *child.fate.lock();
    let Plan::Verdict { asked: instance, ticket: present, .. } = fate.plan else { return };
    if present != ticket {
        return;
    }
    let failing = ChildFailing {
        name: &child.manifest.name,
        kind: crash_log::cause(child.last_instance()),
        crashes: fate.in_a_row + 1,
    };
    let late = Task::ParentIsLate(slot, ticket);
    agenda::at(machine().now_ns() + parent.manifest.policy.upcall_deadline_ns, late);
    let answer = load::upcall(instance, Upcall::ChildFailing(failing));
    agenda::forget(late);
    let verdict = {
        let mut fate = child.fate.lock();
        // If it is not there any more, the parent was late, or somebody has restarted the child.
        let Some(Plan::Verdict { due_ns, .. }) = fate.take(ticket) else { return };
        // A parent that has died brings its children up when it lives again.
        let Ok(verdict) = answer else { return };
        match verdict {
            Verdict::Retry => {
                // Another one: somebody may be on the way to say that the parent is late.
                let ticket = Ticket::new();
                fate.plan = Plan::Restart { due_ns, ticket };
                drop(fate);
                agenda::at(due_ns, Task::Restart(slot, ticket));
            }
            Verdict::GiveUp => fate.plan = Plan::GivenUp,
            Verdict::Escalate => {}
        }
        verdict
    };
    log::info!("{}: its parent says {verdict:?} after {} crashes", failing.name, failing.crashes);
    if verdict == Verdict::Escalate {
        let (name, crashes, kind) = (failing.name, failing.crashes, failing.kind);
        let text = format_args!("it cannot help its child {name}, which has died {crashes} times: {kind:?}");
        terminate::terminate_because(instance, CrashKind::Abort, Text::format(text));
    }
}

/// A parent that does not answer is in no state to look after anybody.
pub(crate) fn parent_is_late(slot: usize, ticket: Ticket) {
    let Some(child) = domain::get(slot) else { return };
    let plan = child.fate.lock().take(ticket);
    if let Some(Plan::Verdict { asked: instance, .. }) = plan {
        let text =
            format_args!("it did not say in time what is to become of its child {}", child.manifest.name);
        terminate::terminate_because(instance, CrashKind::Deadline, Text::format(text));
    }
}

/// Takes a proxy that nobody has a claim to.
pub(crate) fn bury(proxy: NonNull<Proxy>) {
    TO_BURY.lock().push(Unclaimed(proxy));
    wait::wake(BURIALS, 1);
}

fn bury_proxies() {
    loop {
        wait::block(BURIALS, || TO_BURY.lock().is_empty(), u64::MAX);
        let due = core::mem::take(&mut *TO_BURY.lock());
        for Unclaimed(proxy) in due {
            // SAFETY: `bury`'s callers gave up the last claim.
            unsafe { proxy::finish(proxy) };
        }
    }
}
