//! The sweep: takes back everything that a dead domain owned.

use core::ptr::NonNull;

use coppice_abi::{DomainId, TypeNumber};

use super::span::List;
use super::walk::Walk;
use super::{SharedHeap, SpanSource, kept};
use crate::header::bucket;
use crate::{Header, Payer, TypeEntry};

/// The kernel's functions for the sweep.
pub trait World {
    /// Returns the destructor and the references of a type; `None` for one without.
    fn type_entry(&self, number: TypeNumber) -> Option<&TypeEntry>;
    /// Returns true while code of that instance may still run. It turns false while the world is stopped: a
    /// lender that is taken for dead while it runs could redeem an object that the sweep destroys.
    fn is_alive(&self, domain: DomainId) -> bool;
    /// Charges `to` instead of `from` for `bytes` of an object in use, even beyond its quota. Called under
    /// the heap's locks.
    fn change_payer(&self, from: Payer, to: Payer, bytes: usize);
    /// Runs the destructor of an object and frees it: the service behind `RRef`'s drop.
    ///
    /// # Safety
    /// `value` is a live object that is not used any more.
    unsafe fn destroy(&self, value: NonNull<u8>);
    /// Returns true if another domain of the system has the bucket of `domain` ([`share_bucket`]).
    fn shares_bucket(&self, domain: DomainId) -> bool;
    /// Called between two pieces of a sweep, outside of all locks of the heap: lets the CPU do other work.
    fn pause(&self);
}

/// Returns true if the walks for one of these domains visit the spans of the other.
pub fn share_bucket(one: DomainId, other: DomainId) -> bool {
    bucket(one) == bucket(other)
}

/// The counts of a sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sweep {
    /// Objects that the dead domain owned at the root, destroyed with all that they held.
    pub freed: usize,
    /// Objects that were lent to it, returned.
    pub returned: usize,
    /// Objects that a call still reads; [`SharedHeap::release`] frees them.
    pub deferred: usize,
    /// Slots that the sweep looked at, free ones and those of other domains included.
    pub visited: usize,
}

impl<S: SpanSource> SharedHeap<S> {
    /// Keeps `values` until [`Self::release`]: a call still reads them although its caller has just died.
    ///
    /// # Safety
    /// Each is a live object of this heap. The world is stopped, so that the call cannot end, and release
    /// them, first.
    pub unsafe fn retain(&self, values: impl Iterator<Item = NonNull<u8>>) {
        for value in values {
            // SAFETY: the caller's promise.
            unsafe { Header::of(value) }.retain();
        }
    }

    /// Takes back everything that `dead` owned, except for objects kept by [`Self::retain`].
    ///
    /// Visits the spans of the remembered set of `dead`, in pieces. Runs while other CPUs run: they do not
    /// touch the objects of `dead`. Other sweeps and releases may run at the same time.
    ///
    /// # Safety
    /// No code runs for `dead` any more, nor will, and every CPU has passed through the kernel since the last
    /// that did (R8). All objects that calls still read have been retained. The results of `world` are true.
    pub unsafe fn sweep(&self, dead: DomainId, world: &impl World) -> Sweep {
        let mut sweep = Sweep::default();
        let list = List::Bucket(bucket(dead));
        let mut walk = Walk::new(self, list, false);
        while let Some(mut piece) = walk.next() {
            piece.for_each(|_, header, _| {
                if header.owner() == dead {
                    mark_children(header, dead, world);
                }
            });
            drop(piece);
            world.pause();
        }
        sweep.visited = walk.visited;
        // Nothing uses the bucket until the next instance begins, so its list ends up empty.
        let empties = !world.shares_bucket(dead);
        let mut walk = Walk::new(self, list, empties);
        while let Some(mut piece) = walk.next() {
            let mut doomed = DoomedObjects::default();
            let span = piece.span;
            piece.for_each(|spans, header, _| {
                if header.owner() != dead {
                } else if is_borrowed(header, world) {
                    // SAFETY: R3: its owner is dead, and the sweep acts for it.
                    unsafe { header.set_owner(DomainId::LIMBO) };
                    kept::charge_slot(spans, header, dead, world);
                    spans.remember_limbo(span);
                    sweep.deferred += 1;
                } else if give_back(header, world, |lender| spans.remember(header, lender)) {
                    sweep.returned += 1;
                } else {
                    doomed.add(header);
                    sweep.freed += 1;
                }
                if empties {
                    header.forget(dead);
                }
            });
            // Destructors take the heap's locks.
            drop(piece);
            doomed.destroy(world);
            world.pause();
        }
        sweep.visited += walk.visited;
        sweep
    }

    /// Ends one call's reading of `values`, and frees the objects that a dead domain owned and no call reads
    /// any more.
    ///
    /// # Safety
    /// Each value was retained for this call. The results of `world` are true.
    pub unsafe fn release(&self, values: impl Iterator<Item = NonNull<u8>>, world: &impl World) {
        let mut last = false;
        for value in values {
            // SAFETY: an object with borrows is not freed.
            last |= unsafe { Header::of(value) }.release();
        }
        if !last {
            return;
        }
        // The values may be inside other objects, and their owner not swept yet; so all objects in limbo are
        // checked.
        let mut walk = Walk::new(self, List::Limbo, true);
        while let Some(mut piece) = walk.next() {
            let mut doomed = DoomedObjects::default();
            let mut keep = false;
            piece.for_each(|spans, header, _| {
                if header.owner() != DomainId::LIMBO {
                    return;
                }
                if is_borrowed(header, world) {
                    keep = true;
                    return;
                }
                kept::charge_receiver(spans, header, world);
                if !give_back(header, world, |lender| spans.remember(header, lender)) {
                    doomed.add(header);
                }
            });
            drop(piece);
            walk.keep |= keep;
            doomed.destroy(world);
        }
    }

    /// Returns a lent object to its middle domain or lender, or destroys it if neither is left: the service
    /// behind `Lent`'s drop.
    ///
    /// # Safety
    /// `value` is a live object of this heap that the caller holds and does not use any more. The caller is
    /// inside a kernel section, so that neither holder nor lenders die during the call. The results of
    /// `world` are true.
    pub unsafe fn return_lent(&self, value: NonNull<u8>, world: &impl World) {
        // SAFETY: the caller's promise.
        let header = unsafe { Header::of(value) };
        // SAFETY: the caller's promise.
        if !give_back(header, world, |lender| unsafe { self.remember(value, lender) }) {
            header.set_lender(DomainId::NONE);
            // SAFETY: the caller's promise, and there is no lender to use it.
            unsafe { world.destroy(value) };
        }
    }
}

/// Returns `header`'s object to the middle domain if there is one, else to the lender. False if neither can
/// take it. `remember` is called for a middle domain that has lent the object on where it lay, inside another
/// one, and so has never been its owner (R11).
fn give_back(header: &Header, world: &impl World, mut remember: impl FnMut(DomainId)) -> bool {
    let mut give_to = |lender: DomainId, end: fn(&Header, DomainId) -> bool| {
        if !header.is_remembered(lender) {
            remember(lender);
        }
        give_to(header, lender, end)
    };
    let middle = header.middle();
    if middle != DomainId::NONE {
        if world.is_alive(middle) && give_to(middle, Header::end_subloan) {
            return true;
        }
        // Dead, or it has dropped its `Subloan`. The lender, once it has the object, may lend it again.
        header.set_middle(DomainId::NONE);
    }
    let lender = header.lender();
    lender != DomainId::NONE && world.is_alive(lender) && give_to(lender, Header::end_loan)
}

/// Returns `header`'s object to `lender` by `end`ing its loan. False if that domain has let go at the same
/// time.
fn give_to(header: &Header, lender: DomainId, end: fn(&Header, DomainId) -> bool) -> bool {
    // In this order: once the loan has ended, the lender may pass the object on.
    let holder = header.owner();
    // SAFETY: R3: the caller acts for the holder. R2: no object holds the reference any more.
    unsafe { header.set_owner(lender) };
    let ended = end(header, lender);
    if !ended {
        // SAFETY: the lender has let go and will not access it again.
        unsafe { header.set_owner(holder) };
    }
    ended
}

/// Marks the objects inside `header`'s object as nested. A domain that died inside an operation on a shared
/// object may have left references that are marked as its own and yet linked (R2); the sweep would free them
/// twice.
fn mark_children(header: &Header, dead: DomainId, world: &impl World) {
    for_each_child(header, world, &mut |child| {
        if child.owner() == dead {
            // SAFETY: R3: its owner is dead, and the sweep acts for it. R2: `header`'s object holds it.
            unsafe { child.set_owner(DomainId::NESTED) };
            mark_children(child, dead, world);
        }
    });
}

/// Returns true if a call still reads `header`'s object or one inside it.
pub(super) fn is_borrowed(header: &Header, world: &impl World) -> bool {
    let mut borrowed = header.borrows() > 0;
    for_each_child(header, world, &mut |child| borrowed = borrowed || is_borrowed(child, world));
    borrowed
}

/// Visits the objects inside `header`'s object, which do not change: its owner is dead or stopped.
pub(super) fn for_each_child(header: &Header, world: &impl World, visit: &mut dyn FnMut(&Header)) {
    if let Some(entry) = world.type_entry(header.type_number()) {
        // SAFETY: R4: a published type means a complete value; its owner is dead or stopped, so it does not
        // change.
        unsafe { entry.for_each_root(header.value().as_ptr(), visit) };
    }
}

/// Objects to destroy after the walk over the heap has released its lock. Chained through `lender`, which is
/// free for this: the lender is dead or has let go.
#[derive(Default)]
struct DoomedObjects {
    last: u64,
}

impl DoomedObjects {
    fn add(&mut self, header: &Header) {
        // Owned by the kernel from here on, so that another sweep or release does not take it too.
        // SAFETY: R3: its owner is dead, and the sweep acts for it.
        unsafe { header.set_owner(DomainId::KERNEL) };
        header.set_lender(DomainId::from_bits(self.last));
        self.last = header.value().as_ptr().expose_provenance() as u64;
    }

    fn destroy(self, world: &impl World) {
        let mut next = self.last;
        while let Some(value) = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(next as usize)) {
            // SAFETY: `add` chained live objects that the kernel owns.
            let header = unsafe { Header::of(value) };
            next = header.lender().to_bits();
            header.set_lender(DomainId::NONE);
            // SAFETY: as above.
            unsafe { world.destroy(value) };
        }
    }
}
