//! [`RRefArray`] and [`Deque`]: fixed-size containers of references, themselves shared objects.
//!
//! A container of any number of objects moves with one store, because only the root's owner counts (R2).
//! Putting a reference in and taking it out mark its owner, so both are methods of the container's own
//! `RRef`.

use core::ptr::NonNull;

use coppice_abi::{DomainId, me};

use crate::header::settle;
use crate::{AnyBits, Buffer, Flat, Header, Lent, RRef, Shareable, Subloan};

/// The element types of containers: [`RRef`] and [`Lent`].
pub trait Reference: Shareable + sealed::Sealed {
    /// Returns the header of the object that it refers to.
    #[doc(hidden)]
    fn object(&self) -> &Header;
}

mod sealed {
    /// Restricts [`super::Reference`] to this crate's types, which each consist of exactly one root.
    pub trait Sealed {}
}

impl<T: Shareable> sealed::Sealed for RRef<T> {}
impl<T: Shareable> sealed::Sealed for Lent<T> {}

impl<T: Shareable> Reference for RRef<T> {
    #[inline(always)]
    fn object(&self) -> &Header {
        self.header()
    }
}

impl<T: Shareable> Reference for Lent<T> {
    #[inline(always)]
    fn object(&self) -> &Header {
        self.header()
    }
}

/// `N` slots that each hold an `RRef<T>` or nothing.
#[derive(Shareable)]
pub struct RRefArray<T: Shareable, const N: usize> {
    slots: [Option<RRef<T>>; N],
}

/// Up to `N` references in order; filled at the back and emptied at either end.
#[derive(Shareable)]
pub struct Deque<R: Reference, const N: usize> {
    slots: [Option<R>; N],
    head: usize,
    len: usize,
}

/// A [`Deque`] of objects.
pub type RRefDeque<T, const N: usize> = Deque<RRef<T>, N>;

/// A [`Deque`] of lent objects: when it is destroyed, each returns to its lender.
pub type LentDeque<T, const N: usize> = Deque<Lent<T>, N>;

/// Puts `reference` into the empty `slot` of a shared object. In R2's order: linked, then marked.
#[inline(always)]
fn link<R: Reference>(slot: &mut Option<R>, reference: R) {
    let header = NonNull::from(reference.object());
    // The slot is empty, so there is nothing to drop: a test for it would be paid by each packet.
    core::mem::forget(slot.replace(reference));
    // SAFETY: a live object's, which the slot refers to.
    let header = unsafe { header.as_ref() };
    // SAFETY: R3: the caller owns the reference. R2: the slot, which is part of a shared object, holds it
    // now.
    unsafe { header.set_owner(DomainId::NESTED) };
}

/// Takes the reference out of `slot`. In R2's order: marked, then unlinked.
#[inline(always)]
fn unlink<R: Reference>(slot: &mut Option<R>) -> Option<R> {
    // SAFETY: R3: the caller owns the root. R2: from here on the object is found by its owner, so it may be
    // unlinked.
    unsafe { slot.as_ref()?.object().pass_to(me()) };
    settle();
    slot.take()
}

impl<T: Shareable, const N: usize> RRefArray<T, N> {
    /// Makes an empty array.
    pub const fn new() -> Self {
        Self { slots: [const { None }; N] }
    }

    /// Returns the object in slot `index`; `None` if the slot is empty or does not exist.
    pub fn get(&self, index: usize) -> Option<&RRef<T>> {
        self.slots.get(index)?.as_ref()
    }
}

impl<T: Shareable, const N: usize> Default for RRefArray<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Shareable, const N: usize> RRef<RRefArray<T, N>> {
    /// Puts `object` into slot `index` and returns the previous content.
    ///
    /// # Panics
    /// When there is no such slot.
    pub fn replace(&mut self, index: usize, object: RRef<T>) -> Option<RRef<T>> {
        // SAFETY: `link` and `unlink` keep R2.
        let array = unsafe { self.value_mut() };
        let old = unlink(&mut array.slots[index]);
        link(&mut array.slots[index], object);
        old
    }

    /// Takes the object out of slot `index`, if there is one.
    pub fn take(&mut self, index: usize) -> Option<RRef<T>> {
        // SAFETY: `unlink` keeps R2.
        let array = unsafe { self.value_mut() };
        unlink(array.slots.get_mut(index)?)
    }
}

impl<T: Flat, const N: usize> RRef<RRefArray<T, N>> {
    /// Returns the value in slot `index` for writing.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        // SAFETY: no reference is moved.
        let array = unsafe { self.value_mut() };
        Some(&mut **array.slots.get_mut(index)?.as_mut()?)
    }
}

impl<R: Reference, const N: usize> Deque<R, N> {
    /// Number of references that fit.
    pub const CAPACITY: usize = N;

    /// Makes an empty deque.
    pub const fn new() -> Self {
        assert!(
            N.is_power_of_two(),
            "a deque's capacity is a power of two, so that its index wraps with a mask"
        );
        Self { slots: [const { None }; N], head: 0, len: 0 }
    }

    /// Returns the number of references that it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns true if it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns true if it is full.
    pub fn is_full(&self) -> bool {
        self.len == N
    }

    /// Returns the `index`th reference from the front.
    pub fn get(&self, index: usize) -> Option<&R> {
        if index >= self.len {
            return None;
        }
        self.slots[Self::wrap(self.head + index)].as_ref()
    }

    /// Iterates over all references, front first.
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        (0..self.len).filter_map(|index| self.get(index))
    }

    /// Returns the slot of the `index`th reference from the front.
    #[inline(always)]
    fn slot_mut(&mut self, index: usize) -> Option<&mut Option<R>> {
        if index >= self.len {
            return None;
        }
        self.slots.get_mut(Self::wrap(self.head + index))
    }

    #[inline(always)]
    const fn wrap(index: usize) -> usize {
        index & (N - 1)
    }
}

impl<R: Reference, const N: usize> Default for Deque<R, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Reference, const N: usize> RRef<Deque<R, N>> {
    /// Appends `reference`.
    ///
    /// # Errors
    /// `reference`, when the deque is full.
    #[inline]
    pub fn push_back(&mut self, reference: R) -> Result<(), R> {
        // SAFETY: `link` keeps R2.
        let deque = unsafe { self.value_mut() };
        let (head, len) = (deque.head, deque.len);
        if len == N {
            return Err(reference);
        }
        // Neither comes near an overflow: the head is below the capacity, and the length at most equal to it.
        link(&mut deque.slots[Deque::<R, N>::wrap(head.wrapping_add(len))], reference);
        deque.len = len.wrapping_add(1);
        Ok(())
    }

    /// Takes the oldest reference out.
    #[inline]
    pub fn pop_front(&mut self) -> Option<R> {
        // SAFETY: `unlink` keeps R2.
        let deque = unsafe { self.value_mut() };
        let (head, len) = (deque.head, deque.len);
        if len == 0 {
            return None;
        }
        let reference = unlink(&mut deque.slots[Deque::<R, N>::wrap(head)]);
        deque.head = Deque::<R, N>::wrap(head.wrapping_add(1));
        deque.len = len.wrapping_sub(1);
        reference
    }

    /// Takes the youngest reference out.
    #[inline]
    pub fn pop_back(&mut self) -> Option<R> {
        // SAFETY: `unlink` keeps R2.
        let deque = unsafe { self.value_mut() };
        if deque.len == 0 {
            return None;
        }
        deque.len -= 1;
        unlink(&mut deque.slots[Deque::<R, N>::wrap(deque.head + deque.len)])
    }
}

impl<T: Flat, const N: usize> RRef<RRefDeque<T, N>> {
    /// Returns the `index`th value from the front for writing.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        // SAFETY: no reference is moved.
        let deque = unsafe { self.value_mut() };
        deque.slot_mut(index)?.as_deref_mut()
    }
}

impl<T: Shareable, const N: usize> RRef<LentDeque<T, N>> {
    /// Lends the `index`th object on, as [`Lent::lend`], and leaves it in its slot: a domain that receives
    /// the deque borrows it. `None` if there is no such object, or if it cannot be lent on.
    #[inline(always)]
    pub fn lend_at(&mut self, index: usize) -> Option<Subloan<T>> {
        // SAFETY: no reference is moved.
        let deque = unsafe { self.value_mut() };
        deque.slot_mut(index)?.as_mut()?.lend_in_place()
    }

    /// Ends the loan of the `index`th object, as [`Subloan::settle`], and leaves the object in its slot.
    ///
    /// # Errors
    /// `subloan`, if it belongs to another object.
    #[inline(always)]
    pub fn settle_at(&mut self, index: usize, subloan: Subloan<T>) -> Result<(), Subloan<T>> {
        // SAFETY: no reference is moved.
        let deque = unsafe { self.value_mut() };
        match deque.slot_mut(index) {
            Some(Some(lent)) => lent.settle_in_place(subloan),
            _ => Err(subloan),
        }
    }
}

impl<T: AnyBits, const N: usize> RRef<LentDeque<T, N>> {
    /// Returns the `index`th value from the front for writing. Only if any bytes are a value of `T`, as for
    /// [`Lent`] itself.
    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        // SAFETY: no reference is moved.
        let deque = unsafe { self.value_mut() };
        deque.slot_mut(index)?.as_deref_mut()
    }
}

impl<H: AnyBits, const N: usize> RRef<LentDeque<Buffer<H>, N>> {
    /// Returns all bytes of the `index`th buffer from the front for writing, as [`Lent::bytes_mut`].
    #[inline]
    pub fn bytes_at_mut(&mut self, index: usize) -> Option<&mut [u8]> {
        // SAFETY: no reference is moved.
        let deque = unsafe { self.value_mut() };
        Some(deque.slot_mut(index)?.as_mut()?.bytes_mut())
    }
}
