//! Threads of domains: counted against the quota of the instance that spawns them.

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
    /// Threads of its present instance.
    pub(crate) fn threads(&self) -> u32 {
        self.thread_count.load(Ordering::SeqCst) as u32
    }

    /// Makes a thread of `id`, an instance of this domain, that runs `body` inside it. `body` owns nothing to drop: if the
    /// domain dies, it is left where it is.
    ///
    /// # Errors
    /// When the quota is used up, or there is no memory.
    pub(crate) fn spawn(
        &self,
        id: DomainId,
        priority: u8,
        affinity: u64,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<u64, SpawnError> {
        if !admit(id) {
            return Err(SpawnError::Quota);
        }
        // The thread is in one section from the end of its body to its own end: no audit sees it after it was dismissed.
        let work = move || {
            enter::run_thread(id, body);
            dismiss(id);
        };
        let stack = self.manifest.stack_bytes as usize;
        Thread::spawn(id, priority, affinity, stack, Work::Domain(Box::new(work))).map_err(|NoStack| {
            dismiss(id);
            SpawnError::NoMemory
        })
    }
}

/// Counts a new thread of `id`, unless that is one too many.
fn admit(id: DomainId) -> bool {
    let Some(domain) = domain::get(id.slot()) else { return true };
    let quota = domain.thread_allowance();
    let admit = |count: u64| (is_of(count, id) && (count as u32) < quota).then_some(count + 1);
    match domain.thread_count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, admit) {
        // A child may have taken its share meanwhile without having seen this thread.
        Ok(before) if before as u32 >= domain.thread_allowance() => {
            dismiss(id);
            false
        }
        outcome => outcome.is_ok(),
    }
}

/// Counts a thread of `id` that has ended.
fn dismiss(id: DomainId) {
    if let Some(domain) = domain::get(id.slot()) {
        let dismiss = |count: u64| is_of(count, id).then(|| count - 1);
        let _ = domain.thread_count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, dismiss);
    }
}

/// Whether a count is that of the instance `id`.
fn is_of(count: u64, id: DomainId) -> bool {
    (count >> 32) as u32 == id.generation()
}
