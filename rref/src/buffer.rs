//! [`Buffer`]: a head and as many bytes as its maker asked for, in one shared object.
//!
//! What a request of a device is: a few words that say what to do, and the data. The number of bytes is in the object's own
//! header, which no domain can write. So a borrower that goes mad can change what the bytes are and not where they end, and
//! a device that was told the address is told the truth. Rejected: the number in the value (a borrower could change it), a
//! type for each size (a queue has one type of request), a slice reference of two words (what crosses is one).

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::slice;

use crate::rref::refused;
use crate::{AnyBits, Flat, Lent, RRef, Shareable};

/// Most bytes of one [`Buffer`].
pub const MAX_BUFFER: usize = 1 << 30;

/// A head `H`, to which it dereferences, and a number of bytes behind it that its maker chose
/// ([`RRef::with_capacity`]). With a head of 64 bytes the bytes are aligned to 64.
///
/// The bytes are reached through the reference to the object, [`RRef`] or [`Lent`]; a buffer that is not behind one of its
/// own (a part of another object, or taken out by [`RRef::into_inner`]) is its head and no more.
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
    /// A buffer of `bytes` zeroes behind `head`.
    ///
    /// As [`RRef::new`], it ends a domain that may not have one; and one that asks for more than [`MAX_BUFFER`].
    #[track_caller]
    pub fn with_capacity(head: H, bytes: usize) -> Self {
        let Ok(buffer) = Self::try_with_capacity(head, bytes) else { refused() };
        buffer
    }

    /// As [`Self::with_capacity`].
    ///
    /// # Errors
    /// The head, when there is no room, or `bytes` is more than [`MAX_BUFFER`].
    pub fn try_with_capacity(head: H, bytes: usize) -> Result<Self, H> {
        if bytes > MAX_BUFFER {
            return Err(head);
        }
        let Some(place) = Self::allocate_with(bytes) else { return Err(head) };
        // SAFETY: from `allocate_with`.
        Ok(unsafe { Self::write_to(place, Buffer { head }) })
    }
}

/// The same for both kinds of reference. Slices are made from the reference's own pointer, which is to the whole object: one
/// made from a `&Buffer` would reach beyond what that may.
macro_rules! bytes_of {
    ($reference:ident) => {
        impl<H: AnyBits> $reference<Buffer<H>> {
            /// The head.
            #[inline(always)]
            pub fn head(&self) -> &H {
                &self.head
            }

            /// The head, to change.
            #[inline(always)]
            pub fn head_mut(&mut self) -> &mut H {
                &mut self.head
            }

            /// How many bytes there are.
            #[inline(always)]
            pub fn capacity(&self) -> usize {
                self.header().extent()
            }

            /// All bytes.
            #[inline]
            pub fn bytes(&self) -> &[u8] {
                // SAFETY: the object is as long as its header says (`allocate_with`), initialised, and any bits are bytes.
                unsafe { slice::from_raw_parts(self.first_byte().as_ptr(), self.capacity()) }
            }

            /// All bytes, to change.
            #[inline]
            pub fn bytes_mut(&mut self) -> &mut [u8] {
                // SAFETY: as above, and `self` is borrowed mutably.
                unsafe { slice::from_raw_parts_mut(self.first_byte().as_ptr(), self.capacity()) }
            }

            /// Where the bytes begin: what a device reads and writes.
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
