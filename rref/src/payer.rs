//! [`Payer`]: whose quota an object's bytes are taken from, and [`Quotas`], where the heap takes them.

use coppice_abi::{DomainId, SLOT_LIMIT};

/// A instance of a domain as a header has room for it: slot in the low 8 bits, generation in the others. Two lives of one slot
/// that are 2^24 generations apart look alike; an object would have to outlive as many restarts of who paid for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Payer(pub(crate) u32);

impl Payer {
    /// Nobody is charged. What zeroed memory means.
    pub const NONE: Self = Self(0);

    /// That instance of that domain, or the kernel.
    #[inline(always)]
    pub const fn of(owner: DomainId) -> Self {
        const { assert!(SLOT_LIMIT <= 1 << 8) };
        // The generation is the upper half of an id's bits, so one shift puts it into its place.
        Self((owner.to_bits() >> 24) as u32 | owner.slot() as u32)
    }

    /// The domain's place in the domain table.
    #[inline(always)]
    pub const fn slot(self) -> usize {
        (self.0 & 0xff) as usize
    }
}

/// The quotas, as one CPU reaches them. It is asked inside a section, and must not come back to the heap.
pub trait Quotas {
    /// Takes `bytes` from the quota of `payer`. False if that has not so much left, and nothing is taken.
    fn charge(&mut self, payer: Payer, bytes: usize) -> bool;
    /// Gives `bytes` back that `payer` was charged; one whose instance is over has no use for them.
    fn credit(&mut self, payer: Payer, bytes: usize);
}

/// Everybody may have as much as there is.
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
    fn a_payer_tells_slots_and_generations_apart() {
        let instances = [(1, 0), (2, 0), (255, 0), (2, 1), (2, 255), (2, 256), (3, 256), (2, 0xff_ffff)];
        let payers = instances.map(|(slot, generation)| Payer::of(DomainId::new(slot, generation)));
        for (index, payer) in payers.iter().enumerate() {
            assert_eq!(payer.slot(), instances[index].0 as usize);
            assert!(!payers[..index].contains(payer) && *payer != Payer::NONE, "{:?}", instances[index]);
        }
    }
}
