//! Restarts: the manifest's policy or the parent's verdict decides whether and when a domain whose instance
//! has ended restarts.
//!
//! No code here waits for domain code, except on the threads of [`deferred_work`], of which another one is
//! always idle.

use coppice_abi::{ChildFailing, CrashKind, DomainId, SLOT_LIMIT, Upcall, Verdict};
use coppice_control::{DomainState, RestartPlan};
use coppice_interfaces::Text;
use coppice_manifest::{Nanoseconds, Policy, Restart};

use crate::domain::start_error::StartError;
use crate::domain::{self, Domain, enter};
use crate::fault::{crash_log, terminate};
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::policy::deferred_work::{self, WorkId, WorkItem};
use crate::policy::start;

/// A domain's recent crashes, and its planned restart.
#[derive(Clone, Copy)]
struct RestartState {
    /// The time of the last restart in the present series of crashes; `None` if there is no series.
    restarted_ns: Option<u64>,
    /// Crashes in the series, each of which ended a short-lived instance.
    in_a_row: u32,
    /// Consecutive instances that failed soon after their start and before they had done any work.
    fruitless: u32,
    /// Progress of the last instance at its end.
    progress: Progress,
    /// The longest pause of the present series that was logged.
    logged_pause_ns: u64,
    /// True if the log is to state the reason when the next start fails.
    is_news: bool,
    plan: Plan,
}

/// Progress of an instance.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Progress {
    /// The entry function has not returned.
    #[default]
    Nothing,
    /// The entry function has returned, but no call into the domain.
    Ready,
    /// A call into the domain, or one of its own threads, has returned.
    Worked,
}

/// The delay before a restart.
struct Pause {
    due_ns: u64,
    length_ns: u64,
    /// True if the domain crashed more often than its restart limit, so its parent decides.
    is_too_often: bool,
    /// The number of consecutive instances, if this step of the back-off is to be logged.
    step: Option<u32>,
    /// True if the log has a crash record of this step already and omits this one.
    is_repeated: bool,
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
    const NEW: Self = Self {
        restarted_ns: None,
        in_a_row: 0,
        fruitless: 0,
        progress: Progress::Nothing,
        logged_pause_ns: 0,
        is_news: false,
        plan: Plan::None,
    };

    /// Counts the end of an instance by a crash of that kind.
    fn count_death(&mut self, policy: &Policy, kind: CrashKind, now: u64) -> Pause {
        let ran_long_enough = |restarted_ns| now.saturating_sub(restarted_ns) > policy.restart_window_ns;
        self.in_a_row = if self.restarted_ns.is_none_or(ran_long_enough) { 0 } else { self.in_a_row + 1 };
        let is_by_others = matches!(kind, CrashKind::Killed | CrashKind::Orphaned);
        self.fruitless = match self.progress {
            Progress::Worked => 0,
            // The kill came before the start could fail or succeed.
            Progress::Nothing if is_by_others => self.fruitless,
            Progress::Ready if is_by_others => 0,
            Progress::Nothing | Progress::Ready if self.restarted_ns.is_some_and(ran_long_enough) => 0,
            Progress::Nothing | Progress::Ready => self.fruitless + 1,
        };
        let excess = self.in_a_row.checked_sub(policy.restart_limit);
        // The first restart is immediate in any case.
        let fruitless = self.fruitless.checked_sub(2);
        let doublings = excess.max(fruitless);
        let row = if fruitless >= excess { self.fruitless } else { self.in_a_row + 1 };
        let length_ns = doublings.map_or(0, |doublings| {
            // After 63 doublings any pause is the longest.
            policy.restart_pause_ns.saturating_mul(1 << doublings.min(63)).min(policy.restart_pause_limit_ns)
        });
        let is_step = length_ns > self.logged_pause_ns;
        self.logged_pause_ns = length_ns;
        self.is_news = is_step || length_ns == 0;
        self.restarted_ns = Some(now + length_ns);
        Pause {
            due_ns: now + length_ns,
            length_ns,
            is_too_often: excess.is_some(),
            step: is_step.then_some(row),
            is_repeated: !self.is_news && self.fruitless > 0,
        }
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
    let instance = domain.last_instance();
    let mut state = state_of(domain).lock();
    let work = WorkId::new();
    let pause = state.count_death(&domain.manifest.policy, crash_log::cause(instance), machine().now_ns());
    let due_ns = pause.due_ns;
    let (plan, due_ns, item) = match domain.supervision.parent().filter(|_| pause.is_too_often) {
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
    if pause.is_repeated {
        crash_log::leave_out(instance);
    }
    if let Some(crashes) = pause.step {
        let (name, length) = (&domain.manifest.name, Nanoseconds(pause.length_ns));
        log::warn!(
            "{name} has ended {crashes} times in a row: it stays dead for {length} before the next start"
        );
    }
    deferred_work::follow_up(due_ns, item);
    due_ns <= machine().now_ns()
}

/// Notes how far an instance of `domain` came that has just ended with `inside` crossings into it under way.
/// The world is stopped.
pub(crate) fn note_end(domain: &Domain, inside: u64) {
    // The entry function's own crossing has returned too if the domain is running.
    let progress = match domain.state() {
        DomainState::Running if domain.calls_of_instance() > inside + 1 => Progress::Worked,
        DomainState::Running => Progress::Ready,
        _ => Progress::Nothing,
    };
    state_of(domain).lock().progress = progress;
}

/// Clears the plan of `domain`, of which an instance begins. Called before any of its code runs.
pub(crate) fn forget_plan(domain: &Domain) {
    state_of(domain).lock().plan = Plan::None;
}

/// The plan for a domain, as `Control` reports it.
pub(crate) fn restart_plan(domain: &Domain) -> RestartPlan {
    match state_of(domain).lock().plan {
        Plan::None => RestartPlan::None,
        Plan::Restart { due_ns, .. } => RestartPlan::Restart { due_ns },
        Plan::Verdict { .. } => RestartPlan::AwaitingParent,
        Plan::GivenUp => RestartPlan::GivenUp,
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
                *state = RestartState { plan: state.plan, ..RestartState::NEW };
            }
            log_failure(child, start::start(child).map(drop));
        }
    }
}

fn log_failure(domain: &Domain, outcome: Result<(), StartError>) {
    match outcome {
        // Another starter was quicker; or the next instance of its parent starts this one too.
        Ok(()) | Err(StartError::State(_) | StartError::NoParent { .. }) => {}
        Err(error) if core::mem::take(&mut state_of(domain).lock().is_news) => {
            log::error!("{} did not start again: {error}", domain.manifest.name);
        }
        Err(_) => {}
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// Ends instances at these points, each right after its start. Returns the pauses in milliseconds.
    fn pauses(policy: &Policy, deaths: &[(Progress, CrashKind)]) -> Vec<u64> {
        let mut state = RestartState::NEW;
        let mut now = 5_000 * MS;
        let pause = |&(progress, kind): &_| {
            state.progress = progress;
            let pause = state.count_death(policy, kind, now);
            now = pause.due_ns;
            pause.length_ns / MS
        };
        deaths.iter().map(pause).collect()
    }

    fn without_limit() -> Policy {
        Policy { restart_limit: u32::MAX, ..Policy::default() }
    }

    #[test]
    fn pauses_double_while_starts_fail() {
        let policy = without_limit();
        let failure = (Progress::Nothing, CrashKind::Panic);
        let longer = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000, 1000, 1000];
        assert_eq!(pauses(&policy, &[failure; 14]), longer);
        let short = Policy { restart_pause_ns: 3 * MS, restart_pause_limit_ns: 10 * MS, ..policy };
        assert_eq!(pauses(&short, &[failure; 6]), [0, 3, 6, 10, 10, 10]);
        let at_the_first_call = (Progress::Ready, CrashKind::Exception);
        assert_eq!(pauses(&policy, &[at_the_first_call; 4]), [0, 1, 2, 4]);
    }

    #[test]
    fn restart_after_work_is_immediate() {
        let worked = (Progress::Worked, CrashKind::Panic);
        assert_eq!(pauses(&without_limit(), &[worked; 100]), [0; 100]);
        // Until they are too many for the manifest.
        assert_eq!(pauses(&Policy { restart_limit: 2, ..Policy::default() }, &[worked; 5]), [0, 0, 1, 2, 4]);
    }

    #[test]
    fn work_or_time_ends_the_series() {
        let policy = without_limit();
        let (failure, worked) = ((Progress::Nothing, CrashKind::Abort), (Progress::Worked, CrashKind::Panic));
        assert_eq!(
            pauses(&policy, &[failure, failure, failure, worked, failure, failure]),
            [0, 1, 2, 0, 0, 1]
        );
        let mut state = RestartState::NEW;
        for (now_ms, length_ms) in [(0, 0), (1, 1), (3, 2), (2_000, 0), (2_001, 0), (2_002, 1)] {
            state.progress = Progress::Ready;
            let pause = state.count_death(&policy, CrashKind::Panic, now_ms * MS);
            assert_eq!(pause.length_ns, length_ms * MS, "at {now_ms} ms");
        }
    }

    #[test]
    fn a_killed_instance_has_not_failed() {
        let (failure, killed) = ((Progress::Nothing, CrashKind::Panic), CrashKind::Killed);
        let policy = without_limit();
        assert_eq!(pauses(&policy, &[(Progress::Ready, killed); 20]), [0; 20]);
        assert_eq!(pauses(&policy, &[failure, failure, (Progress::Ready, killed), failure]), [0, 1, 0, 0]);
        // A kill during a start does not count as a start that succeeded.
        assert_eq!(pauses(&policy, &[failure, failure, (Progress::Nothing, killed), failure]), [0, 1, 1, 2]);
    }

    #[test]
    fn each_step_is_logged_once() {
        let policy = Policy { restart_pause_limit_ns: 4 * MS, ..without_limit() };
        let mut state = RestartState::NEW;
        let mut logged = Vec::new();
        for number in 1..=20 {
            let pause = state.count_death(&policy, CrashKind::Panic, number * 10 * MS);
            logged.extend(pause.step);
            assert_eq!(pause.is_repeated, number > 4, "failure {number}");
        }
        assert_eq!(logged, [2, 3, 4]);
        state.progress = Progress::Worked;
        assert!(!state.count_death(&policy, CrashKind::Panic, 300 * MS).is_repeated);
        state.progress = Progress::Nothing;
        state.count_death(&policy, CrashKind::Panic, 310 * MS);
        assert_eq!(state.count_death(&policy, CrashKind::Panic, 320 * MS).step, Some(2), "the next row");
    }
}
