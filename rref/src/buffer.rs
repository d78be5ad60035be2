//! [`Buffer`]: a head and a number of bytes chosen by its maker, in one shared object.
//!
//! It is the form of a device request: a few command words, and the data. The number of bytes is
//! in the object's own header, which no domain can write. So a faulty borrower can change the values of the
//! bytes but not where they end, and a device that was given the address stays inside the object. Rejected:
//! the number in the value (a borrower could change it), a type for each size (a queue has one type of
//! request), a slice reference of two words (one word crosses).

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::slice;

use coppice_abi::TypeNumber;

use crate::rref::refused;
use crate::{AnyBits, Flat, Lent, RRef, Shareable};

/// Maximum number of bytes of one [`Buffer`].
pub const MAX_BUFFER: usize = 1 << 30;

/// A head `H`, to which it dereferences, and a number of bytes behind it that its maker chose
/// ([`RRef::with_capacity`]). With a head of 64 bytes the bytes are aligned to 64.
///
/// The bytes are reached through the reference to the object, [`RRef`] or [`Lent`]. A buffer that is not
/// behind a reference of its own (a part of another object, or taken out by [`RRef::into_inner`]) is its head
/// and no more.
#[derive(Shareable, Flat, AnyBits)]
#[repr(transparent)]
pub struct Buffer<H: AnyBits> {
    head: H,
}

impl<H: AnyBits + fmt::Debug> fmt::Debug for Buffer<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.head.fmt(f)
    }
}

impl<H: AnyBits> Deref for Buffer<H> {
    type Target = H;
    #[inline(always)]
    fn deref(&self) -> &H {
        &self.head
    }
}

impl<H: AnyBits> DerefMut for Buffer<H> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut H {
        &mut self.head
    }
}

impl<H: AnyBits> RRef<Buffer<H>> {
    /// Makes a buffer of `bytes` zeroes behind `head`.
    ///
    /// Like [`RRef::new`], it ends a domain whose request is refused, also if `bytes` is more than
    /// [`MAX_BUFFER`].
    #[track_caller]
    pub fn with_capacity(head: H, bytes: usize) -> Self {
        let Ok(buffer) = Self::try_with_capacity(head, bytes) else { refused() };
        buffer
    }

    /// Makes a buffer like [`Self::with_capacity`], but returns when it is refused.
    ///
    /// # Errors
    /// The head, when the shared heap or the domain's quota is exhausted, or `bytes` is more than
    /// [`MAX_BUFFER`].
    pub fn try_with_capacity(head: H, bytes: usize) -> Result<Self, H> {
        if bytes > MAX_BUFFER {
            return Err(head);
        }
        let Some(place) = Self::allocate_with(bytes) else { return Err(head) };
        // SAFETY: from `allocate_with`.
        Ok(unsafe { Self::write_to(place, TypeNumber::NONE, Buffer { head }) })
    }
}

/// The methods of both kinds of reference. Slices are made from the reference's own pointer, which is to the
/// whole object: one made from a `&Buffer` would reach beyond the memory that it may access.
macro_rules! bytes_of {
    ($reference:ident) => {
        impl<H: AnyBits> $reference<Buffer<H>> {
            /// Returns the head.
            #[inline(always)]
            pub fn head(&self) -> &H {
                &self.head
            }

            /// Returns the head for writing.
            #[inline(always)]
            pub fn head_mut(&mut self) -> &mut H {
                &mut self.head
            }

            /// Returns the number of bytes behind the head.
            #[inline(always)]
            pub fn capacity(&self) -> usize {
                self.header().extent()
            }

            /// Returns all bytes.
            #[inline]
            pub fn bytes(&self) -> &[u8] {
                // SAFETY: the object is as long as its header says (`allocate_with`), initialised, and any
                // bits are bytes.
                unsafe { slice::from_raw_parts(self.first_byte().as_ptr(), self.capacity()) }
            }

            /// Returns all bytes for writing.
            #[inline]
            pub fn bytes_mut(&mut self) -> &mut [u8] {
                // SAFETY: as above, and `self` is borrowed mutably.
                unsafe { slice::from_raw_parts_mut(self.first_byte().as_ptr(), self.capacity()) }
            }

            /// Returns the address of the first byte: the memory that a device reads and writes.
            #[inline(always)]
            pub fn bytes_address(&self) -> usize {
                self.first_byte().as_ptr() as usize
            }

            #[inline(always)]
            fn first_byte(&self) -> NonNull<u8> {
                // SAFETY: the end of the head is within the object, or one past it.
                unsafe { self.value().add(1) }.cast()
            }
        }
    };
}

bytes_of!(RRef);
bytes_of!(Lent);
