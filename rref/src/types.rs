//! [`TypeEntry`]: how the kernel destroys an object whose maker is gone.

use core::ptr;

use coppice_abi::Fingerprint;

use crate::{Header, Shareable};

/// What the kernel's registry knows of one type with references inside. The functions are instances in the
/// image that made the entry: the kernel makes its registry of its own ones, so that no vtable or destructor of
/// a domain's image is ever needed to free memory.
#[derive(Clone, Copy)]
pub struct TypeEntry {
    /// The type's shape.
    pub id: Fingerprint,
    /// For messages.
    pub name: &'static str,
    /// Runs the destructor of the value at the pointer.
    ///
    /// Safety: the pointer is to a whole value of this type, which nobody uses afterwards.
    pub drop: unsafe fn(*mut u8),
    /// Visits the roots of the value at the pointer.
    ///
    /// Safety: the pointer is to a whole value of this type that nobody changes meanwhile.
    pub for_each_root: unsafe fn(*const u8, VisitRoot<'_>),
}

/// What is shown each root of a value.
pub type VisitRoot<'a> = &'a mut dyn FnMut(&Header);

impl TypeEntry {
    /// This image's entry for `T`.
    pub fn of<T: Shareable>() -> Self {
        Self {
            id: T::SHAPE,
            name: core::any::type_name::<T>(),
            // SAFETY: the field's contract is `drop_in_place`'s.
            drop: |value| unsafe { ptr::drop_in_place(value.cast::<T>()) },
            for_each_root: |value, mut visit| {
                // SAFETY: the field's contract: a whole, unchanging `T`.
                let value = unsafe { &*value.cast::<T>() };
                value.for_each_root(&mut visit);
            },
        }
    }
}
