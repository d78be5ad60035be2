//! The reaper: drops exported objects without references, inside their domains.
//!
//! The last reference may be released in a place where a destructor must not run or block, so a kernel thread
//! drops the object later.

use alloc::vec::Vec;
use core::ptr::NonNull;

use crate::domain::proxy::{self, Proxy};
use crate::platform::sync::Lock;
use crate::sched::wait::{self, KernelWorker};

const WORK_KEY: wait::Key = wait::Key::Work(KernelWorker::Reaper);

static REAP_QUEUE: Lock<Vec<Unreferenced>> = Lock::new(Vec::new());

struct Unreferenced(NonNull<Proxy>);

// SAFETY: a proxy without references belongs to the holder of this pointer.
unsafe impl Send for Unreferenced {}

/// Queues a proxy whose last reference was released.
pub(super) fn reap(proxy: NonNull<Proxy>) {
    REAP_QUEUE.lock().push(Unreferenced(proxy));
    wait::wake(WORK_KEY, 1);
}

/// The number of proxies that wait for the reaper.
pub(crate) fn waiting() -> u32 {
    REAP_QUEUE.lock().len() as u32
}

/// The body of the reaper's thread.
pub(crate) fn worker() {
    loop {
        wait::block(WORK_KEY, || REAP_QUEUE.lock().is_empty(), u64::MAX);
        let queued = core::mem::take(&mut *REAP_QUEUE.lock());
        for Unreferenced(proxy) in queued {
            // SAFETY: `reap`'s callers released the last reference.
            unsafe { proxy::finish(proxy) };
        }
    }
}
