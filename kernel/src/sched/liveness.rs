//! The live instance of each slot: the word that crossings and the shared heap compare an id with.
//!
//! [`crate::domain`]'s table sets a word when an instance begins, and clears it, with the world stopped, when
//! the instance ends. The words are apart from the table, because a blocked thread must see that its caller
//! died without knowing domains.

use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::{DomainId, SLOT_LIMIT};

/// Slot of the first domain: slot 0 is no domain's and slot 1 the kernel's.
pub(crate) const FIRST_SLOT: usize = DomainId::KERNEL.slot() + 1;

/// Bits of the live instance's id, by slot; of [`DomainId::NONE`] if there is none. No id of slot 0 is alive.
static ALIVE: [AtomicU64; SLOT_LIMIT] = {
    let mut alive = [const { AtomicU64::new(DomainId::NONE.to_bits()) }; SLOT_LIMIT];
    alive[DomainId::NONE.slot()] = AtomicU64::new(DomainId::KERNEL.to_bits());
    alive[DomainId::KERNEL.slot()] = AtomicU64::new(DomainId::KERNEL.to_bits());
    alive
};

/// The word that names the live instance of a slot. Proxies compare with it.
///
/// # Panics
/// If there is no such slot.
pub(crate) fn word(slot: usize) -> &'static AtomicU64 {
    &ALIVE[slot]
}

/// Returns true if that instance, or the kernel, is alive.
pub(crate) fn is_alive(id: DomainId) -> bool {
    ALIVE.get(id.slot()).is_some_and(|alive| alive.load(Ordering::SeqCst) == id.to_bits())
}
