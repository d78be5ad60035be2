//! The queue of suspects, from the watch ticks to the watchdog's thread.
//!
//! A tick runs in a checkpoint and allocates nothing, so the queue has a fixed size.

use crate::platform::sync::Lock;
use crate::policy::cpu_share::CpuExcess;
use crate::sched::thread::State;
use crate::sched::wait::{self, KernelWorker};

/// The key that the watchdog's thread waits on.
pub(super) const WORK_KEY: wait::Key = wait::Key::Work(KernelWorker::Watchdog);

/// The capacity of the queue. A suspect that finds no room is found again by the next tick.
const CAPACITY: usize = 32;

/// A call or a domain that a tick found over its limit.
#[derive(Clone, Copy)]
pub(super) enum Suspect {
    /// A call on this thread, which was in this state.
    Call { thread: u64, state: State },
    /// A domain that uses more than its share of the CPU.
    Share(CpuExcess),
}

impl Suspect {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Call { thread, .. }, Self::Call { thread: other, .. }) => thread == other,
            (Self::Share(excess), Self::Share(other)) => excess.instance == other.instance,
            _ => false,
        }
    }
}

struct SuspectQueue([Option<Suspect>; CAPACITY]);

static SUSPECTS: Lock<SuspectQueue> = Lock::new(SuspectQueue([None; CAPACITY]));

/// Adds a suspect, unless it is queued already.
pub(super) fn note(suspect: Suspect) {
    let mut queue = SUSPECTS.lock();
    let known = queue.0.iter().flatten().any(|known| known.is_same(&suspect));
    if !known && let Some(free) = queue.0.iter_mut().find(|slot| slot.is_none()) {
        *free = Some(suspect);
    }
}

/// Takes a suspect, if there is one.
pub(super) fn take() -> Option<Suspect> {
    SUSPECTS.lock().0.iter_mut().find_map(Option::take)
}

/// Returns true if there is no suspect.
pub(super) fn is_empty() -> bool {
    SUSPECTS.lock().0.iter().all(Option::is_none)
}
