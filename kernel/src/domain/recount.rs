//! The recount: with the world stopped, each domain is charged for exactly the shared objects that it owns.

use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::DomainId;
use coppice_rref::Payer;

use crate::domain::{self, shared_heap};
use crate::platform::machine::machine;
use crate::sched::world::{self, Stopped};
use crate::sched::{thread, wait};

/// How many times as long as a count took the next one has to wait: domains at their limits hold up all others for a ninth
/// of the time at most.
const PAUSE: u64 = 8;

/// How often it was counted.
static RECOUNTS: AtomicU64 = AtomicU64::new(0);
/// When it may be counted again.
static NEXT_NS: AtomicU64 = AtomicU64::new(0);

/// Charges every domain for exactly what it owns; a caller that is refused afterwards owns too much. Waits for its turn if it
/// was counted a moment ago, but not if somebody else counts meanwhile.
///
/// In the outermost section, holding no lock and owning nothing: if the caller's domain dies, this does not come back.
pub(super) fn run() {
    let before = RECOUNTS.load(Ordering::SeqCst);
    loop {
        let next = NEXT_NS.load(Ordering::Relaxed);
        if machine().now_ns() >= next {
            break;
        }
        wait::sleep_until(next);
        if RECOUNTS.load(Ordering::SeqCst) != before {
            return;
        }
    }
    let stopped = world::stop();
    if RECOUNTS.load(Ordering::SeqCst) == before {
        let began = machine().now_ns();
        settle(&stopped);
        let ended = machine().now_ns();
        NEXT_NS.store(ended + PAUSE * (ended - began), Ordering::Relaxed);
        RECOUNTS.store(before + 1, Ordering::SeqCst);
    }
    drop(stopped);
    // Somebody may have ended the caller's domain while it waited for the world.
    thread::leave_if_killed();
}

/// Empties all reserves and sets each account to what is left of the quota when the domain's own objects are paid for.
fn settle(stopped: &Stopped) {
    for reserves in shared_heap::reserves(stopped) {
        // SAFETY: no other CPU runs, and nothing here comes back to the reserves.
        unsafe { reserves.get() }.clear();
    }
    for domain in domain::all() {
        let mut account = domain.account.lock();
        account.reset(domain.allowance().shared_bytes);
    }
    let charge = |owner: DomainId, bytes: usize| {
        let Some(domain) = domain::get(owner.slot()).filter(|domain| domain.instance() == Some(owner)) else {
            return Payer::NONE;
        };
        domain.account.lock().charge_owned(bytes);
        Payer::of(owner)
    };
    // SAFETY: the world is stopped, and we come from outside the heap.
    unsafe { shared_heap::charge_owners(charge) };
}
