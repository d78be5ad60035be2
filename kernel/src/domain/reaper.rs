//! The reaper: drops exported objects without references, inside their domains.
//!
//! The last reference may be released in a place where a destructor must not run or block, so a kernel thread
//! drops the object later. Each domain has a queue of its own, linked through the proxies, so that queueing
//! takes no memory; the proxies stay charged to the domain until they are freed. One thread at a time serves
//! a queue. So a destructor that waits delays the domain's own objects and no others.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use coppice_abi::{DomainId, SLOT_LIMIT};

use crate::domain::proxy::{self, Proxy};
use crate::platform::machine::machine;
use crate::platform::sync::Lock;
use crate::sched::thread::{self, NoMemory, RECOVERY, Thread, Work};
use crate::sched::wait::{self, KernelWorker};

const WORK_KEY: wait::Key = wait::Key::Work(KernelWorker::Reaper);

/// The minimum number of idle workers. Two, so that a destructor seldom has to wait for a new thread.
const MIN_IDLE_WORKERS: u32 = 2;

/// The stack of a worker, in bytes; destructors run on it.
const STACK_BYTES: usize = 128 * 1024;

/// The delay before the next attempt if there is no memory for another worker.
const RETRY_NS: u64 = 1_000_000;

/// The proxies of one slot's objects that wait for the reaper, oldest first.
#[derive(Clone, Copy)]
struct ReapQueue {
    first: Option<NonNull<Proxy>>,
    last: Option<NonNull<Proxy>>,
    /// The number of proxies that left the queue and were freed.
    freed: u64,
    /// A worker serves this queue.
    is_served: bool,
}

struct ReapQueues {
    by_slot: [ReapQueue; SLOT_LIMIT],
    /// A bit for each slot whose queue is not empty and that no worker serves.
    ready: [u64; SLOT_LIMIT / 64],
    /// The slot after which the search for the next queue begins, so that all have their turn.
    turn: usize,
    /// Proxies in all queues.
    len: u32,
}

// SAFETY: a proxy without references belongs to the queue that it is in.
unsafe impl Send for ReapQueues {}

static QUEUES: Lock<ReapQueues> = Lock::new(ReapQueues {
    by_slot: [ReapQueue::EMPTY; SLOT_LIMIT],
    ready: [0; SLOT_LIMIT / 64],
    turn: 0,
    len: 0,
});

/// The number of workers that wait for a queue.
static IDLE_WORKERS: AtomicU32 = AtomicU32::new(0);

/// The number of proxies that workers have taken and not freed.
static IN_DESTRUCTORS: AtomicU32 = AtomicU32::new(0);

impl ReapQueue {
    const EMPTY: Self = Self { first: None, last: None, freed: 0, is_served: false };

    /// Appends `proxy`.
    ///
    /// # Safety
    /// It has no references, and it is in no queue.
    unsafe fn push(&mut self, mut proxy: NonNull<Proxy>) {
        // SAFETY: without references it belongs to this queue.
        unsafe { proxy.as_mut() }.next = None;
        match self.last {
            // SAFETY: a proxy in this queue, which its lock guards.
            Some(mut last) => unsafe { last.as_mut() }.next = Some(proxy),
            None => self.first = Some(proxy),
        }
        self.last = Some(proxy);
    }

    fn pop(&mut self) -> Option<NonNull<Proxy>> {
        let mut first = self.first?;
        // SAFETY: as in `push`.
        self.first = unsafe { first.as_mut() }.next.take();
        if self.first.is_none() {
            self.last = None;
        }
        Some(first)
    }
}

impl ReapQueues {
    fn has_ready(&self) -> bool {
        self.ready != [0; SLOT_LIMIT / 64]
    }

    /// Sets the bit of `slot` by its queue.
    fn update(&mut self, slot: usize) {
        let (word, bit) = (&mut self.ready[slot / 64], 1 << (slot % 64));
        let queue = &self.by_slot[slot];
        if queue.first.is_some() && !queue.is_served { *word |= bit } else { *word &= !bit }
    }

    /// Appends `proxy` to the queue of `slot`. Returns true if a worker has to be woken for it.
    ///
    /// # Safety
    /// As [`ReapQueue::push`].
    unsafe fn push(&mut self, slot: usize, proxy: NonNull<Proxy>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.by_slot[slot].push(proxy) };
        self.len += 1;
        self.update(slot);
        !self.by_slot[slot].is_served
    }

    fn pop(&mut self, slot: usize) -> Option<NonNull<Proxy>> {
        let proxy = self.by_slot[slot].pop()?;
        self.len -= 1;
        self.update(slot);
        Some(proxy)
    }

    fn set_served(&mut self, slot: usize, is_served: bool) {
        self.by_slot[slot].is_served = is_served;
        self.update(slot);
    }

    /// Takes over the next queue that no worker serves. Returns its slot.
    fn take(&mut self) -> Option<usize> {
        let slot = self.first_ready(self.turn + 1).or_else(|| self.first_ready(0))?;
        self.set_served(slot, true);
        self.turn = slot;
        Some(slot)
    }

    /// Returns the first slot from `start` on whose bit is set.
    fn first_ready(&self, start: usize) -> Option<usize> {
        (start / 64..self.ready.len()).find_map(|index| {
            let later = if index == start / 64 { u64::MAX << (start % 64) } else { u64::MAX };
            let word = self.ready[index] & later;
            (word != 0).then(|| index * 64 + word.trailing_zeros() as usize)
        })
    }
}

/// The longest time that an export waits for the destructors of its own domain when the domain's quota of the
/// kernel's heap is used up. They are often faster than this; if not, the export is refused.
pub(super) const WAIT_NS: u64 = 100_000_000;

/// Waits until the reaper has freed a proxy of `slot` since `freed` were, or until the deadline. Returns
/// false if there is none to wait for.
///
/// In the outermost section, holding no lock and owning nothing: if the caller's domain is ended, this does
/// not return.
pub(super) fn await_freed(slot: usize, freed: u64, deadline_ns: u64) -> bool {
    let is_pending = || {
        let queue = &QUEUES.lock().by_slot[slot];
        queue.freed == freed && (queue.is_served || queue.first.is_some())
    };
    wait::block(wait::Key::Reaped(slot), is_pending, deadline_ns);
    freed_of(slot) != freed
}

/// The number of proxies of `slot` that were freed so far.
pub(super) fn freed_of(slot: usize) -> u64 {
    QUEUES.lock().by_slot[slot].freed
}

/// Frees the proxies of `slot` that wait for the reaper. All instances that exported their objects have
/// ended, so no destructor will run.
pub(crate) fn discard(slot: usize) {
    loop {
        let Some(proxy) = QUEUES.lock().pop(slot) else { return };
        // SAFETY: as in `serve`; and its domain, which may not be entered any more, took the target along.
        unsafe { proxy::free(proxy) };
    }
}

/// Queues a proxy of an object in `slot` whose last reference was released.
pub(super) fn reap(slot: usize, proxy: NonNull<Proxy>) {
    // SAFETY: the caller released the last reference.
    if !unsafe { QUEUES.lock().push(slot, proxy) } {
        return;
    }
    if thread::current().domain == DomainId::KERNEL {
        // Most likely a worker in a destructor, which serves this queue next if it does not block: sooner
        // than another CPU would wake up.
        wait::wake_soon(WORK_KEY);
    } else {
        wait::wake(WORK_KEY, 1);
    }
}

/// The number of proxies that wait for the reaper.
pub(crate) fn waiting() -> u32 {
    QUEUES.lock().len
}

/// The number of proxies whose destructors run.
pub(crate) fn in_destructors() -> u32 {
    IN_DESTRUCTORS.load(Ordering::SeqCst)
}

/// Starts the first workers.
pub(crate) fn start() -> Result<(), NoMemory> {
    (0..MIN_IDLE_WORKERS).try_for_each(|_| spawn_worker())
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
        wait::block(WORK_KEY, || !QUEUES.lock().has_ready(), u64::MAX);
        let Some(slot) = QUEUES.lock().take() else { continue };
        let was_last = IDLE_WORKERS.fetch_sub(1, Ordering::SeqCst) == 1;
        // Another worker for the queues of the other domains, before a destructor runs.
        if was_last && spawn_worker().is_err() {
            IDLE_WORKERS.fetch_add(1, Ordering::SeqCst);
            QUEUES.lock().set_served(slot, false);
            wait::sleep_until(machine().now_ns() + RETRY_NS);
            continue;
        }
        serve(slot);
        let enough = |idle| (idle < MIN_IDLE_WORKERS).then_some(idle + 1);
        if IDLE_WORKERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enough).is_err() {
            return;
        }
    }
}

/// Drops the objects in the queue of `slot`, which this worker has taken, until it is empty.
fn serve(slot: usize) {
    loop {
        let proxy = {
            let mut queues = QUEUES.lock();
            let proxy = queues.pop(slot);
            if proxy.is_none() {
                queues.set_served(slot, false);
            }
            proxy
        };
        let Some(proxy) = proxy else { return };
        // Counted in the section in which it leaves the queue, and uncounted in that in which it is freed.
        IN_DESTRUCTORS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: `reap`'s callers released the last reference.
        unsafe { proxy::finish(proxy) };
        IN_DESTRUCTORS.fetch_sub(1, Ordering::SeqCst);
        QUEUES.lock().by_slot[slot].freed += 1;
        wait::wake(wait::Key::Reaped(slot), u32::MAX);
    }
}
