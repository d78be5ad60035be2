//! Restarts: the manifest's policy or the parent's verdict decides whether and when a domain whose instance
//! has ended restarts.
//!
//! No code here waits for domain code, except on the threads of [`deferred_work`], of which another one is
//! always idle.

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

/// The first pause after [`Policy::restart_limit`](coppice_manifest::Policy) immediate restarts; it doubles
/// with each crash.
const FIRST_PAUSE_NS: u64 = 1_000_000;
/// The longest pause.
const LONGEST_PAUSE_NS: u64 = 1_000_000_000;

/// A domain's recent crashes, and its planned restart.
#[derive(Clone, Copy)]
struct RestartState {
    /// The time of the last restart in the present series of crashes; `None` if there is no series.
    restarted_ns: Option<u64>,
    /// Crashes in the series, each of which ended a short-lived instance.
    in_a_row: u32,
    plan: Plan,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// The domain runs, or no change is planned.
    None,
    Restart {
        due_ns: u64,
        work: WorkId,
    },
    /// The parent instance was requested to decide. If it decides for a restart, that is not before `due_ns`.
    Verdict {
        due_ns: u64,
        work: WorkId,
        parent: DomainId,
    },
    /// The parent has given the domain up.
    GivenUp,
}

impl Plan {
    /// Returns true if this plan belongs to that work item.
    fn has_work_id(self, expected: WorkId) -> bool {
        matches!(self, Self::Restart { work, .. } | Self::Verdict { work, .. } if work == expected)
    }
}

/// The restart state of each slot's domain.
static STATES: [Lock<RestartState>; SLOT_LIMIT] = [const { Lock::new(RestartState::NEW) }; SLOT_LIMIT];

fn state_of(domain: &Domain) -> &'static Lock<RestartState> {
    &STATES[domain.slot]
}

impl RestartState {
    const NEW: Self = Self { restarted_ns: None, in_a_row: 0, plan: Plan::None };

    /// Counts the end of an instance. Returns the earliest time of a restart, and true if instances end too
    /// often.
    fn count_death(&mut self, domain: &Domain) -> (u64, bool) {
        let (now, policy) = (machine().now_ns(), domain.manifest.policy);
        let ran_long_enough = |restarted_ns| now.saturating_sub(restarted_ns) > policy.restart_window_ns;
        self.in_a_row = if self.restarted_ns.is_none_or(ran_long_enough) { 0 } else { self.in_a_row + 1 };
        let excess = self.in_a_row.checked_sub(policy.restart_limit);
        let pause = match excess {
            // After 32 doublings the pause is the longest in any case.
            Some(excess) => (FIRST_PAUSE_NS << excess.min(32)).min(LONGEST_PAUSE_NS),
            None => 0,
        };
        self.restarted_ns = Some(now + pause);
        (now + pause, excess.is_some())
    }

    /// Takes the plan back if it belongs to that work item.
    fn take(&mut self, work: WorkId) -> Option<Plan> {
        self.plan.has_work_id(work).then(|| core::mem::replace(&mut self.plan, Plan::None))
    }
}

/// Decides what follows the end of an instance. The domain is dead, or has even been restarted already.
/// Returns true if deferred work follows at once, which then also wakes the log writer.
pub(crate) fn after_death(domain: &'static Domain) -> bool {
    if domain.manifest.restart == Restart::Never {
        return false;
    }
    let work = WorkId::new();
    let mut state = state_of(domain).lock();
    let (due_ns, too_often) = state.count_death(domain);
    let (plan, due_ns, item) = match domain.supervision.parent().filter(|_| too_often) {
        Some(parent) => {
            let verdict = Plan::Verdict { due_ns, work, parent: parent.last_instance() };
            (verdict, 0, WorkItem::TellParent(domain.slot, work))
        }
        None => (Plan::Restart { due_ns, work }, due_ns, WorkItem::Restart(domain.slot, work)),
    };
    // An authorised domain has restarted it already.
    if domain.state() != DomainState::Dead {
        return false;
    }
    state.plan = plan;
    drop(state);
    deferred_work::follow_up(due_ns, item);
    due_ns <= machine().now_ns()
}

/// Clears the plan of `domain`, of which an instance begins. Called before any of its code runs.
pub(crate) fn forget_plan(domain: &Domain) {
    state_of(domain).lock().plan = Plan::None;
}

/// The plan for a domain, as `Control` reports it.
pub(crate) fn prospect(domain: &Domain) -> Prospect {
    match state_of(domain).lock().plan {
        Plan::None => Prospect::Open,
        Plan::Restart { due_ns, .. } => Prospect::Restart { due_ns },
        Plan::Verdict { .. } => Prospect::Verdict,
        Plan::GivenUp => Prospect::GivenUp,
    }
}

/// Starts `domain`, and then its descendants.
pub(crate) fn start_tree(domain: &'static Domain) -> Result<(), StartError> {
    let instance = start::start(domain)?;
    log::debug!("{} restarted: generation {}", domain.manifest.name, instance.generation());
    if domain.supervision.descendants().len() > 0 {
        deferred_work::now(WorkItem::StartChildren(instance));
    }
    Ok(())
}

pub(crate) fn restart_as_planned(slot: usize, work: WorkId) {
    let Some(domain) = domain::get(slot) else { return };
    if state_of(domain).lock().take(work).is_some() {
        log_failure(domain, start_tree(domain));
    }
}

/// Starts the descendants of a parent that has just started, in their first starting order. Those that are
/// not to be restarted stay dead.
pub(crate) fn start_children(parent: DomainId) {
    let Some(domain) = domain::get(parent.slot()) else { return };
    for child in domain.supervision.descendants() {
        if domain.instance() != Some(parent) {
            // The next instance of the parent starts them.
            return;
        }
        if child.manifest.restart == Restart::Always || child.state() == DomainState::Absent {
            // Crashes under the parent's last instance say nothing about this one.
            if child.instance().is_none() {
                let mut state = state_of(child).lock();
                (state.restarted_ns, state.in_a_row) = (None, 0);
            }
            log_failure(child, start::start(child).map(drop));
        }
    }
}

fn log_failure(domain: &Domain, outcome: Result<(), StartError>) {
    match outcome {
        // Another starter was quicker; or the next instance of its parent starts this one too.
        Ok(()) | Err(StartError::State(_) | StartError::NoParent { .. }) => {}
        Err(error) => log::error!("{} did not start again: {error}", domain.manifest.name),
    }
}

/// Requests the parent's verdict on a child that keeps crashing, and carries it out.
pub(crate) fn tell_parent(slot: usize, work: WorkId) {
    let Some(child) = domain::get(slot) else { return };
    let Some(parent) = child.supervision.parent() else { return };
    let state = *state_of(child).lock();
    let Plan::Verdict { parent: instance, work: present, .. } = state.plan else { return };
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
    let response = enter::upcall(instance, Upcall::ChildFailing(failing));
    deferred_work::forget(late);
    let verdict = {
        let mut state = state_of(child).lock();
        // If the plan is gone, the parent was late, or the child has been restarted.
        let Some(Plan::Verdict { due_ns, .. }) = state.take(work) else { return };
        // A parent that has died starts its children when it restarts.
        let Ok(verdict) = response else { return };
        match verdict {
            Verdict::Retry => {
                // A new id: `parent_is_late` for the old one may be running already.
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
    log::info!("{}: its parent decided {verdict:?} after {} crashes", failing.name, failing.crashes);
    if verdict == Verdict::Escalate {
        let (name, crashes, kind) = (failing.name, failing.crashes, failing.kind);
        let text = format_args!("it cannot help its child {name}, which has died {crashes} times: {kind:?}");
        terminate::terminate_because(instance, CrashKind::Abort, Text::format(text));
    }
}

/// Ends a parent that has not returned its verdict in time: it cannot supervise its children.
pub(crate) fn parent_is_late(slot: usize, work: WorkId) {
    let Some(child) = domain::get(slot) else { return };
    let plan = state_of(child).lock().take(work);
    if let Some(Plan::Verdict { parent: instance, .. }) = plan {
        let text = format_args!("it did not decide in time about its child {}", child.manifest.name);
        terminate::terminate_because(instance, CrashKind::Deadline, Text::format(text));
    }
}
