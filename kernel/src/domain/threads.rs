//! Threads of domains, counted against the quota of the instance that spawns them.

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use coppice_abi::DomainId;

use crate::domain::{self, Domain, enter};
use crate::sched::thread::{NoStack, Thread, Work};

/// The reason why a domain gets no new thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SpawnError {
    /// No memory for its stack.
    NoMemory,
    /// The domain has as many threads as its manifest allows.
    Quota,
}

impl Domain {
    /// The number of threads of the present instance.
    pub(crate) fn threads(&self) -> u32 {
        self.thread_count.load(Ordering::SeqCst) as u32
    }

    /// Spawns a thread of `id`, an instance of this domain, that runs `body` inside it. `body` owns nothing
    /// to drop: if the domain dies, `body` is never dropped.
    ///
    /// # Errors
    /// When the quota is used up, or there is no memory for the stack.
    pub(crate) fn spawn(
        &self,
        id: DomainId,
        priority: u8,
        affinity: u64,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<u64, SpawnError> {
        if !count_new(id) {
            return Err(SpawnError::Quota);
        }
        // The thread stays in one section from the end of its body to its own end, so no audit sees it after
        // it is uncounted.
        let work = move || {
            enter::run_thread(id, body);
            uncount(id);
        };
        let stack = self.manifest.stack_bytes as usize;
        Thread::spawn(id, priority, affinity, stack, Work::Domain(Box::new(work))).map_err(|NoStack| {
            uncount(id);
            SpawnError::NoMemory
        })
    }
}

/// Counts a new thread of `id`. Returns false if the quota is used up.
fn count_new(id: DomainId) -> bool {
    let Some(domain) = domain::get(id.slot()) else { return true };
    let quota = domain.thread_allowance();
    let increment = |count: u64| (is_of(count, id) && (count as u32) < quota).then_some(count + 1);
    match domain.thread_count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, increment) {
        // A child may have reserved its quota since without having seen this thread.
        Ok(before) if before as u32 >= domain.thread_allowance() => {
            uncount(id);
            false
        }
        outcome => outcome.is_ok(),
    }
}

/// Uncounts a thread of `id` that has ended.
fn uncount(id: DomainId) {
    if let Some(domain) = domain::get(id.slot()) {
        let decrement = |count: u64| is_of(count, id).then(|| count - 1);
        let _ = domain.thread_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, decrement);
    }
}

/// Returns true if `count` belongs to the instance `id`.
fn is_of(count: u64, id: DomainId) -> bool {
    (count >> 32) as u32 == id.generation()
}
