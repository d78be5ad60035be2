//! [`Header`]: what stands in front of every shared object.

use core::ptr::NonNull;
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};
use core::sync::atomic::{Ordering, compiler_fence};

use coppice_abi::{DomainId, Fingerprint};

// The model checker tries what other CPUs do between any two accesses.
use crate::Payer;
#[cfg(test)]
use crate::model::atomic::{AtomicU32, AtomicU64};

/// Type id of an object whose maker has not published a type yet, or has taken the value out: it has no
/// destructor and no references inside.
pub(crate) const UNTYPED: Fingerprint = Fingerprint(0);

/// The metadata of a shared object, directly in front of its value.
///
/// # Invariants
/// - **R1** `owner` is [`DomainId::NONE`] exactly while the slot is free.
/// - **R2** `owner` is [`DomainId::NESTED`] while another object holds the only reference to this one, except
///   inside an operation of the domain that owns the root; such an operation links before it marks, and marks
///   before it unlinks, so that the sweep always finds the object through its root or by its owner.
/// - **R3** Only code that runs for the owner, or trusted code while that domain is stopped, changes `owner`.
/// - **R4** `type_id` is the value's type, or [`UNTYPED`] while the value may not be whole; what such a value refers to
///   is owned by a domain, not nested.
/// - **R5** `lender` is not `NONE` exactly while the object is lent; then `owner` is the borrower, or the object is
///   nested in one of the borrower's. `middle` is a borrower that has lent it on, as long as it claims it: then `owner`
///   is the second borrower. It is set by who holds the object, once, and ended by whoever comes first, who holds it or
///   who claims it; what is left of it after the claimer's death goes before the lender gets the object back.
/// - **R6** `borrows` counts calls that go on reading an object although their caller died; it is changed by the
///   kernel only.
/// - **R9** `payer` is whose quota the slot's bytes are taken from. In an object in use that is its maker, or who owned its
///   root at the last exact count; in a free slot that a CPU caches, who was charged for it last; otherwise nobody. It
///   changes inside a section of the CPU that caches the slot, or while the world is stopped.
/// - **R10** `extent` bytes behind the value belong to the object; only a `Buffer` by itself has any.
///
/// No ordering between CPUs is needed but for `lender` and `middle`: an object changes hands on one thread, or through a lock of
/// the receiver's, and the sweep reads after every CPU has passed through the kernel (docs/rref.md, R8). What has
/// to hold is the order in which *this* thread's stores happen, because a kill can come between any two of them:
/// stores are `Release`, and [`settle`] keeps later ones behind.
///
/// One cache line, so that a value begins at the next: what a device writes and what a crossing writes are not in one.
#[repr(C, align(64))]
pub struct Header {
    owner: AtomicU64,
    lender: AtomicU64,
    middle: AtomicU64,
    type_id: AtomicU64,
    borrows: AtomicU32,
    /// No kill and no other CPU comes between its changes (R9), so the model checker need not look.
    payer: core::sync::atomic::AtomicU32,
    /// How many bytes follow the value, in a [`crate::Buffer`]; else 0. Its maker writes it, before anybody else knows the
    /// object.
    extent: core::sync::atomic::AtomicUsize,
}

impl Header {
    /// Bytes between the header and the value.
    pub const SIZE: usize = size_of::<Self>();

    /// The header of the object whose value is at `value`.
    ///
    /// # Safety
    /// `value` came from the shared heap and is not freed while the answer is used.
    #[inline(always)]
    pub unsafe fn of<'a>(value: NonNull<u8>) -> &'a Self {
        // SAFETY: the shared heap puts a header in front of every value (heap::span).
        let header = unsafe { value.cast::<Self>().sub(1) };
        // SAFETY: it lives as long as the value.
        unsafe { header.as_ref() }
    }

    /// The value's address.
    pub fn value(&self) -> NonNull<u8> {
        // SAFETY: a header is never the last thing in its span: its value follows.
        unsafe { NonNull::from(self).add(1).cast() }
    }

    /// Whose it is.
    #[inline(always)]
    pub fn owner(&self) -> DomainId {
        DomainId::from_bits(self.owner.load(Ordering::Relaxed))
    }

    /// Gives it to `owner`. What was written before stays before.
    ///
    /// # Safety
    /// R3: the caller runs for the present owner, or is trusted code that answers for it. R2: `owner` is `NESTED` only
    /// if another object holds the reference.
    #[inline(always)]
    pub unsafe fn set_owner(&self, owner: DomainId) {
        self.owner.store(owner.to_bits(), Ordering::Release);
    }

    /// Who lent it, or nobody.
    pub fn lender(&self) -> DomainId {
        DomainId::from_bits(self.lender.load(Ordering::Acquire))
    }

    pub(crate) fn set_lender(&self, lender: DomainId) {
        self.lender.store(lender.to_bits(), Ordering::Relaxed);
    }

    /// Ends the loan if `lender` still waits for it. The borrower that gives back and the lender that lets go may
    /// both try; the one that gets `false` knows that the other did (docs/rref.md, R5).
    pub(crate) fn end_loan(&self, lender: DomainId) -> bool {
        let none = DomainId::NONE.to_bits();
        self.lender.compare_exchange(lender.to_bits(), none, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The borrower that has lent it on and claims it, or nobody.
    pub fn middle(&self) -> DomainId {
        DomainId::from_bits(self.middle.load(Ordering::Acquire))
    }

    pub(crate) fn set_middle(&self, middle: DomainId) {
        self.middle.store(middle.to_bits(), Ordering::Release);
    }

    /// As [`Self::end_loan`], of what `middle` has lent on.
    pub(crate) fn end_subloan(&self, middle: DomainId) -> bool {
        let none = DomainId::NONE.to_bits();
        self.middle.compare_exchange(middle.to_bits(), none, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The published type.
    pub fn type_id(&self) -> Fingerprint {
        Fingerprint(self.type_id.load(Ordering::Relaxed))
    }

    /// Publishes that the value is a whole one of that type, or with [`UNTYPED`] that it may not be.
    ///
    /// # Safety
    /// R4.
    #[inline(always)]
    pub unsafe fn set_type(&self, type_id: Fingerprint) {
        self.type_id.store(type_id.0, Ordering::Release);
    }

    /// How many calls keep it.
    pub(crate) fn borrows(&self) -> u32 {
        self.borrows.load(Ordering::Acquire)
    }

    /// One call more keeps it.
    pub(crate) fn retain(&self) {
        self.borrows.fetch_add(1, Ordering::Relaxed);
    }

    /// One call less keeps it; true if that was the last one.
    pub(crate) fn release(&self) -> bool {
        self.borrows.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Who is charged for it.
    #[inline(always)]
    pub fn payer(&self) -> Payer {
        Payer(self.payer.load(Ordering::Relaxed))
    }

    /// Has `payer` be charged for it; the quotas are the caller's to change (R9).
    pub(crate) fn set_payer(&self, payer: Payer) {
        self.payer.store(payer.0, Ordering::Relaxed);
    }

    /// How many bytes follow the value.
    #[inline(always)]
    pub(crate) fn extent(&self) -> usize {
        self.extent.load(Ordering::Relaxed)
    }

    /// Says how many bytes follow the value.
    ///
    /// # Safety
    /// They are there, initialised, and nobody else knows the object yet.
    pub(crate) unsafe fn set_extent(&self, bytes: usize) {
        self.extent.store(bytes, Ordering::Relaxed);
    }

    /// Makes the header of a slot that was free that of a new object.
    #[inline(always)]
    pub(crate) fn reset(&self, owner: DomainId) {
        self.type_id.store(UNTYPED.0, Ordering::Relaxed);
        // Nobody claims a free slot (R5).
        self.extent.store(0, Ordering::Relaxed);
        self.borrows.store(0, Ordering::Relaxed);
        self.owner.store(owner.to_bits(), Ordering::Release);
    }
}

/// Keeps the stores that follow behind the ones before, as a kill on this CPU sees them. x86 keeps stores in order,
/// so only the compiler has to be told.
#[inline(always)]
pub(crate) fn settle() {
    compiler_fence(Ordering::SeqCst);
}
