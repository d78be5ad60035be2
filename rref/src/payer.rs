//! [`Payer`]: the instance whose quota is charged for an object, and [`Quotas`], the interface of the heap to
//! the quotas.

use coppice_abi::{DomainId, SLOT_LIMIT};

/// An instance of a domain in the 32 bits that a header has room for: slot in the low 8 bits, generation in
/// the others. Two instances of one slot that are 2^24 generations apart look alike; an object would have to
/// outlive that many restarts of its payer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Payer(pub(crate) u32);

impl Payer {
    /// No payer: the value in zeroed memory.
    pub const NONE: Self = Self(0);

    /// Returns the payer of an instance of a domain, or of the kernel.
    #[inline(always)]
    pub const fn of(owner: DomainId) -> Self {
        const { assert!(SLOT_LIMIT <= 1 << 8) };
        // The generation is the upper half of an id's bits, so one shift puts it into its place.
        Self((owner.to_bits() >> 24) as u32 | owner.slot() as u32)
    }

    /// Returns the domain's slot in the domain table.
    #[inline(always)]
    pub const fn slot(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

/// The quotas, as seen from one CPU. The heap calls them inside a section; they must not call the heap.
pub trait Quotas {
    /// Takes `bytes` from the quota of `payer`. Returns false, and takes nothing, if less is left.
    fn charge(&mut self, payer: Payer, bytes: usize) -> bool;
    /// Returns `bytes` that `payer` was charged; credits for a dead instance are discarded.
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
        let instances = [(1, 0), (2, 0), (255, 0), (2, 1), (2, 255), (2, 256), (3, 256), (2, 0xff_ffff)];
        let payers = instances.map(|(slot, generation)| Payer::of(DomainId::new(slot, generation)));
        for (index, payer) in payers.iter().enumerate() {
            assert_eq!(payer.slot(), instances[index].0 as usize);
            assert!(!payers[..index].contains(payer) && *payer != Payer::NONE, "{:?}", instances[index]);
        }
    }
}
