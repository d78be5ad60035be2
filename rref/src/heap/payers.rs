//! The exact count: whoever owns an object pays for it.

use coppice_abi::DomainId;

use super::sweep::for_each_child;
use super::{SharedHeap, Span, SpanSource, World, for_each_object, for_each_slot};
use crate::{Header, Payer};

impl<S: SpanSource> SharedHeap<S> {
    /// Changes who pays: for each object in use whoever `charge` says when it is told the root's owner and the bytes, for
    /// free slots nobody. Between two counts whoever made an object pays for it wherever it goes, since the owner changes
    /// with one store and nobody could keep up.
    ///
    /// # Safety
    /// The world is stopped, and the caller is at no place inside an operation of the heap. What the quotas have left is
    /// the caller's to set: `charge` is told everything that is in use.
    pub unsafe fn charge_owners(&self, world: &impl World, mut charge: impl FnMut(DomainId, usize) -> Payer) {
        let spans = self.spans.lock();
        // Only free slots keep this: every object is a root, or nested in one (R2).
        for_each_slot(&spans, |header, _| header.set_payer(Payer::NONE));
        for_each_object(&spans, |header, bytes| {
            if header.owner() != DomainId::NESTED {
                header.set_payer(charge(header.owner(), bytes));
                charge_nested(header, header.owner(), world, &mut charge);
            }
        });
    }
}

/// Charges `owner` for what the object of `header` holds. What is linked and not marked yet, or no longer, is a root
/// still (R2).
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
