//! [`Header`]: the metadata in front of every shared object.

use core::arch::{asm, naked_asm};
use core::ptr::NonNull;
#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, AtomicU64};
use core::sync::atomic::{Ordering, compiler_fence};

#[cfg(not(test))]
use coppice_abi::services;
use coppice_abi::{DomainId, TypeNumber};

// Tests replace the atomics, so that the model checker tries every interleaving with other CPUs' accesses.
use crate::Payer;
#[cfg(test)]
use crate::model::atomic::{AtomicU32, AtomicU64};
#[cfg(test)]
use crate::model::services;

/// Type of an object whose maker has not published one yet, or has taken the value out: it has no destructor
/// and no references inside.
pub(crate) const UNTYPED: TypeNumber = TypeNumber::NONE;

/// The metadata of a shared object, directly in front of its value.
///
/// # Invariants
/// - **R1** `owner` is [`DomainId::NONE`] exactly while the slot is free.
/// - **R2** `owner` is [`DomainId::NESTED`] while another object holds the only reference to this one, except
///   inside an operation of the domain that owns the root; such an operation links before it marks, and marks
///   before it unlinks, so that the sweep always finds the object through its root or by its owner.
/// - **R3** Only code that runs for the owner, or trusted code while that domain is stopped, changes `owner`.
/// - **R4** `type_number` is the value's type, or [`UNTYPED`] while the value may be incomplete; the objects
///   that such a value refers to are owned by a domain, not nested.
/// - **R5** `lender` is not `NONE` exactly while the object is lent; then `owner` is the borrower, or the
///   object is nested in one of the borrower's. `middle` is a borrower that has lent the object on and still
///   holds its `Subloan`: then `owner` is the second borrower. The holder of the object sets it once; either
///   the holder or the middle domain ends it, whichever is first. If the middle domain dies, its entry is
///   removed before the lender gets the object back.
/// - **R6** `borrows` counts calls that still read an object although their caller has died; only the kernel
///   changes it.
/// - **R9** `payer` is the instance whose quota is charged for the slot's bytes. For an object in use that is
///   its maker, or the owner of its root at the last exact count; for a free slot that a CPU caches, the
///   instance that was charged last; otherwise none. For an object that died with its owner while a call
///   reads it, the owner's slot. It changes inside a section of the CPU that caches the slot, by the sweep of
///   the owner, or while the world is stopped.
/// - **R10** `extent` bytes behind the value belong to the object; only a root `Buffer` has any.
/// - **R11** If `owner` is an instance of a domain, or `payer` one that is alive, `remembered` has the bit of
///   its bucket, and the span is in the list of that bucket. A bit is set before the owner changes, and
///   cleared only by the sweep of a dead instance, if no other domain of its bucket runs.
///
/// Only `lender` and `middle` need ordering between CPUs: an object changes hands on one thread, or through a
/// lock of the receiver's, and the sweep reads after every CPU has passed through the kernel (docs/rref.md,
/// R8). The order of *this* thread's stores has to hold, because a kill can come between any two of them:
/// stores are `Release`, and [`settle`] keeps later ones behind.
///
/// The header is one cache line, so that a value begins at the next one and a device's writes do not share a
/// line with a crossing's.
#[repr(C, align(64))]
pub struct Header {
    owner: AtomicU64,
    lender: AtomicU64,
    middle: AtomicU64,
    type_number: AtomicU64,
    borrows: AtomicU32,
    /// Not replaced in the model: no kill and no other CPU comes between its changes (R9).
    payer: core::sync::atomic::AtomicU64,
    /// Number of bytes behind the value of a [`crate::Buffer`]; else 0. Written by the object's maker before
    /// it shares the object.
    extent: core::sync::atomic::AtomicUsize,
    /// The buckets whose lists the span was put in for this slot. Not replaced in the model: a bit that is
    /// set too early does no harm, and the sweep that clears one belongs to a domain without code.
    remembered: core::sync::atomic::AtomicU64,
}

impl Header {
    /// Bytes between the header and the value.
    pub const SIZE: usize = size_of::<Self>();

    /// Returns the header of the object whose value is at `value`.
    ///
    /// # Safety
    /// `value` came from the shared heap and is not freed while the result is used.
    #[inline(always)]
    pub unsafe fn of<'a>(value: NonNull<u8>) -> &'a Self {
        // SAFETY: the shared heap puts a header in front of every value (heap::span).
        let header = unsafe { value.cast::<Self>().sub(1) };
        // SAFETY: it is valid as long as the value.
        unsafe { header.as_ref() }
    }

    /// Returns the value's address.
    pub fn value(&self) -> NonNull<u8> {
        // SAFETY: a header is never the last thing in its span: its value follows.
        unsafe { NonNull::from(self).add(1).cast() }
    }

    /// Returns the owner.
    #[inline(always)]
    pub fn owner(&self) -> DomainId {
        DomainId::from_bits(self.owner.load(Ordering::Relaxed))
    }

    /// Gives the object to the instance `owner` of a domain. Earlier writes stay before this one.
    ///
    /// # Safety
    /// R3: the caller runs for the present owner, or is trusted code that acts for it.
    #[inline(always)]
    pub unsafe fn pass_to(&self, owner: DomainId) {
        if !self.is_remembered(owner) {
            remember_here(self, owner);
        }
        // SAFETY: the caller's promise. R11: just checked.
        unsafe { self.set_owner(owner) };
    }

    /// Sets the owner. Earlier writes stay before this one.
    ///
    /// # Safety
    /// R3: the caller runs for the present owner, or is trusted code that acts for it. R2: `owner` is
    /// `NESTED` only if another object holds the reference. R11: the object is remembered for an `owner` that
    /// is an instance of a domain.
    #[inline(always)]
    pub(crate) unsafe fn set_owner(&self, owner: DomainId) {
        self.owner.store(owner.to_bits(), Ordering::Release);
    }

    /// Returns true if the sweep of `owner` finds the object (R11).
    #[inline(always)]
    pub(crate) fn is_remembered(&self, owner: DomainId) -> bool {
        self.remembered.load(Ordering::Relaxed) & (1 << bucket(owner)) != 0
    }

    /// Sets the bit of `owner`'s bucket, once the span is in that bucket's list.
    pub(crate) fn set_remembered(&self, owner: DomainId) {
        self.remembered.fetch_or(1 << bucket(owner), Ordering::Relaxed);
    }

    /// Clears the bit of `owner`'s bucket.
    pub(crate) fn forget(&self, owner: DomainId) {
        let bit = 1 << bucket(owner);
        if self.remembered.load(Ordering::Relaxed) & bit != 0 {
            self.remembered.fetch_and(!bit, Ordering::Relaxed);
        }
    }

    /// Returns the lender, or [`DomainId::NONE`].
    #[inline(always)]
    pub fn lender(&self) -> DomainId {
        DomainId::from_bits(self.lender.load(Ordering::Acquire))
    }

    #[inline(always)]
    pub(crate) fn set_lender(&self, lender: DomainId) {
        self.lender.store(lender.to_bits(), Ordering::Relaxed);
    }

    /// Ends the loan if `lender` still holds its half. The borrower that returns the object and the lender
    /// that lets go may both try; the one that gets `false` knows that the other did (docs/rref.md, R5).
    #[inline]
    pub(crate) fn end_loan(&self, lender: DomainId) -> bool {
        let none = DomainId::NONE.to_bits();
        self.lender.compare_exchange(lender.to_bits(), none, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Returns the borrower that has lent the object on and still holds its `Subloan`, or [`DomainId::NONE`].
    #[inline(always)]
    pub fn middle(&self) -> DomainId {
        DomainId::from_bits(self.middle.load(Ordering::Acquire))
    }

    #[inline(always)]
    pub(crate) fn set_middle(&self, middle: DomainId) {
        self.middle.store(middle.to_bits(), Ordering::Release);
    }

    /// Ends the loan that `middle` has made, as [`Self::end_loan`].
    #[inline]
    pub(crate) fn end_subloan(&self, middle: DomainId) -> bool {
        let none = DomainId::NONE.to_bits();
        self.middle.compare_exchange(middle.to_bits(), none, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Returns the published type.
    #[inline(always)]
    pub fn type_number(&self) -> TypeNumber {
        TypeNumber::from_bits(self.type_number.load(Ordering::Relaxed))
    }

    /// Publishes that the value is a complete one of that type, or with [`UNTYPED`] that it may be
    /// incomplete.
    ///
    /// # Safety
    /// R4.
    #[inline(always)]
    pub unsafe fn set_type(&self, number: TypeNumber) {
        self.type_number.store(number.to_bits(), Ordering::Release);
    }

    /// Returns the borrow count.
    pub(crate) fn borrows(&self) -> u32 {
        self.borrows.load(Ordering::Acquire)
    }

    /// Increments the borrow count.
    pub(crate) fn retain(&self) {
        self.borrows.fetch_add(1, Ordering::Relaxed);
    }

    /// Decrements the borrow count. Returns true if it reached zero.
    pub(crate) fn release(&self) -> bool {
        self.borrows.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Returns the instance whose quota is charged.
    #[inline(always)]
    pub fn payer(&self) -> Payer {
        Payer(self.payer.load(Ordering::Relaxed))
    }

    /// Sets the instance that is charged; the caller adjusts the quotas (R9).
    pub(crate) fn set_payer(&self, payer: Payer) {
        self.payer.store(payer.0, Ordering::Relaxed);
    }

    /// Returns the number of bytes behind the value.
    #[inline(always)]
    pub(crate) fn extent(&self) -> usize {
        self.extent.load(Ordering::Relaxed)
    }

    /// Sets the number of bytes behind the value.
    ///
    /// # Safety
    /// These bytes exist and are initialised, and no other code knows the object yet.
    pub(crate) unsafe fn set_extent(&self, bytes: usize) {
        self.extent.store(bytes, Ordering::Relaxed);
    }

    /// Makes the header of a free slot that of a new object.
    #[inline(always)]
    pub(crate) fn reset(&self, owner: DomainId) {
        self.type_number.store(UNTYPED.to_bits(), Ordering::Relaxed);
        // A free slot has neither `lender` nor `middle` (R5).
        self.extent.store(0, Ordering::Relaxed);
        self.borrows.store(0, Ordering::Relaxed);
        self.owner.store(owner.to_bits(), Ordering::Release);
    }
}

/// Number of the buckets that slots of domains are divided into, for the remembered sets.
pub(crate) const BUCKETS: usize = 64;

/// Returns the bucket of a domain's slot. Domains of systems with fewer than [`BUCKETS`] domains have buckets
/// of their own.
#[inline(always)]
pub(crate) const fn bucket(owner: DomainId) -> usize {
    owner.slot() % BUCKETS
}

/// Has the kernel remember that `owner` may own the object.
///
/// An ordinary call would make each function that passes an object on save registers at its beginning, for a
/// call that it nearly never makes (measured: three instructions a crossing).
#[inline(always)]
fn remember_here(header: &Header, owner: DomainId) {
    core::hint::cold_path();
    // SAFETY: the function preserves all registers that are not named here, takes its arguments off the
    // stack, and has the memory effects of a call.
    unsafe {
        asm!("push {owner}", "push {value}", "call {function}",
            function = sym remember_preserving, value = in(reg) header.value().as_ptr(), owner = in(reg) owner.to_bits(),
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _);
    }
}

/// Calls [`remember`] with the two words on the stack, removes them, and preserves the general registers.
#[unsafe(naked)]
extern "C" fn remember_preserving() {
    // Nine registers, two words and the return address: the stack is aligned for the call.
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "mov rdi, [rsp + 80]",
        "mov rsi, [rsp + 88]",
        "call {remember}",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "ret 16",
        remember = sym remember,
    )
}

#[cold]
extern "C" fn remember(value: *mut u8, owner: DomainId) {
    // SAFETY: a live object of the shared heap.
    unsafe { (services().shared_remember)(value, owner) };
}

/// Keeps later stores behind earlier ones, as a kill on this CPU sees them. x86 keeps stores in order, so
/// this only constrains the compiler.
#[inline(always)]
pub(crate) fn settle() {
    compiler_fence(Ordering::SeqCst);
}
