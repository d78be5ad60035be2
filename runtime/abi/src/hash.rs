//! Content hashes, which identify types and interfaces across images.

use core::fmt;

/// A content hash of a name, a signature or a layout.
///
/// 64-bit FNV-1a, computed by the compiler. It distinguishes builds and types; it is no defence against
/// forged images (docs/safety.md). The kernel's registry refuses to start with two equal ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Fingerprint(pub u64);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Starts a fingerprint with a name or a canonical signature.
pub const fn fingerprint(text: &str) -> Fingerprint {
    Fingerprint(0xcbf2_9ce4_8422_2325).text(text)
}

impl Fingerprint {
    const fn byte(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }

    /// Adds a text and its length, so that "ab","c" and "a","bc" differ.
    pub const fn text(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self = self.byte(bytes[i]);
            i += 1;
        }
        self.number(bytes.len() as u64)
    }

    /// Adds a number: a size, an alignment, an offset, another fingerprint's bits.
    pub const fn number(mut self, number: u64) -> Self {
        let bytes = number.to_le_bytes();
        let mut i = 0;
        while i < bytes.len() {
            self = self.byte(bytes[i]);
            i += 1;
        }
        self
    }

    /// Adds another fingerprint.
    pub const fn with(self, other: Self) -> Self {
        self.number(other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_boundaries_change_the_fingerprint() {
        assert_ne!(fingerprint("ab").text("c"), fingerprint("a").text("bc"));
    }

    #[test]
    fn order_changes_the_fingerprint() {
        assert_ne!(fingerprint("x").number(1).number(2), fingerprint("x").number(2).number(1));
    }
}
