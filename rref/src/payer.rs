//! [`Payer`]: the instance whose quota is charged for an object, and [`Quotas`], the interface of the heap to
//! the quotas.

use coppice_abi::{DomainId, SLOT_LIMIT};

/// The instance of a domain that is charged, or the slot that is: for an object whose owner has died while a
/// call still reads it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Payer(pub(crate) u64);

/// The generation in a payer that is a slot: no instance has it.
const ANY_GENERATION: u32 = DomainId::LAST_GENERATION + 1;

impl Payer {
    /// No payer: the value in zeroed memory.
    pub const NONE: Self = Self(0);

    /// Returns the payer of an instance of a domain, or of the kernel.
    #[inline(always)]
    pub const fn of(owner: DomainId) -> Self {
        Self(owner.to_bits())
    }

    /// Returns the payer of what ended instances of the domain in `slot` have left behind.
    pub const fn of_slot(slot: usize) -> Self {
        assert!(slot < SLOT_LIMIT);
        Self(DomainId::new(slot as u32, ANY_GENERATION).to_bits())
    }

    /// Returns the id that [`Payer::of`] makes this payer of.
    pub(crate) const fn as_owner(self) -> DomainId {
        DomainId::from_bits(self.0)
    }

    /// Returns true if a slot is charged and not an instance.
    pub const fn is_slot(self) -> bool {
        DomainId::from_bits(self.0).generation() == ANY_GENERATION
    }

    /// Returns the domain's slot in the domain table.
    #[inline(always)]
    pub const fn slot(self) -> usize {
        DomainId::from_bits(self.0).slot()
    }
}

/// The quotas, as seen from one CPU. The heap calls them inside a section; they must not call the heap.
pub trait Quotas {
    /// Takes `bytes` from the quota of `payer`. Returns false, and takes nothing, if less is left.
    fn charge(&mut self, payer: Payer, bytes: usize) -> bool;
    /// Returns `bytes` that `payer` was charged; credits for a dead instance are discarded, those for a slot
    /// are not.
    fn credit(&mut self, payer: Payer, bytes: usize);
}

/// Unlimited quotas.
impl Quotas for () {
    fn charge(&mut self, _: Payer, _: usize) -> bool {
        true
    }
    fn credit(&mut self, _: Payer, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payers_of_different_slots_or_generations_differ() {
        let last = DomainId::LAST_GENERATION;
        let instances = [
            (1, 0),
            (2, 0),
            (255, 0),
            (2, 1),
            (2, 1 << 24),
            (2, 1 << 31),
            (3, 1 << 24),
            (2, last),
            (3, last),
        ];
        let payers = instances.map(|(slot, generation)| Payer::of(DomainId::new(slot, generation)));
        for (index, payer) in payers.iter().enumerate() {
            assert_eq!(payer.slot(), instances[index].0 as usize);
            assert!(!payers[..index].contains(payer) && *payer != Payer::NONE, "{:?}", instances[index]);
            assert!(!payer.is_slot() && *payer != Payer::of_slot(payer.slot()), "{:?}", instances[index]);
        }
        assert!(Payer::of_slot(2).is_slot() && Payer::of_slot(2).slot() == 2);
    }
}
