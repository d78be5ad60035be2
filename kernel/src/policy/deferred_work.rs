//! Deferred work: actions that the kernel has to perform later, and the worker threads that perform them.
//!
//! Many of them run a domain's code, which may never return. So there is no single supervisor thread: idle
//! workers wait on the queue, and a worker that takes an item that may never return first makes sure that
//! another one is waiting.
//!
//! An item takes no memory: each domain has at most one of each kind in the queue, and the queue has room for
//! all of them from the start. Of two items of a kind the newer plan's stays, since it supersedes the older
//! plan.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use coppice_abi::DomainId;
use coppice_control::Resource;

use crate::fault::crash_log;
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::policy::{restart, revoke};
use crate::sched::thread::{NoMemory, RECOVERY, Thread, Work};
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
    /// Returns an id that is larger than all earlier ones. The caller holds the lock under which the planned
    /// action is set, so that the last plan has the largest id.
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
    /// Sends a demand to the domain in that slot.
    SendDemand(usize, Resource, WorkId),
    /// Checks at its deadline whether the domain in that slot has met a demand.
    CheckDemand(usize, Resource, WorkId),
    /// Takes a census of the shared heap.
    TakeCensus,
}

impl WorkItem {
    fn may_never_return(self) -> bool {
        matches!(
            self,
            Self::Restart(..) | Self::TellParent(..) | Self::StartChildren(_) | Self::SendDemand(..)
        )
    }

    fn run(self) {
        match self {
            Self::Restart(slot, work) => restart::restart_as_planned(slot, work),
            Self::TellParent(slot, work) => restart::tell_parent(slot, work),
            Self::ParentIsLate(slot, work) => restart::parent_is_late(slot, work),
            Self::StartChildren(instance) => restart::start_children(instance),
            Self::SendDemand(_, _, work) => revoke::send(work),
            Self::CheckDemand(_, _, work) => revoke::check(work),
            Self::TakeCensus => revoke::take_census(),
        }
    }

    /// The slot of the domain that the item is about, and a number of its kind below [`KINDS`].
    fn kind(self) -> (usize, u8) {
        match self {
            Self::Restart(slot, _) => (slot, 0),
            Self::TellParent(slot, _) => (slot, 1),
            Self::ParentIsLate(slot, _) => (slot, 2),
            Self::StartChildren(instance) => (instance.slot(), 3),
            Self::SendDemand(slot, Resource::SharedHeap, _) => (slot, 4),
            Self::SendDemand(slot, Resource::Cpu, _) => (slot, 5),
            Self::CheckDemand(slot, Resource::SharedHeap, _) => (slot, 6),
            Self::CheckDemand(slot, Resource::Cpu, _) => (slot, 7),
            Self::TakeCensus => (DomainId::KERNEL.slot(), 0),
        }
    }

    /// A number that grows with each plan for the domain.
    fn age(self) -> u64 {
        match self {
            Self::Restart(_, work)
            | Self::TellParent(_, work)
            | Self::ParentIsLate(_, work)
            | Self::SendDemand(_, _, work)
            | Self::CheckDemand(_, _, work) => work.0,
            Self::StartChildren(instance) => instance.generation().into(),
            Self::TakeCensus => 0,
        }
    }
}

/// The number of kinds of items that one domain can have in the queue.
const KINDS: usize = 8;

/// An item in the queue, with its due time and a number that keeps the order of items of the same time.
#[derive(Clone, Copy)]
struct Queued {
    key: (u64, u64),
    item: WorkItem,
}

/// The queue of work items; the next one comes last.
struct DeferredWork {
    items: Vec<Queued>,
    next: u64,
}

impl DeferredWork {
    fn insert(&mut self, due_ns: u64, item: WorkItem) {
        if let Some(index) = self.items.iter().position(|queued| queued.item.kind() == item.kind()) {
            let queued = self.items[index];
            let (newer, same) = (queued.item.age() > item.age(), queued.item.age() == item.age());
            if newer || same && queued.key.0 <= due_ns {
                return;
            }
            self.items.remove(index);
        }
        assert!(self.items.len() < self.items.capacity(), "there is room for each kind of each domain");
        let key = (due_ns, self.next);
        self.next += 1;
        let index = self.items.partition_point(|queued| queued.key > key);
        self.items.insert(index, Queued { key, item });
    }
}

static QUEUE: Lock<DeferredWork> = Lock::new(DeferredWork { items: Vec::new(), next: 0 });
static IDLE_WORKERS: AtomicU32 = AtomicU32::new(0);
static CENSUS_WANTED: AtomicBool = AtomicBool::new(false);

/// Makes room for the items of `domains` domains, before the first of them starts.
pub(crate) fn init(domains: usize) {
    // One more for the census.
    QUEUE.lock().items.reserve_exact(domains * KINDS + 1);
}

/// Starts the first workers. Until there are domains, a census is the only work.
pub(crate) fn start() -> Result<(), NoMemory> {
    init(0);
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
    QUEUE.lock().insert(due_ns, item);
}

/// Performs `item` as soon as possible.
pub(crate) fn now(item: WorkItem) {
    at(0, item);
}

/// Removes `item`, if no worker has taken it.
pub(crate) fn forget(item: WorkItem) {
    QUEUE.lock().items.retain(|queued| queued.item != item);
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
    QUEUE.lock().items.iter().filter(|queued| queued.key.0 <= now).count() as u32
}

fn spawn_worker() -> Result<(), NoMemory> {
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
            match QUEUE.lock().items.pop_if(|last| last.key == key) {
                Some(queued) => return queued.item,
                // Another worker was quicker.
                None => continue,
            }
        }
        let nothing_new = || self::first() == first && !CENSUS_WANTED.load(Ordering::SeqCst);
        wait::block(WORK_KEY, nothing_new, first.map_or(u64::MAX, |(due_ns, _)| due_ns));
    }
}

fn first() -> Option<(u64, u64)> {
    QUEUE.lock().items.last().map(|queued| queued.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(domains: usize) -> DeferredWork {
        DeferredWork { items: Vec::with_capacity(domains * KINDS + 1), next: 0 }
    }

    #[test]
    fn items_come_in_the_order_of_their_due_times() {
        let mut queue = queue(3);
        let items =
            [(5, 2), (1, 3), (5, 4)].map(|(due, slot)| (due, WorkItem::Restart(slot, WorkId(slot as u64))));
        items.into_iter().for_each(|(due, item)| queue.insert(due, item));
        let order = core::iter::from_fn(|| queue.items.pop()).map(|queued| queued.item.kind().0);
        assert_eq!(order.collect::<Vec<_>>(), [3, 2, 4]);
    }

    #[test]
    fn the_item_of_the_newer_plan_stays_whichever_is_inserted_first() {
        for [first, second] in [[7, 8], [8, 7]] {
            let mut queue = queue(1);
            queue.insert(first, WorkItem::Restart(2, WorkId(first)));
            queue.insert(second, WorkItem::Restart(2, WorkId(second)));
            let items: Vec<_> = queue.items.iter().map(|queued| (queued.key.0, queued.item.age())).collect();
            assert_eq!(items, [(8, 8)]);
        }
    }

    #[test]
    fn a_census_that_is_wanted_again_is_not_postponed() {
        let mut queue = queue(1);
        [5, 9, 4].into_iter().for_each(|due| queue.insert(due, WorkItem::TakeCensus));
        assert_eq!(queue.items.iter().map(|queued| queued.key.0).collect::<Vec<_>>(), [4]);
    }

    #[test]
    fn items_of_all_kinds_of_all_domains_have_room() {
        let mut queue = queue(2);
        let capacity = queue.items.capacity();
        for round in 0..100 {
            for slot in [2, 3] {
                let (work, [heap, cpu]) = (WorkId(round), [Resource::SharedHeap, Resource::Cpu]);
                let items = [
                    WorkItem::Restart(slot, work),
                    WorkItem::TellParent(slot, work),
                    WorkItem::ParentIsLate(slot, work),
                    WorkItem::StartChildren(DomainId::new(slot as u32, round as u32)),
                    WorkItem::SendDemand(slot, heap, work),
                    WorkItem::SendDemand(slot, cpu, work),
                    WorkItem::CheckDemand(slot, heap, work),
                    WorkItem::CheckDemand(slot, cpu, work),
                    WorkItem::TakeCensus,
                ];
                items.into_iter().for_each(|item| queue.insert(round, item));
            }
        }
        assert_eq!((queue.items.len(), queue.items.capacity()), (2 * KINDS + 1, capacity));
    }
}
