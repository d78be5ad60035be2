//! What becomes of a domain that has died: a new instance by the manifest's policy, at once or after a pause, or what its
//! parent wants.
//!
//! Nothing here waits for domain code but the threads of [`deferred_work`], of which there is always one more.

use coppice_abi::{ChildFailing, CrashKind, DomainId, SLOT_LIMIT, Upcall, Verdict};
use coppice_interfaces::{DomainState, Prospect, Text};
use coppice_manifest::Restart;

use crate::domain::start_error::StartError;
use crate::domain::{self, Domain, enter};
use crate::fault::{crash_log, terminate};
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::policy::deferred_work::{self, WorkId, WorkItem};
use crate::policy::start;

/// The first pause after crashes that are answered at once; it doubles with each.
const FIRST_PAUSE_NS: u64 = 1_000_000;
/// The longest pause.
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;

/// How a domain has fared lately, and what is to become of it.
#[derive(Clone, Copy)]
struct RestartState {
    /// When its present row of crashes began its last instance; `None` if there is no row.
    restarted_ns: Option<u64>,
    /// Crashes since then that each ended a short instance.
    in_a_row: u32,
    plan: Plan,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// It runs, or nothing is about to change that it does not.
    Nothing,
    Restart {
        due_ns: u64,
        work: WorkId,
    },
    /// That instance of its parent is being asked. If it wants a restart, it may not be before then.
    Verdict {
        due_ns: u64,
        work: WorkId,
        asked: DomainId,
    },
    /// Its parent does not want it any more.
    GivenUp,
}

impl Plan {
    /// Whether it is the one of that work.
    fn is(self, expected: WorkId) -> bool {
        matches!(self, Self::Restart { work, .. } | Self::Verdict { work, .. } if work == expected)
    }
}

/// The state of each slot's domain.
static STATES: [Lock<RestartState>; SLOT_LIMIT] = [const { Lock::new(RestartState::NEW) }; SLOT_LIMIT];

fn state_of(domain: &Domain) -> &'static Lock<RestartState> {
    &STATES[domain.slot]
}

impl RestartState {
    const NEW: Self = Self { restarted_ns: None, in_a_row: 0, plan: Plan::Nothing };

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

    /// Takes the plan of that work back, if it still is one.
    fn take(&mut self, work: WorkId) -> Option<Plan> {
        self.plan.is(work).then(|| core::mem::replace(&mut self.plan, Plan::Nothing))
    }
}

/// Decides what follows a death. The domain is dead and may have begun a new instance already. Answers whether
/// deferred work is about to do it, which announces the death then.
pub(crate) fn after_death(domain: &'static Domain) -> bool {
    if domain.manifest.restart == Restart::Never {
        return false;
    }
    let work = WorkId::new();
    let mut state = state_of(domain).lock();
    let (due_ns, too_often) = state.count_death(domain);
    let (plan, due_ns, item) = match domain.supervision.parent().filter(|_| too_often) {
        Some(parent) => {
            let asked = parent.last_instance();
            (Plan::Verdict { due_ns, work, asked }, 0, WorkItem::TellParent(domain.slot, work))
        }
        None => (Plan::Restart { due_ns, work }, due_ns, WorkItem::Restart(domain.slot, work)),
    };
    // Somebody with the authority was quicker.
    if domain.state() != DomainState::Dead {
        return false;
    }
    state.plan = plan;
    drop(state);
    deferred_work::follow_up(due_ns, item);
    due_ns <= machine().now_ns()
}

/// A instance of `domain` begins: whatever was planned for it is done. Before any of its code runs.
pub(crate) fn forget_plan(domain: &Domain) {
    state_of(domain).lock().plan = Plan::Nothing;
}

/// What is planned for a domain.
pub(crate) fn prospect(domain: &Domain) -> Prospect {
    match state_of(domain).lock().plan {
        Plan::Nothing => Prospect::Open,
        Plan::Restart { due_ns, .. } => Prospect::Restart { due_ns },
        Plan::Verdict { .. } => Prospect::Verdict,
        Plan::GivenUp => Prospect::GivenUp,
    }
}

/// Begins a instance of `domain`, and then those of the domains below it.
pub(crate) fn start_tree(domain: &'static Domain) -> Result<(), StartError> {
    let instance = start::start(domain)?;
    log::debug!("{} lives again: generation {}", domain.manifest.name, instance.generation());
    if domain.supervision.descendants().len() > 0 {
        deferred_work::now(WorkItem::StartChildren(instance));
    }
    Ok(())
}

pub(crate) fn restart_as_planned(slot: usize, work: WorkId) {
    let Some(domain) = domain::get(slot) else { return };
    if state_of(domain).lock().take(work).is_some() {
        report(domain, start_tree(domain));
    }
}

/// Begins lives of the domains below a parent that has just begun its own, in the order in which they started first.
/// Those that are not to be restarted stay dead.
pub(crate) fn start_children(parent: DomainId) {
    let Some(domain) = domain::get(parent.slot()) else { return };
    for child in domain.supervision.descendants() {
        if domain.instance() != Some(parent) {
            // Who restarts it brings them up.
            return;
        }
        if child.manifest.restart == Restart::Always || child.state() == DomainState::Absent {
            // How it fared with the parent's last instance says nothing about this one.
            if child.instance().is_none() {
                let mut state = state_of(child).lock();
                (state.restarted_ns, state.in_a_row) = (None, 0);
            }
            report(child, start::start(child).map(drop));
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
pub(crate) fn tell_parent(slot: usize, work: WorkId) {
    let Some(child) = domain::get(slot) else { return };
    let Some(parent) = child.supervision.parent() else { return };
    let state = *state_of(child).lock();
    let Plan::Verdict { asked: instance, work: present, .. } = state.plan else { return };
    if present != work {
        return;
    }
    let failing = ChildFailing {
        name: &child.manifest.name,
        kind: crash_log::cause(child.last_instance()),
        crashes: state.in_a_row + 1,
    };
    let late = WorkItem::ParentIsLate(slot, work);
    deferred_work::at(machine().now_ns() + parent.manifest.policy.upcall_deadline_ns, late);
    let answer = enter::upcall(instance, Upcall::ChildFailing(failing));
    deferred_work::forget(late);
    let verdict = {
        let mut state = state_of(child).lock();
        // If it is not there any more, the parent was late, or somebody has restarted the child.
        let Some(Plan::Verdict { due_ns, .. }) = state.take(work) else { return };
        // A parent that has died brings its children up when it lives again.
        let Ok(verdict) = answer else { return };
        match verdict {
            Verdict::Retry => {
                // Another one: somebody may be on the way to say that the parent is late.
                let work = WorkId::new();
                state.plan = Plan::Restart { due_ns, work };
                drop(state);
                deferred_work::at(due_ns, WorkItem::Restart(slot, work));
            }
            Verdict::GiveUp => state.plan = Plan::GivenUp,
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
pub(crate) fn parent_is_late(slot: usize, work: WorkId) {
    let Some(child) = domain::get(slot) else { return };
    let plan = state_of(child).lock().take(work);
    if let Some(Plan::Verdict { asked: instance, .. }) = plan {
        let text =
            format_args!("it did not say in time what is to become of its child {}", child.manifest.name);
        terminate::terminate_because(instance, CrashKind::Deadline, Text::format(text));
    }
}
