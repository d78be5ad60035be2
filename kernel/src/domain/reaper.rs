//! The reaper: drops exported objects that have no reference left, inside their domains.
//!
//! The last reference may be given up anywhere, also where a destructor must not run or wait; so a thread of the kernel's
//! does it later.

use alloc::vec::Vec;
use core::ptr::NonNull;

use crate::domain::proxy::{self, Proxy};
use crate::platform::sync::Lock;
use crate::sched::wait::{self, KernelWorker};

const WORK_KEY: wait::Key = wait::Key::Work(KernelWorker::Reaper);

static REAP_QUEUE: Lock<Vec<Unreferenced>> = Lock::new(Vec::new());

struct Unreferenced(NonNull<Proxy>);

// SAFETY: a proxy without references is the owner's of this.
unsafe impl Send for Unreferenced {}

/// Takes over a proxy whose last reference was given up.
pub(super) fn reap(proxy: NonNull<Proxy>) {
    REAP_QUEUE.lock().push(Unreferenced(proxy));
    wait::wake(WORK_KEY, 1);
}

/// The number of proxies that wait for the reaper.
pub(crate) fn waiting() -> u32 {
    REAP_QUEUE.lock().len() as u32
}

/// The reaper's thread.
pub(crate) fn worker() {
    loop {
        wait::block(WORK_KEY, || REAP_QUEUE.lock().is_empty(), u64::MAX);
        let due = core::mem::take(&mut *REAP_QUEUE.lock());
        for Unreferenced(proxy) in due {
            // SAFETY: `reap`'s callers gave up the last reference.
            unsafe { proxy::finish(proxy) };
        }
    }
}
