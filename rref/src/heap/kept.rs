//! The payer of an object whose owner has died while a call still reads it.
//!
//! The object is of no use to the owner's next instance, but the owner's slot pays for it until the call
//! ends, so that a domain cannot leave more behind than it may own.

use coppice_abi::DomainId;

use super::World;
use super::lists::Spans;
use super::span::Span;
use super::sweep::for_each_child;
use crate::{Header, Payer};

/// Charges the slot of `dead` for `header`'s object, which is in limbo from now on, and for the objects
/// inside it.
pub(super) fn charge_slot(spans: &mut Spans, header: &Header, dead: DomainId, world: &impl World) {
    change_payers(spans, header, Payer::of_slot(dead.slot()), world);
}

/// Charges the domain that `header`'s object, which the last call has released, is about to be returned to,
/// and for the objects inside it. Without such a domain the slot goes on paying until the object is freed, at
/// once.
///
/// Call it before the object is returned: from then on it is the receiver's, which may change or free it.
pub(super) fn charge_receiver(spans: &mut Spans, header: &Header, world: &impl World) {
    let can_receive = |domain: &DomainId| *domain != DomainId::NONE && world.is_alive(*domain);
    if let Some(receiver) = [header.middle(), header.lender()].into_iter().find(can_receive) {
        change_payers(spans, header, Payer::of(receiver), world);
    }
}

fn change_payers(spans: &mut Spans, header: &Header, payer: Payer, world: &impl World) {
    // SAFETY: the caller's object is in use.
    let span = unsafe { Span::of(header.value()) };
    world.change_payer(header.payer(), payer, span.slot_bytes());
    // R11: the owner of a root is not remembered for the objects inside it.
    if !payer.is_slot() && !header.is_remembered(payer.as_owner()) {
        spans.remember(header, payer.as_owner());
    }
    header.set_payer(payer);
    for_each_child(header, world, &mut |child| change_payers(spans, child, payer, world));
}
