//! The recount: with the world stopped, each domain is charged for exactly the shared objects that it owns.

use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::DomainId;
use coppice_rref::Payer;

use crate::domain::{self, shared_heap};
use crate::platform::machine::machine;
use crate::sched::world::{self, Stopped};
use crate::sched::{thread, wait};

/// The pause between two counts as a multiple of the duration of the last one: domains at their limits stop
/// all others for at most a ninth of the time.
const PAUSE_FACTOR: u64 = 8;

/// The number of recounts so far.
static RECOUNTS: AtomicU64 = AtomicU64::new(0);
/// The earliest time of the next recount.
static NEXT_NS: AtomicU64 = AtomicU64::new(0);

/// Charges every domain for exactly the objects that it owns; a caller that is refused afterwards owns too
/// much. Waits for the pause after the last recount to end, but returns early if another thread has counted
/// by then.
///
/// In the outermost section, holding no lock and owning nothing: if the caller's domain is ended, this does
/// not return.
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
        charge_exactly(&stopped);
        let ended = machine().now_ns();
        NEXT_NS.store(ended + PAUSE_FACTOR * (ended - began), Ordering::Relaxed);
        RECOUNTS.store(before + 1, Ordering::SeqCst);
    }
    drop(stopped);
    // The caller's domain may have been ended while this thread waited to stop the world.
    thread::leave_if_killed();
}

/// Empties all reserves and sets each account to its quota, less the objects that the domain owns.
fn charge_exactly(stopped: &Stopped) {
    for reserves in shared_heap::reserves(stopped) {
        // SAFETY: no other CPU runs, and nothing here enters the reserves again.
        unsafe { reserves.get() }.clear();
    }
    for domain in domain::all() {
        let mut account = domain.account.lock();
        account.reset(domain.allowance().shared_bytes);
    }
    let charge = |owner: DomainId, bytes: usize| {
        if Payer::of(owner).is_slot() {
            if let Some(domain) = domain::get(owner.slot()) {
                domain.account.lock().keep(bytes);
            }
            return Payer::of(owner);
        }
        let Some(domain) = domain::get(owner.slot()).filter(|domain| domain.instance() == Some(owner)) else {
            return Payer::NONE;
        };
        domain.account.lock().charge_owned(bytes);
        Payer::of(owner)
    };
    // SAFETY: the world is stopped, and no heap operation is under way on this CPU.
    unsafe { shared_heap::charge_owners(charge) };
}
