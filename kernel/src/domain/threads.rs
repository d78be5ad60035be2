//! Threads of domains, counted against the quota of their domain's slot.
//!
//! A thread of an ended instance may be inside another domain, where nothing ends it: there it runs or waits
//! on its stack for as long as that domain takes. It stays counted, so the next instance may have so many
//! threads fewer. Threads that are on their way out, because no live domain is below them on their stack,
//! need nothing but some CPU time. They do not reduce the next instance's quota, but no thread is added while
//! there are more of them than the quota: a new thread waits for them.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use coppice_abi::DomainId;

use crate::domain::{self, Domain, enter};
use crate::memory::heap::{Charge, Purpose, try_box};
use crate::sched::thread::{self, NoMemory, Survival, Thread, Work};
use crate::sched::wait;
use crate::sched::world::Stopped;

/// The reason why a domain gets no new thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpawnError {
    /// No memory for its stack, or the quota of the kernel's heap is used up.
    NoMemory,
    /// The domain has as many threads as its manifest allows.
    Quota,
}

/// The counts of a slot's threads.
#[derive(Default)]
pub(super) struct ThreadCounts {
    /// The generation of the present or last instance (upper half) and the number of its threads (lower
    /// half).
    present: AtomicU64,
    /// Threads of ended instances that are inside other domains.
    abroad: AtomicU32,
    /// Threads of ended instances that are about to end.
    leaving: AtomicU32,
}

impl ThreadCounts {
    /// Begins an instance without threads.
    pub(super) fn begin(&self, generation: u32) {
        self.present.store(u64::from(generation) << 32, Ordering::SeqCst);
    }

    fn of(&self, survival: Survival) -> Option<&AtomicU32> {
        match survival {
            Survival::Current => None,
            Survival::Abroad => Some(&self.abroad),
            Survival::Leaving => Some(&self.leaving),
        }
    }
}

impl Domain {
    /// The number of threads of the present instance.
    pub(crate) fn threads(&self) -> u32 {
        self.thread_counts.present.load(Ordering::SeqCst) as u32
    }

    /// The number of threads of ended instances that are inside other domains. They are a part of the quota.
    pub(crate) fn threads_abroad(&self) -> u32 {
        self.thread_counts.abroad.load(Ordering::SeqCst)
    }

    /// The number of threads of ended instances that are about to end.
    pub(crate) fn threads_leaving(&self) -> u32 {
        self.thread_counts.leaving.load(Ordering::SeqCst)
    }

    /// Spawns a thread of `id`, an instance of this domain, that runs `body` inside it. `body` owns nothing
    /// to drop: if the domain dies, `body` is never dropped. In the outermost section, owning nothing.
    ///
    /// # Errors
    /// When the quota is used up, or there is no memory for the thread.
    pub(crate) fn spawn(
        &self,
        id: DomainId,
        priority: u8,
        affinity: u64,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<u64, SpawnError> {
        self.await_departures();
        if !self.count_new(id) {
            return Err(SpawnError::Quota);
        }
        // The thread stays in one section from the end of its body to its own end, so no audit sees it after
        // it is uncounted.
        let work = move || {
            enter::run_thread(id, body);
            if let Some(domain) = domain::get(id.slot()) {
                domain.uncount_running(id);
            }
        };
        let stack = self.manifest.stack_bytes as usize;
        let spawned = match try_box(Charge::to(id, Purpose::ThreadBody), work) {
            Some(work) => Thread::spawn(id, priority, affinity, stack, Work::Domain(work)),
            None => Err(NoMemory),
        };
        spawned.map_err(|NoMemory| {
            self.uncount(id);
            SpawnError::NoMemory
        })
    }

    /// Waits while more threads of ended instances than the quota are on their way out.
    fn await_departures(&self) {
        let are_many = || self.threads_leaving() > self.manifest.threads;
        while are_many() {
            wait::block(wait::Key::Departure(self.slot), are_many, u64::MAX);
        }
    }

    /// Counts a new thread of `id`. Returns false if the quota is used up.
    fn count_new(&self, id: DomainId) -> bool {
        // Threads abroad belong to earlier instances, so there are no new ones while `id` lives.
        let has_room = |count: u32| count + self.threads_abroad() < self.thread_allowance();
        let increment = |count: u64| (is_of(count, id) && has_room(count as u32)).then_some(count + 1);
        match self.thread_counts.present.fetch_update(Ordering::SeqCst, Ordering::SeqCst, increment) {
            // A child may have reserved its quota since without having seen this thread.
            Ok(before) if !has_room(before as u32) => {
                self.uncount(id);
                false
            }
            outcome => outcome.is_ok(),
        }
    }

    /// Uncounts a thread of `id` in the count of its instance.
    fn uncount(&self, id: DomainId) {
        let decrement = |count: u64| is_of(count, id).then(|| count - 1);
        let _ = self.thread_counts.present.fetch_update(Ordering::Relaxed, Ordering::Relaxed, decrement);
    }

    /// Uncounts the running thread, of `id`, which is about to end.
    fn uncount_running(&self, id: DomainId) {
        self.uncount(id);
        // SAFETY: T3: this thread's own.
        let survival = unsafe { thread::current().fields() }.survival;
        if let Some(count) = self.thread_counts.of(survival) {
            count.fetch_sub(1, Ordering::SeqCst);
            wait::wake(wait::Key::Departure(self.slot), u32::MAX);
        }
    }

    /// Counts a thread of an instance that ends now by where the thread is. The world is stopped.
    pub(crate) fn count_survivor(&self, _: &Stopped, thread: &Thread, survival: Survival) {
        // SAFETY: T3: the world is stopped.
        unsafe { thread.fields() }.survival = survival;
        if let Some(count) = self.thread_counts.of(survival) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Returns true if `count` belongs to the instance `id`.
fn is_of(count: u64, id: DomainId) -> bool {
    (count >> 32) as u32 == id.generation()
}
