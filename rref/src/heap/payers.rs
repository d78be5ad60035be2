//! The exact count, which charges each object to its owner.

use coppice_abi::DomainId;

use super::sweep::for_each_child;
use super::{SharedHeap, Span, SpanSource, World, for_each_object, for_each_slot};
use crate::{Header, Payer};

impl<S: SpanSource> SharedHeap<S> {
    /// Sets who pays: for each object in use the payer that `charge` returns for the root's owner and the
    /// bytes, for free slots none. For an object in limbo the owner is the id behind [`Payer::of_slot`].
    /// Between two counts the maker of an object pays for it wherever it goes, since the owner changes with
    /// one store and no count could keep up.
    ///
    /// # Safety
    /// The world is stopped, and the caller is not inside an operation of the heap. The caller sets the
    /// remaining quotas: `charge` is called for everything that is in use.
    pub unsafe fn charge_owners(&self, world: &impl World, mut charge: impl FnMut(DomainId, usize) -> Payer) {
        let spans = self.spans.lock();
        // Only free slots keep this: every object is a root, or nested in one (R2). For an object in limbo
        // the payer stands for the owner.
        for_each_slot(&spans, |header, _| {
            if header.owner() != DomainId::LIMBO {
                header.set_payer(Payer::NONE);
            }
        });
        for_each_object(&spans, |header, bytes| {
            let owner = match header.owner() {
                DomainId::NESTED => return,
                DomainId::LIMBO => header.payer().as_owner(),
                owner => owner,
            };
            header.set_payer(charge(owner, bytes));
            charge_nested(header, owner, world, &mut charge);
        });
    }
}

/// Charges `owner` for the nested objects of `header`'s object. An object that is linked and not marked yet,
/// or no longer marked, is still a root (R2).
fn charge_nested(
    header: &Header,
    owner: DomainId,
    world: &impl World,
    charge: &mut impl FnMut(DomainId, usize) -> Payer,
) {
    for_each_child(header, world, &mut |child| {
        if child.owner() == DomainId::NESTED {
            // SAFETY: a live object, which its root holds.
            let span = unsafe { Span::of(child.value()) };
            child.set_payer(charge(owner, span.slot_bytes()));
            charge_nested(child, owner, world, charge);
        }
    });
}
