//! [`Text`]: a short string that may cross.

use core::fmt;
use core::ops::Deref;

use coppice_rref::{Flat, Shareable};

/// Up to `N` bytes of UTF-8. Longer text is cut at a character boundary.
#[derive(Clone, Copy, PartialEq, Eq, Shareable, Flat)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    /// The empty text.
    pub const EMPTY: Self = Self { bytes: [0; N], len: 0 };

    /// The first `N` bytes of `text`.
    pub fn new(text: &str) -> Self {
        let mut new = Self::EMPTY;
        let _ = fmt::Write::write_str(&mut new, text);
        new
    }

    /// The first `N` bytes of the formatted text.
    pub fn format(arguments: fmt::Arguments<'_>) -> Self {
        let mut new = Self::EMPTY;
        let _ = fmt::Write::write_fmt(&mut new, arguments);
        new
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut fits = text.len().min(N - self.len);
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        self.bytes[self.len..self.len + fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        Ok(())
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;
    fn deref(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).expect("only whole characters are written")
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
