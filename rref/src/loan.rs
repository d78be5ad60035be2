//! [`Loan`], [`Subloan`] and [`Lent`]: an object that a callee keeps past the call and that survives its death.
//!
//! A shadow lends each request to its driver. As long as the driver lives, it works on the [`Lent`] and gives it
//! back with the answer, or by dropping it. If the driver dies, the sweep gives everything that was lent to it
//! back; the shadow finds its [`Loan`]s redeemable and can submit the same bytes again, without a copy.
//!
//! What a shadow lends was mostly lent to it by its client. So a borrower can lend on, once: it keeps a [`Subloan`] and the
//! driver gets the [`Lent`]. If the driver dies the object is the shadow's to use again, and if the shadow dies (too) its
//! client's. A chain of three lenders is refused: each needs a word in the header, and nobody has asked for a third.

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

/// The lender's half: a claim to get the object back.
///
/// Dropping it lets go of the object: whoever holds the other half then owns it.
pub struct Loan<T: Shareable> {
    value: NonNull<T>,
    claims: PhantomData<T>,
}

/// A borrower's half of what it has lent on: a claim to get the [`Lent`] back.
///
/// Dropping it lets go of the object: it then goes back to the first lender directly.
pub struct Subloan<T: Shareable> {
    value: NonNull<T>,
    claims: PhantomData<T>,
}

/// The borrower's half: the object itself. Dropping it gives it back.
///
/// It can be changed in place only if any bytes are a value of `T` ([`AnyBits`]): the borrower may die in the middle
/// of a change, and the lender reads what is there then.
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
    /// Splits the reference into the claim to it and the object for somebody else to hold.
    pub fn lend(self) -> (Loan<T>, Lent<T>) {
        self.header().set_lender(me());
        let value = self.into_raw();
        (Loan { value, claims: PhantomData }, Lent { value, holds: PhantomData })
    }
}

impl<T: Shareable> Loan<T> {
    /// Whether the object has come back, by the borrower's will or by its death.
    pub fn is_back(&self) -> bool {
        self.header().lender() != me()
    }

    /// The object, if it has come back.
    ///
    /// # Errors
    /// The loan itself, while the borrower holds the object.
    pub fn redeem(self) -> Result<RRef<T>, Self> {
        if !self.is_back() {
            return Err(self);
        }
        let claim = ManuallyDrop::new(self);
        // SAFETY: `lend` took it from an RRef; the other half is gone (R5), and this half is not used on.
        Ok(unsafe { RRef::from_raw(claim.value) })
    }

    /// Joins the two halves, when the other one came back as a value: as giving it back and [`Self::redeem`], without a
    /// call of the kernel.
    ///
    /// # Errors
    /// Both, if they are not halves of one object, or if somebody whom the object was lent to claims it still.
    #[inline]
    pub fn settle(self, lent: Lent<T>) -> Result<RRef<T>, (Self, Lent<T>)> {
        // A middle that claims it would redeem what we might free. (One that has died meanwhile is refused as well; the
        // kernel can tell, when `lent` is dropped.)
        if self.value != lent.value || self.header().middle() != DomainId::NONE {
            return Err((self, lent));
        }
        let (claim, _lent) = (ManuallyDrop::new(self), ManuallyDrop::new(lent));
        // Nobody else changes it: its holder would, and that is us.
        claim.header().set_lender(DomainId::NONE);
        // SAFETY: R5: both halves are ours, and neither is used on.
        Ok(unsafe { RRef::from_raw(claim.value) })
    }

    fn header(&self) -> &Header {
        // SAFETY: the borrower does not free an object whose lender is alive and holds its claim.
        unsafe { Header::of(self.value.cast()) }
    }
}

impl<T: Shareable> Drop for Loan<T> {
    fn drop(&mut self) {
        if !self.header().end_loan(me()) {
            // SAFETY: as in `redeem`: it came back before we let go.
            drop(unsafe { RRef::from_raw(self.value) });
        }
    }
}

impl<T: Shareable> Subloan<T> {
    /// Whether the object has come back, by the second borrower's will or by its death.
    pub fn is_back(&self) -> bool {
        self.header().middle() != me()
    }

    /// The object, if it has come back.
    ///
    /// # Errors
    /// The claim itself, while the second borrower holds the object.
    pub fn redeem(self) -> Result<Lent<T>, Self> {
        if !self.is_back() {
            return Err(self);
        }
        let claim = ManuallyDrop::new(self);
        // SAFETY: `Lent::lend` took it from a `Lent`; the other half is gone (R5), and this half is not used on.
        Ok(unsafe { Lent::from_raw(claim.value) })
    }

    /// As [`Loan::settle`].
    ///
    /// # Errors
    /// Both, if they are not halves of one object.
    #[inline]
    pub fn settle(self, lent: Lent<T>) -> Result<Lent<T>, (Self, Lent<T>)> {
        if self.value != lent.value {
            return Err((self, lent));
        }
        let claim = ManuallyDrop::new(self);
        // Nobody else changes it: its holder would, and that is us. The claim was still open, or there were no other half.
        claim.header().set_middle(DomainId::NONE);
        Ok(lent)
    }

    fn header(&self) -> &Header {
        // SAFETY: the object is not freed while somebody alive claims it.
        unsafe { Header::of(self.value.cast()) }
    }
}

impl<T: Shareable> Drop for Subloan<T> {
    fn drop(&mut self) {
        if !self.header().end_subloan(me()) {
            // SAFETY: as in `redeem`: it came back before we let go.
            drop(unsafe { Lent::from_raw(self.value) });
        }
    }
}

impl<T: Shareable> Lent<T> {
    /// Lends it on: splits it into a claim, which stays, and the object for somebody else to hold.
    ///
    /// # Errors
    /// The object, if whoever we have it from has borrowed it too. It stays so if that one has died since.
    #[inline]
    pub fn lend(self) -> Result<(Subloan<T>, Self), Self> {
        // Nobody else sets it while we hold the object; only what is there may end.
        if self.header().middle() != DomainId::NONE {
            return Err(self);
        }
        self.header().set_middle(me());
        Ok((Subloan { value: self.value, claims: PhantomData }, self))
    }

    /// As [`Self::lend`], where it lies: the object stays with this half.
    #[inline(always)]
    pub(crate) fn lend_in_place(&mut self) -> Option<Subloan<T>> {
        if self.header().middle() != DomainId::NONE {
            return None;
        }
        self.header().set_middle(me());
        Some(Subloan { value: self.value, claims: PhantomData })
    }

    /// As [`Subloan::settle`], where it lies.
    #[inline(always)]
    pub(crate) fn settle_in_place(&mut self, claim: Subloan<T>) -> Result<(), Subloan<T>> {
        if claim.value != self.value {
            return Err(claim);
        }
        let claim = ManuallyDrop::new(claim);
        // As in `Subloan::settle`.
        claim.header().set_middle(DomainId::NONE);
        Ok(())
    }

    /// # Safety
    /// `value` came from a `Lent` or its claim, and nobody else holds the object.
    unsafe fn from_raw(value: NonNull<T>) -> Self {
        Self { value, holds: PhantomData }
    }

    #[inline(always)]
    pub(crate) fn header(&self) -> &Header {
        // SAFETY: from the shared heap (`lend`), and held by us.
        unsafe { Header::of(self.value.cast()) }
    }

    /// The value's address: what a device reads and writes.
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
        // SAFETY: from the shared heap, and nobody uses this half any more.
        unsafe { (services().shared_return)(self.value.as_ptr().cast()) };
    }
}

impl<T: Shareable> Deref for Lent<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: holds a whole `T`, and only this half reaches it (R5).
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
    const SHAPE: Fingerprint = fingerprint("Lent").with(T::SHAPE);
    const ROOTS: bool = true;
    #[inline(always)]
    fn for_each_root<V: FnMut(&Header)>(&self, visit: &mut V) {
        visit(self.header());
    }
    fn for_each_type(visit: &mut dyn FnMut(TypeEntry)) {
        <RRef<T> as Shareable>::for_each_type(visit);
    }
}
