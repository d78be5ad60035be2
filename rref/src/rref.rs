//! [`RRef`]: one owned object on the shared heap.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::panic::Location;
use core::ptr::NonNull;

#[cfg(not(test))]
use coppice_abi::services;
use coppice_abi::{CrashKind, CrashReport, DomainId, Fingerprint, TypeNumber, fingerprint, me};

use crate::header::{UNTYPED, settle};
#[cfg(test)]
use crate::model::services;
use crate::{AnyBits, Flat, Header, Shareable, TypeEntry, heap};

/// An owned reference to a `T` on the shared heap.
///
/// Passing one to another domain moves ownership; passing `&RRef<T>` lets the callee read it for the length
/// of the call. If the domain that owns it dies, the kernel runs its destructor and frees it.
///
/// # Invariants
/// - **R7** `value` came from the shared heap, holds a complete `T`, and this is the only `RRef` to it. Code
///   that holds an `RRef` outside a shared object runs for the domain that `owner` names.
#[repr(transparent)]
pub struct RRef<T: Shareable> {
    value: NonNull<T>,
    owns: PhantomData<T>,
}

// SAFETY: an RRef owns its value like a Box, and `Shareable` implies `Send`.
unsafe impl<T: Shareable> Send for RRef<T> {}
// SAFETY: a shared RRef gives shared access to its value only, and `Shareable` implies `Sync`.
unsafe impl<T: Shareable> Sync for RRef<T> {}

impl<T: Shareable> RRef<T> {
    /// Moves `value` to the shared heap.
    ///
    /// If the shared heap or the calling domain's quota of it is exhausted, this ends the domain; see
    /// [`Self::try_new`].
    ///
    /// # Panics
    /// When `T` holds references and no interface mentions it, so that the kernel could not destroy it.
    #[track_caller]
    pub fn new(value: T) -> Self {
        // Not by `unwrap_or_else`: a closure would be the caller that the report names.
        let Some((place, number)) = Self::allocate() else { refused() };
        // SAFETY: from `allocate`.
        unsafe { Self::write_to(place, number, value) }
    }

    /// Moves `value` to the shared heap like [`Self::new`], but returns `value` if the request is refused.
    pub fn try_new(value: T) -> Result<Self, T> {
        let Some((place, number)) = Self::allocate() else { return Err(value) };
        // SAFETY: from `allocate`.
        Ok(unsafe { Self::write_to(place, number, value) })
    }

    /// Writes a value to a new object.
    ///
    /// # Safety
    /// `place` and `number` came from [`Self::allocate`], or `T` has no references inside and `place` came
    /// from [`Self::allocate_with`]; no other code knows the place.
    #[inline(always)]
    pub(crate) unsafe fn write_to(place: NonNull<T>, number: TypeNumber, value: T) -> Self {
        // SAFETY: fresh memory of `T`'s size and alignment.
        unsafe { place.write(value) };
        // SAFETY: just written.
        unsafe { Self::publish(place, number) }
    }

    /// Allocates like [`Self::allocate`], with `bytes` more behind the value, all zero, where devices reach
    /// them.
    ///
    /// `bytes` is at most [`crate::MAX_BUFFER`].
    pub(crate) fn allocate_with(bytes: usize) -> Option<NonNull<T>> {
        const { assert!(!T::ROOTS, "an object that is longer than its type has no references inside") };
        let size = size_of::<T>() + bytes;
        let class = heap::dma_class_of(size, align_of::<T>());
        // SAFETY: `class` was computed for this size.
        let value = unsafe { (services().shared_alloc)(class, size, align_of::<T>()) };
        let value = NonNull::new(value)?.cast::<T>();
        // SAFETY: within the allocated memory.
        let behind = unsafe { value.add(1) }.cast::<u8>();
        // Cleared, because the memory may have belonged to another domain.
        // SAFETY: fresh memory of this many bytes.
        unsafe { behind.write_bytes(0, bytes) };
        // SAFETY: from the shared heap.
        let header = unsafe { Header::of(value.cast()) };
        // SAFETY: R10: they exist and are zero, and no other code knows the object.
        unsafe { header.set_extent(bytes) };
        Some(value)
    }

    /// Allocates memory for a `T`, owned by the calling domain and untyped; if the domain dies, it is freed.
    /// Returns it with the number of `T`, which is `NONE` for a type without references inside.
    fn allocate() -> Option<(NonNull<T>, TypeNumber)> {
        const {
            assert!(
                T::ROOTS || !core::mem::needs_drop::<T>(),
                "a shared type without references inside may not have a destructor"
            );
        }
        let mut number = TypeNumber::NONE;
        if T::ROOTS {
            number = (services().shared_type)(T::SHAPE);
            assert!(
                number != TypeNumber::NONE,
                "no interface mentions {}, so it cannot be shared",
                core::any::type_name::<T>()
            );
        }
        let class = const { heap::class_of(size_of::<T>(), align_of::<T>()) };
        // SAFETY: `class` was computed for this size.
        let value = unsafe { (services().shared_alloc)(class, size_of::<T>(), align_of::<T>()) };
        NonNull::new(value.cast()).map(|place| (place, number))
    }

    /// Makes a reference to a written place. From here on a crash runs the destructor.
    ///
    /// # Safety
    /// `place` and `number` came from [`Self::allocate`], and the place holds a complete `T`.
    unsafe fn publish(place: NonNull<T>, number: TypeNumber) -> Self {
        let object = Self { value: place, owns: PhantomData };
        object.close(number);
        object
    }

    /// Makes the calling domain the owner of the objects inside the value, and the value untyped, so that it
    /// may be incomplete. Returns its type.
    #[inline(always)]
    fn open(&self) -> TypeNumber {
        let mut number = TypeNumber::NONE;
        if T::ROOTS {
            number = self.header().type_number();
            // SAFETY: R3: the caller owns this root. R2: marked before anything is unlinked.
            (**self).for_each_root(&mut |root| unsafe { root.pass_to(me()) });
            settle();
            // SAFETY: R4: all objects that the value refers to have a domain as owner now.
            unsafe { self.header().set_type(UNTYPED) };
            settle();
        }
        number
    }

    /// Ends the change that [`Self::open`] began: the value is complete and of type `number`, and the objects
    /// inside it are nested.
    #[inline(always)]
    fn close(&self, number: TypeNumber) {
        if T::ROOTS {
            // In this order: the object is found through its type before the objects inside it stop being
            // roots (R2).
            // SAFETY: R4: a complete `T`.
            unsafe { self.header().set_type(number) };
            // SAFETY: R3: the value's references are the caller's. R2: the value holds them.
            (**self).for_each_root(&mut |root| unsafe { root.set_owner(DomainId::NESTED) });
        }
    }

    /// Takes the value out and frees its place.
    pub fn into_inner(self) -> T {
        let object = ManuallyDrop::new(self);
        object.open();
        // SAFETY: R7: a complete `T`; `object` is not dropped, so this is the only copy that is used from
        // here on.
        let value = unsafe { object.value.read() };
        // SAFETY: R7: from the shared heap, and no reference to it is left.
        unsafe { (services().shared_free)(object.value.as_ptr().cast()) };
        value
    }

    /// Changes a value that may hold references. Inside `change` these belong to the calling domain, so they
    /// can be taken out and put in.
    pub fn update<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        // A kill may find the value half written, say an enum with the tag of one variant and the content of
        // another. So it has no type during the change, and the sweep frees the objects that were inside it
        // by their owner.
        let number = self.open();
        // SAFETY: R7, and `self` is borrowed mutably. The only way out of `change` is its return, since a
        // panic ends the domain, so `close` is always called.
        let result = change(unsafe { self.value_mut() });
        self.close(number);
        result
    }

    /// Returns the object's header.
    #[inline(always)]
    pub fn header(&self) -> &Header {
        // SAFETY: R7: from the shared heap, alive while `self` is.
        unsafe { Header::of(self.value.cast()) }
    }

    /// Returns the value's address: the memory that a device reads and writes.
    pub fn address(&self) -> usize {
        self.value.as_ptr() as usize
    }

    /// Returns the value for writing.
    ///
    /// # Safety
    /// The caller keeps R2 for each reference that it puts in or takes out.
    #[inline(always)]
    pub(crate) unsafe fn value_mut(&mut self) -> &mut T {
        // SAFETY: R7, and `self` is borrowed mutably.
        unsafe { self.value.as_mut() }
    }

    #[inline(always)]
    pub(crate) fn value(&self) -> NonNull<T> {
        self.value
    }

    pub(crate) fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).value
    }

    /// # Safety
    /// `value` came from [`Self::into_raw`], once.
    pub(crate) unsafe fn from_raw(value: NonNull<T>) -> Self {
        Self { value, owns: PhantomData }
    }

    /// Makes a second reference, for a proxy that passes on a borrow.
    ///
    /// # Safety
    /// The copy is never dropped and not used after the original is moved or dropped.
    #[doc(hidden)]
    #[inline(always)]
    pub unsafe fn alias(&self) -> ManuallyDrop<Self> {
        ManuallyDrop::new(Self { value: self.value, owns: PhantomData })
    }
}

impl<T: AnyBits> RRef<T> {
    /// Makes a `T` of all zero bytes, without a copy through the stack.
    ///
    /// Ends the domain, and panics, like [`Self::new`].
    #[track_caller]
    pub fn zeroed() -> Self {
        let Some((place, number)) = Self::allocate() else { refused() };
        // SAFETY: fresh memory of `T`'s size.
        unsafe { place.write_bytes(0, 1) };
        // SAFETY: any bytes are a value of `T`, zeroes too.
        unsafe { Self::publish(place, number) }
    }
}

/// Ends the calling domain after a refused request for a shared object that it cannot do without. It reports
/// [`CrashKind::OutOfMemory`], like an exhausted private heap, and not a panic, so that supervisors can tell
/// them apart.
#[cold]
#[track_caller]
pub fn refused() -> ! {
    let place = Location::caller();
    let report = CrashReport {
        kind: CrashKind::OutOfMemory,
        line: place.line(),
        file: place.file(),
        message: (services().shared_refusal)().text(),
    };
    // SAFETY: the report is valid for the call.
    unsafe { (services().crash)(&raw const report) }
}

impl<T: Shareable> Drop for RRef<T> {
    #[inline]
    fn drop(&mut self) {
        let value = self.value.as_ptr().cast();
        if T::ROOTS {
            // SAFETY: R7; the kernel runs the destructor of its own image's `T`.
            unsafe { (services().shared_drop)(value) };
        } else {
            // SAFETY: R7; a type without roots needs no destructor (checked in `allocate`).
            unsafe { (services().shared_free)(value) };
        }
    }
}

impl<T: Shareable> Deref for RRef<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: R7; changes need `&mut self`.
        unsafe { self.value.as_ref() }
    }
}

impl<T: Flat> DerefMut for RRef<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: R7, and `self` is borrowed mutably.
        unsafe { self.value.as_mut() }
    }
}

impl<T: Shareable + fmt::Debug> fmt::Debug for RRef<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

// SAFETY: an RRef is one root; its referent is visited through that object's own type.
unsafe impl<T: Shareable> Shareable for RRef<T> {
    const SHAPE: Fingerprint = fingerprint("RRef").with(T::SHAPE).finish();
    const ROOTS: bool = true;
    #[inline(always)]
    fn for_each_root<V: FnMut(&Header)>(&self, visit: &mut V) {
        visit(self.header());
    }
    fn for_each_type(visit: &mut dyn FnMut(TypeEntry)) {
        if T::ROOTS {
            visit(TypeEntry::of::<T>());
        }
        T::for_each_type(visit);
    }
}
