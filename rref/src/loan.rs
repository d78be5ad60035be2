//! [`Loan`], [`Subloan`] and [`Lent`]: an object that a callee keeps past the call and that survives the
//! callee.
//!
//! A shadow lends each request to its driver. While the driver runs, it works on the [`Lent`] and returns it
//! with the reply, or by dropping it. If the driver dies, the sweep returns everything that was lent to it;
//! the shadow finds its [`Loan`]s redeemable and can submit the same bytes again, without a copy.
//!
//! A shadow mostly lends objects that its client has lent to it. So a borrower can lend on, once: it keeps a
//! [`Subloan`] and the driver gets the [`Lent`]. If the driver dies the shadow can use the object again, and
//! if the shadow dies (too) its client can. A chain of three lenders is refused: each needs a word in the
//! header, and no user has needed a third.

use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

#[cfg(not(test))]
use coppice_abi::services;
use coppice_abi::{DomainId, Fingerprint, fingerprint, me};

#[cfg(test)]
use crate::model::services;
use crate::{AnyBits, Header, RRef, Shareable, TypeEntry};

/// The lender's half: the right to the object's return.
///
/// Dropping it lets go of the object: the holder of the other half then owns it.
pub struct Loan<T: Shareable> {
    value: NonNull<T>,
    redeems: PhantomData<T>,
}

/// The half that a borrower keeps of an object that it has lent on: the right to the [`Lent`]'s return.
///
/// Dropping it lets go of the object: it then returns to the first lender directly.
pub struct Subloan<T: Shareable> {
    value: NonNull<T>,
    redeems: PhantomData<T>,
}

/// The borrower's half: the object itself. Dropping it returns the object.
///
/// It can be changed in place only if any bytes are a value of `T` ([`AnyBits`]): the borrower may die in the
/// middle of a change, after which the lender reads the object.
#[repr(transparent)]
pub struct Lent<T: Shareable> {
    value: NonNull<T>,
    holds: PhantomData<T>,
}

// SAFETY: `Loan` only touches the atomic header until the object is back, and is then an `RRef`.
unsafe impl<T: Shareable> Send for Loan<T> {}
// SAFETY: a shared `Loan` only reads the atomic header.
unsafe impl<T: Shareable> Sync for Loan<T> {}
// SAFETY: as for `Loan`, and is then a `Lent`.
unsafe impl<T: Shareable> Send for Subloan<T> {}
// SAFETY: as for `Loan`.
unsafe impl<T: Shareable> Sync for Subloan<T> {}
// SAFETY: as for `RRef`: the only access to the value while it is lent.
unsafe impl<T: Shareable> Send for Lent<T> {}
// SAFETY: as for `RRef`.
unsafe impl<T: Shareable> Sync for Lent<T> {}

impl<T: Shareable> RRef<T> {
    /// Splits the reference into the lender's half and the object for a borrower.
    pub fn lend(self) -> (Loan<T>, Lent<T>) {
        self.header().set_lender(me());
        let value = self.into_raw();
        (Loan { value, redeems: PhantomData }, Lent { value, holds: PhantomData })
    }
}

impl<T: Shareable> Loan<T> {
    /// Returns true if the object has come back, because the borrower returned it or died.
    pub fn is_back(&self) -> bool {
        self.header().lender() != me()
    }

    /// Returns the object, if it has come back.
    ///
    /// # Errors
    /// The loan itself, while the borrower holds the object.
    pub fn redeem(self) -> Result<RRef<T>, Self> {
        if !self.is_back() {
            return Err(self);
        }
        let loan = ManuallyDrop::new(self);
        // SAFETY: `lend` took it from an RRef; the other half is gone (R5), and this half is not used again.
        Ok(unsafe { RRef::from_raw(loan.value) })
    }

    /// Joins the two halves when the other one came back as a value: like returning it and [`Self::redeem`],
    /// without a call of the kernel.
    ///
    /// # Errors
    /// Both halves, if they are not of one object, or if a borrower has lent the object on and still holds
    /// its [`Subloan`].
    #[inline]
    pub fn settle(self, lent: Lent<T>) -> Result<RRef<T>, (Self, Lent<T>)> {
        // The middle domain could redeem an object that this would free. (A dead one is refused as well; the
        // kernel sees that it is dead when `lent` is dropped.)
        if self.value != lent.value || self.header().middle() != DomainId::NONE {
            return Err((self, lent));
        }
        let (loan, _lent) = (ManuallyDrop::new(self), ManuallyDrop::new(lent));
        // No other code changes it: only the holder may, and that is this caller.
        loan.header().set_lender(DomainId::NONE);
        // SAFETY: R5: the caller has both halves, and neither is used again.
        Ok(unsafe { RRef::from_raw(loan.value) })
    }

    fn header(&self) -> &Header {
        // SAFETY: the borrower does not free an object whose lender is alive and holds its half.
        unsafe { Header::of(self.value.cast()) }
    }
}

impl<T: Shareable> Drop for Loan<T> {
    fn drop(&mut self) {
        if !self.header().end_loan(me()) {
            // SAFETY: as in `redeem`: it came back before this half was dropped.
            drop(unsafe { RRef::from_raw(self.value) });
        }
    }
}

impl<T: Shareable> Subloan<T> {
    /// Returns true if the object has come back, because the second borrower returned it or died.
    pub fn is_back(&self) -> bool {
        self.header().middle() != me()
    }

    /// Returns the object, if it has come back.
    ///
    /// # Errors
    /// The subloan itself, while the second borrower holds the object.
    pub fn redeem(self) -> Result<Lent<T>, Self> {
        if !self.is_back() {
            return Err(self);
        }
        let subloan = ManuallyDrop::new(self);
        // SAFETY: `Lent::lend` took it from a `Lent`; the other half is gone (R5), and this half is not used
        // again.
        Ok(unsafe { Lent::from_raw(subloan.value) })
    }

    /// Joins the two halves, as [`Loan::settle`].
    ///
    /// # Errors
    /// Both halves, if they are not of one object.
    #[inline]
    pub fn settle(self, lent: Lent<T>) -> Result<Lent<T>, (Self, Lent<T>)> {
        if self.value != lent.value {
            return Err((self, lent));
        }
        let subloan = ManuallyDrop::new(self);
        // No other code changes it: only the holder may, and that is this caller. This loan has not ended, or
        // there would be no other half.
        subloan.header().set_middle(DomainId::NONE);
        Ok(lent)
    }

    fn header(&self) -> &Header {
        // SAFETY: the object is not freed while a running domain holds a half of it.
        unsafe { Header::of(self.value.cast()) }
    }
}

impl<T: Shareable> Drop for Subloan<T> {
    fn drop(&mut self) {
        if !self.header().end_subloan(me()) {
            // SAFETY: as in `redeem`: it came back before this half was dropped.
            drop(unsafe { Lent::from_raw(self.value) });
        }
    }
}

impl<T: Shareable> Lent<T> {
    /// Lends the object on: splits it into a half that stays, and the object for the second borrower.
    ///
    /// # Errors
    /// The object, if it was lent on before. It stays refused if that middle domain has died since.
    #[inline]
    pub fn lend(self) -> Result<(Subloan<T>, Self), Self> {
        // No other code sets it while the caller holds the object; its present value may only end.
        if self.header().middle() != DomainId::NONE {
            return Err(self);
        }
        self.header().set_middle(me());
        Ok((Subloan { value: self.value, redeems: PhantomData }, self))
    }

    /// Lends the object on, as [`Self::lend`], but leaves it in its slot.
    #[inline(always)]
    pub(crate) fn lend_in_place(&mut self) -> Option<Subloan<T>> {
        if self.header().middle() != DomainId::NONE {
            return None;
        }
        self.header().set_middle(me());
        Some(Subloan { value: self.value, redeems: PhantomData })
    }

    /// Ends the loan, as [`Subloan::settle`], of an object in its slot.
    #[inline(always)]
    pub(crate) fn settle_in_place(&mut self, subloan: Subloan<T>) -> Result<(), Subloan<T>> {
        if subloan.value != self.value {
            return Err(subloan);
        }
        let subloan = ManuallyDrop::new(subloan);
        // As in `Subloan::settle`.
        subloan.header().set_middle(DomainId::NONE);
        Ok(())
    }

    /// # Safety
    /// `value` came from a `Lent` or its `Subloan`, and no other code holds the object.
    unsafe fn from_raw(value: NonNull<T>) -> Self {
        Self { value, holds: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: from the shared heap (`lend`), and held by `self`.
        unsafe { Header::of(self.value.cast()) }
    }

    /// Returns the value's address: the memory that a device reads and writes.
    pub fn address(&self) -> usize {
        self.value.as_ptr() as usize
    }

    #[inline(always)]
    pub(crate) fn value(&self) -> NonNull<T> {
        self.value
    }
}

impl<T: Shareable> Drop for Lent<T> {
    fn drop(&mut self) {
        // SAFETY: from the shared heap, and this half is not used any more.
        unsafe { (services().shared_return)(self.value.as_ptr().cast()) };
    }
}

impl<T: Shareable> Deref for Lent<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: holds a complete `T`, and only this half reaches it (R5).
        unsafe { self.value.as_ref() }
    }
}

impl<T: AnyBits> DerefMut for Lent<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as `deref`, and `self` is borrowed mutably.
        unsafe { self.value.as_mut() }
    }
}

// SAFETY: a Lent is one root, like an RRef; its destructor gives back instead of freeing.
unsafe impl<T: Shareable> Shareable for Lent<T> {
    const SHAPE: Fingerprint = fingerprint("Lent").with(T::SHAPE).finish();
    const ROOTS: bool = true;
    #[inline(always)]
    fn for_each_root<V: FnMut(&Header)>(&self, visit: &mut V) {
        visit(self.header());
    }
    fn for_each_type(visit: &mut dyn FnMut(TypeEntry)) {
        <RRef<T> as Shareable>::for_each_type(visit);
    }
}
