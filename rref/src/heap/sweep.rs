//! The sweep: what a dead domain owned is taken back.

use core::ptr::NonNull;

use coppice_abi::{DomainId, Fingerprint};

use super::{SharedHeap, SpanSource, for_each_object};
use crate::{Header, TypeEntry};

/// What the sweep asks of the kernel.
pub trait World {
    /// The destructor and the references of a type; `None` for one without.
    fn type_entry(&self, id: Fingerprint) -> Option<&TypeEntry>;
    /// Whether code of that instance of that domain may still run. It turns false while the world is stopped: a lender that
    /// is taken for dead while it runs on would redeem an object that we destroy.
    fn is_alive(&self, domain: DomainId) -> bool;
    /// Runs the destructor of an object and frees it: the service behind `RRef`'s drop.
    ///
    /// # Safety
    /// `value` is a live object that nobody uses any more.
    unsafe fn destroy(&self, value: NonNull<u8>);
}

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sweep {
    /// Objects that the dead domain owned at the root, destroyed with all that they held.
    pub freed: usize,
    /// Objects that were lent to it, given back.
    pub returned: usize,
    /// Objects that somebody still reads; [`SharedHeap::release`] frees them.
    pub deferred: usize,
}

impl<S: SpanSource> SharedHeap<S> {
    /// Keeps `values` until [`Self::release`]: a call goes on reading them although its caller has just died.
    ///
    /// # Safety
    /// Each is a live object of this heap. The world is stopped, so that the call cannot end, and release them, first.
    pub unsafe fn retain(&self, values: impl Iterator<Item = NonNull<u8>>) {
        for value in values {
            // SAFETY: the caller's promise.
            unsafe { Header::of(value) }.retain();
        }
    }

    /// Takes back everything that `dead` owned, but for what [`Self::retain`] keeps.
    ///
    /// Runs while other CPUs run on: they do not touch what `dead` owned. Other sweeps and releases may go on at the same
    /// time.
    ///
    /// # Safety
    /// No code runs for `dead` any more, nor will, and every CPU has passed through the kernel since the last that did
    /// (R8). What calls still read has been retained. `world` tells the truth.
    pub unsafe fn sweep(&self, dead: DomainId, world: &impl World) -> Sweep {
        let mut sweep = Sweep::default();
        let mut victims = Victims::default();
        let spans = self.spans.lock();
        for_each_object(&spans, |header, _| {
            if header.owner() == dead {
                mark_children(header, dead, world);
            }
        });
        for_each_object(&spans, |header, _| {
            if header.owner() != dead {
            } else if is_borrowed(header, world) {
                // SAFETY: R3: its owner is dead, and we answer for it.
                unsafe { header.set_owner(DomainId::LIMBO) };
                sweep.deferred += 1;
            } else if give_back(header, world) {
                sweep.returned += 1;
            } else {
                victims.add(header);
                sweep.freed += 1;
            }
        });
        // Destructors take the heap's locks.
        drop(spans);
        victims.destroy(world);
        sweep
    }

    /// Ends one call's reading of `values`, and frees what a dead domain owned and nobody reads any more.
    ///
    /// # Safety
    /// Each value was retained for this call. `world` tells the truth.
    pub unsafe fn release(&self, values: impl Iterator<Item = NonNull<u8>>, world: &impl World) {
        let mut last = false;
        for value in values {
            // SAFETY: an object with borrows is not freed.
            last |= unsafe { Header::of(value) }.release();
        }
        if !last {
            return;
        }
        // The values may be inside other objects, and their owner not swept yet; so we look for objects that wait for it.
        let mut victims = Victims::default();
        for_each_object(&self.spans.lock(), |header, _| {
            if header.owner() == DomainId::LIMBO && !is_borrowed(header, world) && !give_back(header, world) {
                victims.add(header);
            }
        });
        victims.destroy(world);
    }

    /// Gives a lent object back to who lent it (on), or destroys it when nobody is left to take it: what `Lent`'s drop asks
    /// for.
    ///
    /// # Safety
    /// `value` is a live object of this heap that the caller holds and does not use any more. Inside a kernel section,
    /// so that neither holder nor lenders die meanwhile. `world` tells the truth.
    pub unsafe fn return_lent(&self, value: NonNull<u8>, world: &impl World) {
        // SAFETY: the caller's promise.
        let header = unsafe { Header::of(value) };
        if !give_back(header, world) {
            header.set_lender(DomainId::NONE);
            // SAFETY: the caller's promise, and there is no lender to use it.
            unsafe { world.destroy(value) };
        }
    }
}

/// Gives `header`'s object to whoever claims it first: who has lent it on, else who has lent it. False if there is nobody
/// to take it.
fn give_back(header: &Header, world: &impl World) -> bool {
    let middle = header.middle();
    if middle != DomainId::NONE {
        if world.is_alive(middle) && give_to(header, middle, Header::end_subloan) {
            return true;
        }
        // Dead, or it has let go: no claim any more. The lender, once it has the object, may lend it anew.
        header.set_middle(DomainId::NONE);
    }
    let lender = header.lender();
    lender != DomainId::NONE && world.is_alive(lender) && give_to(header, lender, Header::end_loan)
}

/// Gives `header`'s object to `claimer` by `end`ing its claim; false if that one has let go meanwhile.
fn give_to(header: &Header, claimer: DomainId, end: fn(&Header, DomainId) -> bool) -> bool {
    // In this order: once the claim has ended, its holder may pass the object on.
    let holder = header.owner();
    // SAFETY: R3: we act for its holder. R2: whatever held it does so no more.
    unsafe { header.set_owner(claimer) };
    let ended = end(header, claimer);
    if !ended {
        // SAFETY: the claimer has let go and will not look at it again.
        unsafe { header.set_owner(holder) };
    }
    ended
}

/// Marks what `header`'s object holds as nested. A domain that died inside an operation on a shared object may
/// have left references that are marked as its own and yet linked (R2); the sweep would free them twice.
fn mark_children(header: &Header, dead: DomainId, world: &impl World) {
    for_each_child(header, world, &mut |child| {
        if child.owner() == dead {
            // SAFETY: R3: its owner is dead, and we answer for it. R2: `header`'s object holds it.
            unsafe { child.set_owner(DomainId::NESTED) };
            mark_children(child, dead, world);
        }
    });
}

/// Whether a call still reads `header`'s object or one inside it.
pub(super) fn is_borrowed(header: &Header, world: &impl World) -> bool {
    let mut borrowed = header.borrows() > 0;
    for_each_child(header, world, &mut |child| borrowed = borrowed || is_borrowed(child, world));
    borrowed
}

/// Visits what `header`'s object holds, which nobody is changing: its owner is dead or stopped.
pub(super) fn for_each_child(header: &Header, world: &impl World, visit: &mut dyn FnMut(&Header)) {
    if let Some(entry) = world.type_entry(header.type_id()) {
        // SAFETY: R4: a published type means a whole value; its owner is dead or stopped, so nobody changes it.
        unsafe { (entry.for_each_root)(header.value().as_ptr(), visit) };
    }
}

/// Objects to destroy once the walk over the heap has let go of its lock. Chained through `lender`, which a victim has
/// no more use for: whoever lent it is dead or has let go.
#[derive(Default)]
struct Victims {
    last: u64,
}

impl Victims {
    fn add(&mut self, header: &Header) {
        // The kernel's from here on, so that another sweep or release does not take it too.
        // SAFETY: R3: nobody else owns it.
        unsafe { header.set_owner(DomainId::KERNEL) };
        header.set_lender(DomainId::from_bits(self.last));
        self.last = header.value().as_ptr().expose_provenance() as u64;
    }

    fn destroy(self, world: &impl World) {
        let mut next = self.last;
        while let Some(value) = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(next as usize)) {
            // SAFETY: `add` chained live objects that nobody else owns.
            let header = unsafe { Header::of(value) };
            next = header.lender().to_bits();
            header.set_lender(DomainId::NONE);
            // SAFETY: as above.
            unsafe { world.destroy(value) };
        }
    }
}
