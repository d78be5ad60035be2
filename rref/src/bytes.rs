//! [`Bytes`]: a byte buffer of fixed capacity with the length of its filled part.

use core::fmt;
use core::ops::{Deref, DerefMut};

use crate::{AnyBits, Flat, RRef, Shareable};

/// Up to `N` bytes; dereferences to the filled part.
#[derive(Shareable, Flat, AnyBits)]
#[repr(C)]
pub struct Bytes<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

/// An attempt to put more bytes into a [`Bytes`] than it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct TooLong {
    /// Number of bytes given.
    pub len: usize,
    /// Number of bytes that fit.
    pub capacity: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit a buffer of {}", self.len, self.capacity)
    }
}

impl core::error::Error for TooLong {}

impl<const N: usize> Bytes<N> {
    /// Number of bytes that fit.
    pub const CAPACITY: usize = N;

    /// Makes an empty buffer on the shared heap, cleared in place. Like [`RRef::new`], it ends a domain whose
    /// request is refused.
    #[track_caller]
    pub fn new_shared() -> RRef<Self> {
        RRef::zeroed()
    }

    /// Makes a buffer on the shared heap with a copy of `bytes`.
    ///
    /// # Errors
    /// When `bytes` do not fit.
    #[track_caller]
    pub fn shared_from(bytes: &[u8]) -> Result<RRef<Self>, TooLong> {
        let mut buffer = Self::new_shared();
        buffer.set(bytes)?;
        Ok(buffer)
    }

    /// Replaces the content.
    ///
    /// # Errors
    /// When `bytes` do not fit; the content is then unchanged.
    pub fn set(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.set_len(bytes.len())?;
        self.copy_from_slice(bytes);
        Ok(())
    }

    /// Makes the first `len` bytes the filled part, with their present values: for use after a device's
    /// transfer.
    ///
    /// # Errors
    /// When `len` is more than the capacity.
    pub fn set_len(&mut self, len: usize) -> Result<(), TooLong> {
        if len > N {
            return Err(TooLong { len, capacity: N });
        }
        self.len = len;
        Ok(())
    }
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl<const N: usize> DerefMut for Bytes<N> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {N} bytes", self.len)
    }
}
