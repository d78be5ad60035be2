//! [`TypeEntry`]: the destructor and references of a type, for objects whose maker is gone.

use core::ptr;

use coppice_abi::Fingerprint;

use crate::{Header, Shareable};

/// The kernel's registry entry of one type with references inside. The functions are those of the image that
/// made the entry: the kernel fills its registry with its own, so that freeing memory never needs a vtable or
/// a destructor of a domain's image.
#[derive(Clone, Copy)]
pub struct TypeEntry {
    /// The type's shape.
    id: Fingerprint,
    name: &'static str,
    drop: DropValue,
    for_each_root: VisitRoots,
}

/// Runs the destructor of the value at the pointer.
///
/// Safety: the pointer is to a complete value of the entry's type that is not used afterwards.
pub type DropValue = unsafe fn(*mut u8);

/// Visits the roots of the value at the pointer.
///
/// Safety: the pointer is to a complete value of the entry's type that does not change during the call.
pub type VisitRoots = unsafe fn(*const u8, VisitRoot<'_>);

/// A visitor of the roots of a value.
pub type VisitRoot<'a> = &'a mut dyn FnMut(&Header);

impl TypeEntry {
    /// Returns this image's entry for `T`.
    pub fn of<T: Shareable>() -> Self {
        Self {
            id: T::SHAPE,
            name: core::any::type_name::<T>(),
            // SAFETY: the field's contract is `drop_in_place`'s.
            drop: |value| unsafe { ptr::drop_in_place(value.cast::<T>()) },
            for_each_root: |value, mut visit| {
                // SAFETY: the field's contract: a complete, unchanging `T`.
                let value = unsafe { &*value.cast::<T>() };
                value.for_each_root(&mut visit);
            },
        }
    }

    /// Makes the entry of a type that is no [`Shareable`].
    ///
    /// # Safety
    /// The functions keep their contracts for values of the type with that id.
    pub const unsafe fn new(
        id: Fingerprint,
        name: &'static str,
        drop: DropValue,
        for_each_root: VisitRoots,
    ) -> Self {
        Self { id, name, drop, for_each_root }
    }

    /// The type's shape.
    pub const fn id(&self) -> Fingerprint {
        self.id
    }

    /// The type's name, for messages.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Runs the destructor of a value.
    ///
    /// # Safety
    /// `value` is a complete value of this type that is not used afterwards.
    pub unsafe fn drop_value(&self, value: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { (self.drop)(value) }
    }

    /// Visits the roots of a value.
    ///
    /// # Safety
    /// `value` is a complete value of this type that does not change during the call.
    pub unsafe fn for_each_root(&self, value: *const u8, visit: VisitRoot<'_>) {
        // SAFETY: the caller's promise.
        unsafe { (self.for_each_root)(value, visit) }
    }
}
