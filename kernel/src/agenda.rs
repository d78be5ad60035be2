//! The agenda: what the kernel has to do later, and the threads that do it.
//!
//! Much of it runs a domain's code, which may never come back. So no thread is *the* supervisor: those without work
//! watch the agenda, and who takes a task that might not end first sees to it that somebody else watches.

use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use coppice_abi::DomainId;

use crate::machine::machine;
use crate::sync::Lock;
use crate::thread::{DEFAULT_PRIORITY, SpawnError, Thread, Work};
use crate::{crash_log, revoke, supervisor, wait};

const WORK: wait::Key = wait::Key::Work(wait::Post::Agenda);

/// Threads that watch when nothing is to be done. Two, so that a restart seldom has to wait for a new thread.
const WATCHERS: u32 = 2;

/// Stack of each; entry functions run on it.
const STACK_BYTES: usize = 128 * 1024;

/// When to try again if there is no memory for another watcher.
const RETRY_NS: u64 = 1_000_000;

/// Names one plan, so that it is not mistaken for a later one of the same kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// One that nobody has had.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Something to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// Begin a new instance of the domain in that slot.
    Restart(usize, Ticket),
    /// Tell the parent of the domain in that slot that it keeps crashing.
    TellParent(usize, Ticket),
    /// It should have answered that by now.
    ParentIsLate(usize, Ticket),
    /// Begin lives of the domains below that one.
    BringUp(DomainId),
    /// Ask a domain to give something up.
    Ask(Ticket),
    /// See whether it has.
    LookAgain(Ticket),
    /// Look for domains that own too much of the shared heap.
    TakeCensus,
}

impl Task {
    fn may_not_end(self) -> bool {
        matches!(self, Self::Restart(..) | Self::TellParent(..) | Self::BringUp(_) | Self::Ask(_))
    }

    fn run(self) {
        match self {
            Self::Restart(slot, ticket) => supervisor::restart_as_planned(slot, ticket),
            Self::TellParent(slot, ticket) => supervisor::tell_parent(slot, ticket),
            Self::ParentIsLate(slot, ticket) => supervisor::parent_is_late(slot, ticket),
            Self::BringUp(instance) => supervisor::bring_up(instance),
            Self::Ask(ticket) => revoke::ask(ticket),
            Self::LookAgain(ticket) => revoke::look_again(ticket),
            Self::TakeCensus => revoke::take_census(),
        }
    }
}

/// What is to be done when. The number keeps tasks of one moment apart, and in order.
struct Agenda {
    tasks: BTreeMap<(u64, u64), Task>,
    next: u64,
}

static AGENDA: Lock<Agenda> = Lock::new(Agenda { tasks: BTreeMap::new(), next: 0 });
static WATCHING: AtomicU32 = AtomicU32::new(0);
static CENSUS_WANTED: AtomicBool = AtomicBool::new(false);

/// Starts the watch.
pub(crate) fn start() -> Result<(), SpawnError> {
    (0..WATCHERS).try_for_each(|_| spawn_watcher())
}

/// Has `task` done as soon as the clock passes `due_ns`. Holding no lock that comes after a wait bucket's.
pub(crate) fn at(due_ns: u64, task: Task) {
    plan(due_ns, task);
    wait::wake(WORK, 1);
}

/// As [`at`], without that the running thread has to wait for another CPU's waking up.
pub(crate) fn follow_up(due_ns: u64, task: Task) {
    plan(due_ns, task);
    wait::wake_soon(WORK);
}

fn plan(due_ns: u64, task: Task) {
    let mut agenda = AGENDA.lock();
    let number = agenda.next;
    agenda.next += 1;
    agenda.tasks.insert((due_ns, number), task);
}

/// Has `task` done.
pub(crate) fn now(task: Task) {
    at(0, task);
}

/// Forgets `task`, if nobody has begun with it.
pub(crate) fn forget(task: Task) {
    AGENDA.lock().tasks.retain(|_, planned| *planned != task);
}

/// Has a census taken within a while. Needs little stack and no memory: it is called from checkpoints.
pub(crate) fn want_census() {
    if !CENSUS_WANTED.swap(true, Ordering::SeqCst) {
        wait::wake(WORK, 1);
    }
}

fn spawn_watcher() -> Result<(), SpawnError> {
    WATCHING.fetch_add(1, Ordering::SeqCst);
    let spawned =
        Thread::spawn(DomainId::KERNEL, DEFAULT_PRIORITY, u64::MAX, STACK_BYTES, Work::Kernel(watch));
    spawned.map(drop).inspect_err(|_| {
        WATCHING.fetch_sub(1, Ordering::SeqCst);
    })
}

/// What each thread does; it is counted in [`WATCHING`] already.
fn watch() {
    loop {
        let task = next_task();
        // Whoever still watches waits perhaps for less than what is first now.
        if first().is_some() {
            wait::wake(WORK, 1);
        }
        let was_last = WATCHING.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && task.may_not_end() && spawn_watcher().is_err() {
            at(machine().now_ns() + RETRY_NS, task);
        } else {
            task.run();
        }
        // Deaths whose follow-up this was.
        crash_log::announce();
        let enough = |watching| (watching < WATCHERS).then_some(watching + 1);
        if WATCHING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enough).is_err() {
            return;
        }
    }
}

/// Waits for something that is due.
fn next_task() -> Task {
    loop {
        if CENSUS_WANTED.swap(false, Ordering::SeqCst) {
            at(machine().now_ns() + revoke::CENSUS_PERIOD_NS, Task::TakeCensus);
        }
        let first = first();
        if let Some(key) = first.filter(|&(due_ns, _)| due_ns <= machine().now_ns()) {
            match AGENDA.lock().tasks.remove(&key) {
                Some(task) => return task,
                // Somebody else was quicker.
                None => continue,
            }
        }
        let nothing_new = || self::first() == first && !CENSUS_WANTED.load(Ordering::SeqCst);
        wait::block(WORK, nothing_new, first.map_or(u64::MAX, |(due_ns, _)| due_ns));
    }
}

fn first() -> Option<(u64, u64)> {
    AGENDA.lock().tasks.first_key_value().map(|(&key, _)| key)
}
