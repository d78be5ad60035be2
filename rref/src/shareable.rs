//! [`Shareable`] and [`Flat`]: the types that may cross a domain boundary.

use core::time::Duration;

use coppice_abi::crossing::RpcError;
use coppice_abi::{CrashKind, DomainId, Fingerprint, fingerprint};

use crate::{Header, TypeEntry};

/// A type whose values may cross a domain boundary and live on the shared heap.
///
/// Plain data, [`crate::RRef`]s, interface handles and aggregates of them. Implement it with
/// `#[derive(Shareable)]`, which refuses a type with any other field.
///
/// A type that holds references to itself is refused too, since its shape would contain itself. So the
/// nesting depth of objects is known when they are compiled, and bounds the stack of the kernel's walks over
/// them.
///
/// ```compile_fail,E0391
/// use coppice_rref::{RRef, Shareable};
///
/// #[derive(Shareable)]
/// struct Node {
///     next: Option<RRef<Node>>,
/// }
/// let _ = Node::SHAPE;
/// ```
///
/// # Safety
/// A value has no borrowed data, no pointer into a private heap and no interior mutability (a shared borrow
/// must mean read-only, and another domain may read). `SHAPE` differs for types whose layout or meaning
/// differs. `for_each_root` visits every root that the value holds, once. `ROOTS` is false only if no value
/// can hold one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` may not cross a domain boundary",
    label = "not `Shareable`",
    note = "plain data, `RRef`s, interface handles and structs of them that `#[derive(Shareable)]` may cross; \
            references, raw pointers, `Box`, `Vec`, `String`, closures and anything with interior mutability may not"
)]
pub unsafe trait Shareable: Sized + Send + Sync + 'static {
    /// Content hash of the defining package, the type's name and its layout, and of all types inside.
    const SHAPE: Fingerprint;
    /// True if a value can hold references to the shared heap.
    const ROOTS: bool;

    /// Visits the header of each shared object that the value holds a reference to, but not of objects inside
    /// those.
    fn for_each_root<V: FnMut(&Header)>(&self, visit: &mut V);

    /// Visits the entry of each type that a value's references lead to, directly or not.
    fn for_each_type(visit: &mut dyn FnMut(TypeEntry));
}

/// A [`Shareable`] type without references inside; `#[derive(Shareable, Flat)]`.
///
/// Only such a value can be changed in place through [`crate::RRef`]'s `DerefMut`: taking a nested reference
/// out has to go through code that marks its new owner (docs/rref.md, R2).
///
/// # Safety
/// `ROOTS` is false and the type needs no destructor.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not flat: it may hold references to the shared heap",
    note = "change such a value with `RRef::update`, or derive `Flat` for it if all its fields are flat"
)]
pub unsafe trait Flat: Shareable {}

/// A [`Flat`] type of which any bytes are a value; `#[derive(Shareable, Flat, AnyBits)]`.
///
/// Numbers, arrays and structs of them: the types that a device may write, and that a domain that dies
/// halfway may change in a lent object ([`crate::Lent`]). Not `bool`, `char` or an enum: a tag that does not
/// exist, or that does not match the rest of the value, would be undefined behaviour in the domain that reads
/// it.
///
/// # Safety
/// Any bytes of the type's size are a value of it.
#[diagnostic::on_unimplemented(
    message = "not any bytes are a value of `{Self}`",
    note = "derive `AnyBits` for it if it is a struct whose fields all are `AnyBits`: numbers and arrays of them"
)]
pub unsafe trait AnyBits: Flat {}

macro_rules! any_bits {
    ($($type:ty)*) => {$(
        // SAFETY: a number.
        unsafe impl AnyBits for $type {}
    )*};
}

any_bits!(u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64);
// SAFETY: as its elements.
unsafe impl<T: AnyBits, const N: usize> AnyBits for [T; N] {}

macro_rules! plain {
    ($($type:ty)*) => {$(
        // SAFETY: plain data: no pointer, no interior mutability, no roots.
        #[diagnostic::do_not_recommend]
        unsafe impl Shareable for $type {
            const SHAPE: Fingerprint =
                fingerprint(concat!("plain ", stringify!($type)))
                    .number(size_of::<$type>() as u64)
                    .number(align_of::<$type>() as u64)
                    .finish();
            const ROOTS: bool = false;
            #[inline(always)]
            fn for_each_root<V: FnMut(&Header)>(&self, _: &mut V) {}
            fn for_each_type(_: &mut dyn FnMut(TypeEntry)) {}
        }
        // SAFETY: as above.
        unsafe impl Flat for $type {}
    )*};
}

plain!(() bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64 Duration);
plain!(DomainId Fingerprint RpcError CrashKind);

// SAFETY: an array holds the references of its elements.
unsafe impl<T: Shareable, const N: usize> Shareable for [T; N] {
    const SHAPE: Fingerprint = fingerprint("[;]").with(T::SHAPE).number(N as u64).finish();
    const ROOTS: bool = T::ROOTS && N > 0;
    #[inline(always)]
    fn for_each_root<V: FnMut(&Header)>(&self, visit: &mut V) {
        if Self::ROOTS {
            self.iter().for_each(|element| element.for_each_root(visit));
        }
    }
    fn for_each_type(visit: &mut dyn FnMut(TypeEntry)) {
        T::for_each_type(visit);
    }
}
// SAFETY: as its elements.
unsafe impl<T: Flat, const N: usize> Flat for [T; N] {}

// SAFETY: holds a `T` or nothing.
unsafe impl<T: Shareable> Shareable for Option<T> {
    const SHAPE: Fingerprint = fingerprint("Option").with(T::SHAPE).number(size_of::<Self>() as u64).finish();
    const ROOTS: bool = T::ROOTS;
    #[inline(always)]
    fn for_each_root<V: FnMut(&Header)>(&self, visit: &mut V) {
        if let Some(value) = self {
            value.for_each_root(visit);
        }
    }
    fn for_each_type(visit: &mut dyn FnMut(TypeEntry)) {
        T::for_each_type(visit);
    }
}
// SAFETY: as its content.
unsafe impl<T: Flat> Flat for Option<T> {}

// SAFETY: holds a `T` or an `E`.
unsafe impl<T: Shareable, E: Shareable> Shareable for Result<T, E> {
    const SHAPE: Fingerprint =
        fingerprint("Result").with(T::SHAPE).with(E::SHAPE).number(size_of::<Self>() as u64).finish();
    const ROOTS: bool = T::ROOTS || E::ROOTS;
    #[inline(always)]
    fn for_each_root<V: FnMut(&Header)>(&self, visit: &mut V) {
        match self {
            Ok(value) => value.for_each_root(visit),
            Err(error) => error.for_each_root(visit),
        }
    }
    fn for_each_type(visit: &mut dyn FnMut(TypeEntry)) {
        T::for_each_type(visit);
        E::for_each_type(visit);
    }
}
// SAFETY: as its contents.
unsafe impl<T: Flat, E: Flat> Flat for Result<T, E> {}

macro_rules! tuple {
    ($($name:ident $index:tt),+) => {
        // SAFETY: a tuple holds the references of its fields.
        unsafe impl<$($name: Shareable),+> Shareable for ($($name,)+) {
            const SHAPE: Fingerprint = fingerprint("()")
                $(.with($name::SHAPE).number(core::mem::offset_of!(Self, $index) as u64))+
                .number(size_of::<Self>() as u64)
                .finish();
            const ROOTS: bool = $($name::ROOTS)||+;
            #[inline(always)]
            fn for_each_root<VISIT: FnMut(&Header)>(&self, visit: &mut VISIT) {
                $(self.$index.for_each_root(visit);)+
            }
            fn for_each_type(visit: &mut dyn FnMut(TypeEntry)) {
                $($name::for_each_type(visit);)+
            }
        }
        // SAFETY: as its fields.
        unsafe impl<$($name: Flat),+> Flat for ($($name,)+) {}
    };
}

tuple!(A 0);
tuple!(A 0, B 1);
tuple!(A 0, B 1, C 2);
tuple!(A 0, B 1, C 2, D 3);
tuple!(A 0, B 1, C 2, D 3, E 4);
tuple!(A 0, B 1, C 2, D 3, E 4, F 5);
