//! Deferred work: actions that the kernel has to perform later, and the worker threads that perform them.
//!
//! Many of them run a domain's code, which may never return. So there is no single supervisor thread: idle
//! workers wait on the queue, and a worker that takes an item that may never return first makes sure that
//! another one is waiting.

use alloc::collections::BTreeMap;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use coppice_abi::DomainId;

use crate::fault::crash_log;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::policy::{restart, revoke};
use crate::sched::thread::{NoStack, RECOVERY, Thread, Work};
use crate::sched::wait;

const WORK_KEY: wait::Key = wait::Key::Work(wait::KernelWorker::DeferredWork);

/// The minimum number of idle workers. Two, so that a restart seldom has to wait for a new thread.
const MIN_IDLE_WORKERS: u32 = 2;

/// The stack of a worker, in bytes; entry functions run on it.
const STACK_BYTES: usize = 128 * 1024;

/// The delay before the next attempt if there is no memory for another worker.
const RETRY_NS: u64 = 1_000_000;

/// Identifies one planned action, so that it is not mistaken for a later one of the same kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WorkId(u64);

impl WorkId {
    /// Returns an id that was never used before.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A deferred action.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkItem {
    /// Starts the domain in that slot again.
    Restart(usize, WorkId),
    /// Notifies the parent of the domain in that slot that it keeps crashing.
    TellParent(usize, WorkId),
    /// Ends a parent that has not returned its verdict in time.
    ParentIsLate(usize, WorkId),
    /// Starts the descendants of that instance.
    StartChildren(DomainId),
    /// Sends a demand to a domain.
    SendDemand(WorkId),
    /// Checks at its deadline whether a demand was met.
    CheckDemand(WorkId),
    /// Takes a census of the shared heap.
    TakeCensus,
}

impl WorkItem {
    fn may_never_return(self) -> bool {
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

/// The queue of work items, by due time. The number distinguishes items of the same time, and keeps their
/// order.
struct DeferredWork {
    items: BTreeMap<(u64, u64), WorkItem>,
    next: u64,
}

static QUEUE: Lock<DeferredWork> = Lock::new(DeferredWork { items: BTreeMap::new(), next: 0 });
static IDLE_WORKERS: AtomicU32 = AtomicU32::new(0);
static CENSUS_WANTED: AtomicBool = AtomicBool::new(false);

/// Starts the first workers.
pub(crate) fn start() -> Result<(), NoStack> {
    (0..MIN_IDLE_WORKERS).try_for_each(|_| spawn_worker())
}

/// Performs `item` as soon as the clock passes `due_ns`. The caller holds no lock that comes after a wait
/// bucket's.
pub(crate) fn at(due_ns: u64, item: WorkItem) {
    insert(due_ns, item);
    wait::wake(WORK_KEY, 1);
}

/// As [`at`], but the running thread does not wait for another CPU to wake up.
pub(crate) fn follow_up(due_ns: u64, item: WorkItem) {
    insert(due_ns, item);
    wait::wake_soon(WORK_KEY);
}

fn insert(due_ns: u64, item: WorkItem) {
    let mut queue = QUEUE.lock();
    let number = queue.next;
    queue.next += 1;
    queue.items.insert((due_ns, number), item);
}

/// Performs `item` as soon as possible.
pub(crate) fn now(item: WorkItem) {
    at(0, item);
}

/// Removes `item`, if no worker has taken it.
pub(crate) fn forget(item: WorkItem) {
    QUEUE.lock().items.retain(|_, planned| *planned != item);
}

/// Requests a census within [`revoke::CENSUS_PERIOD_NS`]. Needs little stack and no memory: it is called from
/// checkpoints.
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
    let spawned = Thread::spawn(DomainId::KERNEL, RECOVERY, u64::MAX, STACK_BYTES, Work::Kernel(worker));
    spawned.map(drop).inspect_err(|_| {
        IDLE_WORKERS.fetch_sub(1, Ordering::SeqCst);
    })
}

/// The body of a worker, which is already counted in [`IDLE_WORKERS`].
fn worker() {
    loop {
        let item = next_item();
        // Other idle workers may be waiting for a later time than that of the first item now.
        if first().is_some() {
            wait::wake(WORK_KEY, 1);
        }
        let was_last = IDLE_WORKERS.fetch_sub(1, Ordering::SeqCst) == 1;
        if was_last && item.may_never_return() && spawn_worker().is_err() {
            at(machine().now_ns() + RETRY_NS, item);
        } else {
            item.run();
        }
        // Records of the crashes that this item followed up.
        crash_log::announce();
        let enough = |idle| (idle < MIN_IDLE_WORKERS).then_some(idle + 1);
        if IDLE_WORKERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enough).is_err() {
            return;
        }
    }
}

/// Waits for an item that is due, and takes it.
fn next_item() -> WorkItem {
    loop {
        if CENSUS_WANTED.swap(false, Ordering::SeqCst) {
            at(machine().now_ns() + revoke::CENSUS_PERIOD_NS, WorkItem::TakeCensus);
        }
        let first = first();
        if let Some(key) = first.filter(|&(due_ns, _)| due_ns <= machine().now_ns()) {
            match QUEUE.lock().items.remove(&key) {
                Some(item) => return item,
                // Another worker was quicker.
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
