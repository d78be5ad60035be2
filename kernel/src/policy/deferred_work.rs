//! Deferred work: what the kernel has to do later, and the threads that do it.
//!
//! Much of it runs a domain's code, which may never come back. So no thread is *the* supervisor: those without work
//! watch the queue, and one that takes an item that might not end first sees to it that another watches.

use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use coppice_abi::DomainId;

use crate::fault::crash_log;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::policy::{restart, revoke};
use crate::sched::thread::{DEFAULT_PRIORITY, NoStack, Thread, Work};
use crate::sched::wait;

const WORK_KEY: wait::Key = wait::Key::Work(wait::KernelWorker::DeferredWork);

/// Threads that watch when nothing is to be done. Two, so that a restart seldom has to wait for a new thread.
const MIN_IDLE_WORKERS: u32 = 2;

/// Stack of each; entry functions run on it.
const STACK_BYTES: usize = 128 * 1024;

/// When to try again if there is no memory for another watcher.
const RETRY_NS: u64 = 1_000_000;

/// Names one plan, so that it is not mistaken for a later one of the same kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WorkId(u64);

impl WorkId {
    /// One that nobody has had.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Something to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkItem {
    /// Begin a new instance of the domain in that slot.
    Restart(usize, WorkId),
    /// Tell the parent of the domain in that slot that it keeps crashing.
    TellParent(usize, WorkId),
    /// It should have answered that by now.
    ParentIsLate(usize, WorkId),
    /// Begin lives of the domains below that one.
    StartChildren(DomainId),
    /// Ask a domain to give something up.
    SendDemand(WorkId),
    /// See whether it has.
    CheckDemand(WorkId),
    /// Look for domains that own too much of the shared heap.
    TakeCensus,
}

impl WorkItem {
    fn may_not_end(self) -> bool {
        matches!(
            self,
            Self::Restart(..) | Self::TellParent(..) | Self::StartChildren(_) | Self::SendDemand(_)
        )
    }

    fn run(self) {
        match self {
            Self::Restart(slot, work) => restart::restart_as_planned(slot, work),
            Self::TellParent(slot, work) => restart::tell_parent(slot, work),
            Self::ParentIsLate(slot, work) => restart::parent_is_late(slot, work),
            Self::StartChildren(instance) => restart::start_children(instance),
            Self::SendDemand(work) => revoke::send(work),
            Self::CheckDemand(work) => revoke::check(work),
            Self::TakeCensus => revoke::take_census(),
        }
    }
}

/// What is to be done when. The number keeps items of one moment apart, and in order.
struct DeferredWork {
    items: BTreeMap<(u64, u64), WorkItem>,
    next: u64,
}

static QUEUE: Lock<DeferredWork> = Lock::new(DeferredWork { items: BTreeMap::new(), next: 0 });
static IDLE_WORKERS: AtomicU32 = AtomicU32::new(0);
static CENSUS_WANTED: AtomicBool = AtomicBool::new(false);

/// Starts the watch.
pub(crate) fn start() -> Result<(), NoStack> {
    (0..MIN_IDLE_WORKERS).try_for_each(|_| spawn_worker())
}

/// Has `item` done as soon as the clock passes `due_ns`. Holding no lock that comes after a wait bucket's.
pub(crate) fn at(due_ns: u64, item: WorkItem) {
    plan(due_ns, item);
    wait::wake(WORK_KEY, 1);
}

/// As [`at`], without that the running thread has to wait for another CPU's waking up.
pub(crate) fn follow_up(due_ns: u64, item: WorkItem) {
    plan(due_ns, item);
    wait::wake_soon(WORK_KEY);
}

fn plan(due_ns: u64, item: WorkItem) {
    let mut queue = QUEUE.lock();
    let number = queue.next;
    queue.next += 1;
    queue.items.insert((due_ns, number), item);
}

/// Has `item` done.
pub(crate) fn now(item: WorkItem) {
    at(0, item);
}

/// Forgets `item`, if nobody has begun with it.
pub(crate) fn forget(item: WorkItem) {
    QUEUE.lock().items.retain(|_, planned| *planned != item);
}

/// Has a census taken within a while. Needs little stack and no memory: it is called from checkpoints.
pub(crate) fn want_census() {
    if !CENSUS_WANTED.swap(true, Ordering::SeqCst) {
        wait::wake(WORK_KEY, 1);
    }
}

/// The number of items that are due and that no worker has taken.
pub(crate) fn due() -> u32 {
    let now = machine().now_ns();
    QUEUE.lock().items.keys().take_while(|(due_ns, _)| *due_ns <= now).count() as u32
}

fn spawn_worker() -> Result<(), NoStack> {
    IDLE_WORKERS.fetch_add(1, Ordering::SeqCst);
    let spawned =
        Thread::spawn(DomainId::KERNEL, DEFAULT_PRIORITY, u64::MAX, STACK_BYTES, Work::Kernel(worker));
    spawned.map(drop).inspect_err(|_| {
        IDLE_WORKERS.fetch_sub(1, Ordering::SeqCst);
    })
}

/// What each thread does; it is counted in [`IDLE_WORKERS`] already.
fn worker() {
    loop {
        let item = next_item();
        // Whoever still watches waits perhaps for less than what is first now.
        if first().is_some() {
            wait::wake(WORK_KEY, 1);
        }
        let was_last = IDLE_WORKERS.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && item.may_not_end() && spawn_worker().is_err() {
            at(machine().now_ns() + RETRY_NS, item);
        } else {
            item.run();
        }
        // Deaths whose follow-up this was.
        crash_log::announce();
        let enough = |idle| (idle < MIN_IDLE_WORKERS).then_some(idle + 1);
        if IDLE_WORKERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enough).is_err() {
            return;
        }
    }
}

/// Waits for something that is due.
fn next_item() -> WorkItem {
    loop {
        if CENSUS_WANTED.swap(false, Ordering::SeqCst) {
            at(machine().now_ns() + revoke::CENSUS_PERIOD_NS, WorkItem::TakeCensus);
        }
        let first = first();
        if let Some(key) = first.filter(|&(due_ns, _)| due_ns <= machine().now_ns()) {
            match QUEUE.lock().items.remove(&key) {
                Some(item) => return item,
                // Somebody else was quicker.
                None => continue,
            }
        }
        let nothing_new = || self::first() == first && !CENSUS_WANTED.load(Ordering::SeqCst);
        wait::block(WORK_KEY, nothing_new, first.map_or(u64::MAX, |(due_ns, _)| due_ns));
    }
}

fn first() -> Option<(u64, u64)> {
    QUEUE.lock().items.first_key_value().map(|(&key, _)| key)
}
