//! Big-endian numbers of 2 to 8 bytes, and the checksums.

/// The largest number of 48 bits.
pub(crate) const U48: u64 = (1 << 48) - 1;

/// The multiplier of the checksums: the golden ratio, as in Knuth's multiplicative hashing. For each bit
/// shifted out at the top, the sixteen highest bits of the product are neither all zero nor all ones, so each
/// single-bit error is detected.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Returns the number in `bytes` from `at`. The caller has checked the length.
#[inline(always)]
pub(crate) fn get<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number[8 - N..].copy_from_slice(&bytes[at..at + N]);
    u64::from_be_bytes(number)
}

/// Writes the low `N` bytes of `number` at `at`. The caller has checked the length.
#[inline(always)]
pub(crate) fn put<const N: usize>(bytes: &mut [u8], at: usize, number: u64) {
    bytes[at..at + N].copy_from_slice(&number.to_be_bytes()[8 - N..]);
}

/// Returns the checksum of a test frame over the sixteen bytes in front of it, given as two words.
#[inline(always)]
pub(crate) fn check16(high: u64, low: u64) -> u16 {
    ((high.wrapping_mul(MIX) ^ low.rotate_left(32)).wrapping_mul(MIX) >> 48) as u16
}

/// Returns the checksum of any other message.
pub(crate) fn check32(bytes: &[u8]) -> u32 {
    let mixed =
        bytes.iter().fold(MIX, |mixed, byte| (mixed ^ u64::from(*byte)).wrapping_mul(MIX).rotate_left(23));
    (mixed ^ mixed >> 32) as u32
}
