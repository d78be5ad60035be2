//! [`Bytes`]: a byte buffer that knows how much of it is filled.

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

/// More bytes than a [`Bytes`] holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct TooLong {
    /// How many were given.
    pub len: usize,
    /// How many fit.
    pub capacity: usize,
}

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit a buffer of {}", self.len, self.capacity)
    }
}

impl core::error::Error for TooLong {}

impl<const N: usize> Bytes<N> {
    /// How many bytes fit.
    pub const CAPACITY: usize = N;

    /// An empty buffer on the shared heap, cleared in place. As [`RRef::new`], it ends a domain that may not have one.
    #[track_caller]
    pub fn new_shared() -> RRef<Self> {
        RRef::zeroed()
    }

    /// A buffer on the shared heap with a copy of `bytes`.
    ///
    /// # Errors
    /// When they do not fit.
    #[track_caller]
    pub fn shared_from(bytes: &[u8]) -> Result<RRef<Self>, TooLong> {
        let mut buffer = Self::new_shared();
        buffer.set(bytes)?;
        Ok(buffer)
    }

    /// Replaces the content.
    ///
    /// # Errors
    /// When `bytes` do not fit; the content is then as before.
    pub fn set(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.set_len(bytes.len())?;
        self.copy_from_slice(bytes);
        Ok(())
    }

    /// Makes the first `len` bytes the filled part, whatever they hold: what a device does after a transfer.
    ///
    /// # Errors
    /// When `len` is more than fits.
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
