//! Content hashes, which identify types and interfaces across images.
//!
//! Two images agree on a type only by its [`Fingerprint`], and the callee then believes the words that it is
//! passed. So a fingerprint is a SHA-256 (FIPS 180-4), computed by the compiler, over the identity of the
//! defining package and over the content; the types inside enter by their own fingerprints. `sha2`, which the
//! tests compare with, has no constant functions, and the crates that have some are not maintained.

use core::fmt;

/// A content hash of a name, a signature or a layout.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Fingerprint([u8; Self::SIZE]);

impl Fingerprint {
    /// Size in bytes.
    pub const SIZE: usize = 32;

    /// Returns the fingerprint with these bytes, as an image's notes hold it.
    ///
    /// It proves nothing: trusted code believes only the fingerprint of a type or an interface, which unsafe
    /// traits provide.
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    pub const fn to_bytes(self) -> [u8; Self::SIZE] {
        self.0
    }

    /// Returns the first 64 bits, for hash tables.
    #[inline(always)]
    pub const fn prefix(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Fingerprint {
    /// Writes the first 64 bits, which are enough for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.prefix())
    }
}

/// Starts a fingerprint with a name or a canonical signature.
pub const fn fingerprint(text: &str) -> Content {
    Content { digest: Digest::new() }.text(text)
}

/// The content of a fingerprint that is not finished. Each piece is preceded by its kind, and a text by its
/// length, so that no two sequences of pieces are the same bytes.
#[derive(Clone, Copy)]
pub struct Content {
    digest: Digest,
}

impl Content {
    /// Adds a text.
    pub const fn text(self, text: &str) -> Self {
        let digest = self.digest.byte(b't').bytes(&(text.len() as u64).to_le_bytes());
        Self { digest: digest.bytes(text.as_bytes()) }
    }

    /// Adds a number: a size, an alignment, an offset.
    pub const fn number(self, number: u64) -> Self {
        Self { digest: self.digest.byte(b'n').bytes(&number.to_le_bytes()) }
    }

    /// Adds another fingerprint.
    pub const fn with(self, other: Fingerprint) -> Self {
        Self { digest: self.digest.byte(b'f').bytes(&other.0) }
    }

    /// Returns the fingerprint of all pieces.
    pub const fn finish(self) -> Fingerprint {
        Fingerprint(self.digest.finish())
    }
}

const BLOCK: usize = 64;

/// The fractional parts of the square roots of the first 8 primes (FIPS 180-4, section 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The fractional parts of the cube roots of the first 64 primes (FIPS 180-4, section 4.2.2).
const ROUNDS: [u32; 64] = round_constants();

/// Computes [`ROUNDS`]: the first 32 bits of each root's fraction are the lower half of the integer cube root
/// of `prime << 96`.
const fn round_constants() -> [u32; 64] {
    let mut constants = [0; 64];
    let (mut candidate, mut found) = (2_u128, 0);
    while found < constants.len() {
        let (mut divisor, mut is_prime) = (2, true);
        while divisor * divisor <= candidate {
            is_prime = is_prime && !candidate.is_multiple_of(divisor);
            divisor += 1;
        }
        if is_prime {
            // Bit by bit. Roots of numbers below 512 have at most 3 bits before the point.
            let (mut root, mut bit) = (0_u128, 1_u128 << 34);
            while bit > 0 {
                let larger = root | bit;
                if larger * larger * larger <= candidate << 96 {
                    root = larger;
                }
                bit >>= 1;
            }
            constants[found] = root as u32;
            found += 1;
        }
        candidate += 1;
    }
    constants
}

/// A SHA-256 under way.
#[derive(Clone, Copy)]
struct Digest {
    state: [u32; 8],
    block: [u8; BLOCK],
    /// The number of bytes so far.
    len: u64,
}

impl Digest {
    const fn new() -> Self {
        Self { state: INITIAL, block: [0; BLOCK], len: 0 }
    }

    const fn byte(mut self, byte: u8) -> Self {
        let index = self.len as usize % BLOCK;
        self.block[index] = byte;
        self.len += 1;
        if index == BLOCK - 1 {
            self.state = compress(self.state, &self.block);
        }
        self
    }

    const fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut index = 0;
        while index < bytes.len() {
            self = self.byte(bytes[index]);
            index += 1;
        }
        self
    }

    /// Pads the message (section 5.1.1) and returns the hash.
    const fn finish(mut self) -> [u8; 32] {
        let bits = self.len * 8;
        self = self.byte(0x80);
        while self.len as usize % BLOCK != BLOCK - 8 {
            self = self.byte(0);
        }
        self = self.bytes(&bits.to_be_bytes());
        let mut hash = [0; 32];
        let mut index = 0;
        while index < hash.len() {
            hash[index] = self.state[index / 4].to_be_bytes()[index % 4];
            index += 1;
        }
        hash
    }
}

/// Hashes one block (section 6.2.2).
const fn compress(state: [u32; 8], block: &[u8; BLOCK]) -> [u32; 8] {
    let mut words = [0_u32; 64];
    let mut t = 0;
    while t < words.len() {
        words[t] = if t < 16 {
            u32::from_be_bytes([block[4 * t], block[4 * t + 1], block[4 * t + 2], block[4 * t + 3]])
        } else {
            let (early, late) = (words[t - 15], words[t - 2]);
            let early = early.rotate_right(7) ^ early.rotate_right(18) ^ (early >> 3);
            let late = late.rotate_right(17) ^ late.rotate_right(19) ^ (late >> 10);
            words[t - 16].wrapping_add(early).wrapping_add(words[t - 7]).wrapping_add(late)
        };
        t += 1;
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
    t = 0;
    while t < words.len() {
        let mixed = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let choice = (e & f) ^ (!e & g);
        let first = h.wrapping_add(mixed).wrapping_add(choice).wrapping_add(ROUNDS[t]).wrapping_add(words[t]);
        let mixed = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let majority = (a & b) ^ (a & c) ^ (b & c);
        (h, g, f, e) = (g, f, e, d.wrapping_add(first));
        (d, c, b, a) = (c, b, a, first.wrapping_add(mixed).wrapping_add(majority));
        t += 1;
    }
    let (mut sum, round) = (state, [a, b, c, d, e, f, g, h]);
    t = 0;
    while t < sum.len() {
        sum[t] = sum[t].wrapping_add(round[t]);
        t += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn digest_is_sha_256() {
        let message: Vec<u8> = (0..1000_u32).map(|number| ((number * number) >> 3) as u8).collect();
        for len in (0..200).chain([511, 512, 513, 1000]) {
            let ours = Digest::new().bytes(&message[..len]).finish();
            assert_eq!(ours[..], Sha256::digest(&message[..len])[..], "{len} bytes");
        }
    }

    #[test]
    fn text_boundaries_change_the_fingerprint() {
        assert_ne!(fingerprint("ab").text("c").finish(), fingerprint("a").text("bc").finish());
    }

    #[test]
    fn order_changes_the_fingerprint() {
        assert_ne!(
            fingerprint("x").number(1).number(2).finish(),
            fingerprint("x").number(2).number(1).finish()
        );
    }

    #[test]
    fn pieces_of_different_kinds_differ_although_their_bytes_are_equal() {
        let other = fingerprint("y").finish();
        let text: String = other.to_bytes().iter().map(|byte| char::from(byte & 0x7f)).collect();
        let bytes = text.as_bytes().try_into().expect("a fingerprint has 32 bytes");
        let same_bytes = Fingerprint::from_bytes(bytes);
        assert_ne!(fingerprint("x").with(same_bytes).finish(), fingerprint("x").text(&text).finish());
        let numbers = |content: Content| {
            let words = same_bytes.to_bytes();
            let number = |index: usize| {
                u64::from_le_bytes(words[8 * index..8 * index + 8].try_into().expect("8 bytes"))
            };
            content.number(number(0)).number(number(1)).number(number(2)).number(number(3))
        };
        assert_ne!(fingerprint("x").with(same_bytes).finish(), numbers(fingerprint("x")).finish());
    }
}
