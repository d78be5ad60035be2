//! The exact count, which charges each object to its owner.

use coppice_abi::DomainId;

use super::lists::Spans;
use super::span::{List, Span};
use super::sweep::for_each_child;
use super::walk::Walk;
use super::{SharedHeap, SpanSource, World};
use crate::header::bucket;
use crate::{Header, Payer};

/// A count in pieces. Each piece moves the charges of some objects, so that the world need not stay stopped
/// from the first to the last. An object that changes hands between two pieces may be missed; it stays
/// charged to its payer.
///
/// Between two counts the maker of an object pays for it wherever it goes, since the owner changes with one
/// store and no count could keep up.
pub struct ChargeWalk<'a, S: SpanSource> {
    walk: Walk<'a, S>,
    /// Only objects that this instance owns or pays for are counted.
    only: Option<DomainId>,
    nested: usize,
    own_nested: usize,
}

impl<S: SpanSource> SharedHeap<S> {
    /// Begins a count of the objects that `only` owns or pays for, or of all.
    pub fn charges(&self, only: Option<DomainId>) -> ChargeWalk<'_, S> {
        let list = only.map_or(List::All, |only| List::Bucket(bucket(only)));
        ChargeWalk { walk: Walk::new(self, list, false), only, nested: 0, own_nested: 0 }
    }
}

impl<S: SpanSource> ChargeWalk<'_, S> {
    /// Counts the next objects: each root, with the objects inside it, is charged to its owner, and free
    /// slots to no domain. `transfer` moves the charge for that many bytes from a payer to an owner
    /// ([`DomainId::NONE`]: to none), and returns the new payer. For an object in limbo the owner is the id
    /// behind [`Payer::of_slot`]. Returns false at the end.
    ///
    /// # Safety
    /// The world is stopped, and the caller is not inside an operation of the heap.
    pub unsafe fn step(
        &mut self,
        world: &impl World,
        transfer: &mut impl FnMut(Payer, DomainId, usize) -> Payer,
    ) -> bool {
        let Some(mut piece) = self.walk.next() else { return false };
        let only = self.only.map(|only| (only, Payer::of(only)));
        let is_payer = |payer| only.is_none_or(|(_, only)| payer == only);
        piece.for_each(|spans, header, bytes| match (header.owner(), header.payer()) {
            (DomainId::NONE, Payer::NONE) => (),
            (DomainId::NONE, payer) if is_payer(payer) => {
                header.set_payer(transfer(payer, DomainId::NONE, bytes));
            }
            (DomainId::NONE, _) => (),
            (DomainId::NESTED, payer) => self.nested += if is_payer(payer) { bytes } else { 0 },
            (owner, payer) => {
                // For an object in limbo the payer stands for the owner.
                let owner = if owner == DomainId::LIMBO { payer.as_owner() } else { owner };
                let is_owner = only.is_none_or(|(only, _)| owner == only);
                if is_owner || is_payer(payer) {
                    charge(spans, header, bytes, owner, transfer);
                    let nested = charge_nested(spans, header, owner, world, transfer);
                    self.own_nested += if is_owner { nested } else { 0 };
                }
            }
        });
        true
    }

    /// Returns true if the instance pays for objects that others may own, inside objects that it has never
    /// had: only a count of all objects finds their owners.
    pub fn is_incomplete(&self) -> bool {
        self.only.is_some() && self.nested > self.own_nested
    }
}

/// Charges `owner` for one object.
fn charge(
    spans: &mut Spans,
    header: &Header,
    bytes: usize,
    owner: DomainId,
    transfer: &mut impl FnMut(Payer, DomainId, usize) -> Payer,
) {
    let payer = header.payer();
    if payer != Payer::of(owner) {
        let payer = transfer(payer, owner, bytes);
        // The owner of a root is not remembered for the objects inside it.
        if payer == Payer::of(owner) && !payer.is_slot() && !header.is_remembered(owner) {
            spans.remember(header, owner);
        }
        header.set_payer(payer);
    }
}

/// Charges `owner` for the nested objects of `header`'s object. Returns the bytes that it paid for before. An
/// object that is linked and not marked yet, or no longer marked, is still a root (R2).
fn charge_nested(
    spans: &mut Spans,
    header: &Header,
    owner: DomainId,
    world: &impl World,
    transfer: &mut impl FnMut(Payer, DomainId, usize) -> Payer,
) -> usize {
    let mut nested = 0;
    for_each_child(header, world, &mut |child| {
        if child.owner() == DomainId::NESTED {
            // SAFETY: a live object, which its root holds.
            let bytes = unsafe { Span::of(child.value()) }.slot_bytes();
            nested += if child.payer() == Payer::of(owner) { bytes } else { 0 };
            charge(spans, child, bytes, owner, transfer);
            nested += charge_nested(spans, child, owner, world, transfer);
        }
    });
    nested
}
