//! The recount: charges a domain whose quota seems exhausted for exactly the shared objects that it owns.
//!
//! It stops the world for a bounded number of objects at a time, and visits the spans of that domain's
//! remembered set. Each object that is not charged to its owner changes its payer, so the accounts add up
//! after each step.

use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::{DomainId, Refusal};
use coppice_rref::Payer;

use crate::domain::shared_heap::ChargeCount;
use crate::domain::{self, quota};
use crate::platform::machine::machine;
use crate::sched::{thread, wait, world};

/// The pause between two counts as a multiple of the duration of the last one: domains at their limits slow
/// down all others for at most a ninth of the time.
const PAUSE_FACTOR: u64 = 8;

/// The earliest time of the next recount.
static NEXT_NS: AtomicU64 = AtomicU64::new(0);

/// Retries a refused request of `domain` after a count of the objects that it owns or pays for. If the
/// request is refused again, and the domain pays for objects inside those of other domains, all objects are
/// counted. Waits for the pause after the last recount to end.
///
/// In the outermost section, holding no lock and owning nothing: if the caller's domain is ended, this does
/// not return.
pub(super) fn run<T>(domain: DomainId, mut retry: impl FnMut() -> Result<T, Refusal>) -> Result<T, Refusal> {
    let is_incomplete = count(domain, Some(domain));
    let outcome = retry();
    if !is_incomplete || !matches!(outcome, Err(Refusal::Quota)) {
        return outcome;
    }
    count(domain, None);
    retry()
}

/// Gives `domain` the reserves of all CPUs back, and counts the objects that `only` owns or pays for, or all.
/// Returns true if the domain pays for objects whose owners this did not find.
fn count(domain: DomainId, only: Option<DomainId>) -> bool {
    loop {
        let next = NEXT_NS.load(Ordering::Relaxed);
        if machine().now_ns() >= next {
            break;
        }
        wait::sleep_until(next);
    }
    let began = machine().now_ns();
    let mut count = ChargeCount::begin(only);
    let mut is_first = true;
    loop {
        let stopped = world::stop();
        if core::mem::take(&mut is_first) {
            quota::collect_reserves(domain, &stopped);
        }
        let goes_on = count.step(&stopped, &mut transfer);
        drop(stopped);
        if !goes_on {
            break;
        }
    }
    let is_incomplete = count.is_incomplete();
    let ended = machine().now_ns();
    NEXT_NS.store(ended + PAUSE_FACTOR * (ended - began), Ordering::Relaxed);
    drop(count);
    // The caller's domain may have been ended while this thread waited to stop the world.
    thread::leave_if_killed();
    is_incomplete
}

/// Moves the charge for `bytes` from a payer to an owner. Returns the new payer: none if the owner is neither
/// a running instance nor a slot that pays for objects of ended ones.
fn transfer(payer: Payer, owner: DomainId, bytes: usize) -> Payer {
    let is_instance = || domain::get(owner.slot()).is_some_and(|domain| domain.instance() == Some(owner));
    let pays = Payer::of(owner).is_slot() || is_instance();
    let to = if pays { Payer::of(owner) } else { Payer::NONE };
    quota::change_payer(payer, to, bytes);
    to
}
