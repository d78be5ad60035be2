//! The resources in use by all domains at one instant: [`count`], for tests that compare before and after.
//!
//! Counted with the world stopped, so that no object is on its way from one domain to another. The count
//! includes work that will still change it: an ended instance is in no table any more, but its threads may be
//! blocked in other domains and hold objects there.

use coppice_abi::{DomainId, SLOT_LIMIT};
use coppice_control::{DomainState, InUse, RestartPlan};

use crate::domain::{self, reaper, shared_heap};
use crate::fault::terminate;
use crate::memory::frames::{self, FrameOwner};
use crate::memory::heap::{self, Purpose};
use crate::memory::stack;
use crate::platform::machine::PAGE_SIZE;
use crate::policy::{deferred_work, restart};
use crate::sched::liveness;
use crate::sched::thread::{self, State};
use crate::sched::world;

/// Counts. In the outermost section, holding no lock.
pub(crate) fn count() -> InUse {
    let own = thread::current().id;
    let stopped = world::stop();
    shared_heap::flush_all(&stopped);
    stack::flush();
    let kernel = kernel_heap();
    let mut count = InUse {
        free_bytes: (free_frames() * PAGE_SIZE) as u64,
        kernel_bytes: kernel.bytes as u64,
        kernel_objects: kernel.objects as u64,
        shared_objects: 0,
        shared_bytes: 0,
        threads: 0,
        leaving: 0,
        kernel_work: deferred_work::due() + reaper::waiting(),
        busy: 0,
    };
    for domain in domain::all() {
        count.threads += domain.threads();
        let is_planned = matches!(
            restart::restart_plan(domain),
            RestartPlan::Restart { .. } | RestartPlan::AwaitingParent
        );
        count.kernel_work += u32::from(is_planned || domain.state() == DomainState::Starting);
    }
    shared_heap::census(&stopped, |owner, bytes| {
        let is_last = || domain::get(owner.slot()).is_some_and(|domain| domain.last_instance() == owner);
        if owner == DomainId::KERNEL || is_last() {
            count.shared_objects += 1;
            count.shared_bytes += bytes as u64;
        }
    });
    thread::for_each(|thread| {
        // SAFETY: T2: the world is stopped.
        let is_blocked = unsafe { thread.fields() }.state == State::Blocked;
        count.leaving += terminate::calls_for_the_dead(&stopped, thread).count() as u32;
        if thread.domain == DomainId::KERNEL {
            // The kernel's threads wait outside all domains.
            count.kernel_work += u32::from(!is_blocked || !thread.control().top().is_null());
        } else if !liveness::is_alive(thread.domain) {
            count.leaving += 1;
        } else {
            count.busy += u32::from(!is_blocked && thread.id != own);
        }
    });
    count
}

/// Frames that no domain has. The stacks of threads are theirs, all others the kernel's.
fn free_frames() -> usize {
    let [shared, kernel] = frames::owned_by([FrameOwner::SHARED, FrameOwner::KERNEL]);
    let (idle, _) = stack::frames_without_thread();
    frames::count().available + shared + kernel + idle
}

/// The kernel's own heap, without the lists whose size depends on their history; the audit checks those.
fn kernel_heap() -> heap::Count {
    let purposes = Purpose::ALL.into_iter().filter(|purpose| !purpose.is_audited_list());
    let mut sum = heap::Count::default();
    for purpose in purposes {
        (0..SLOT_LIMIT).for_each(|slot| sum += heap::count(slot, purpose));
    }
    sum
}
