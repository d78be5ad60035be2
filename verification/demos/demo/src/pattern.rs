//! The contents of a block: a pseudo-random pattern that depends only on the block's number and the number of
//! writes to it. A reader can therefore check every byte, and a stale, misplaced or half-written block is
//! detected.

use coppice_experiment::Random;

/// Fills `bytes` with the contents of block `block` after write number `sequence`. Sequence 0 is the new
/// disk: zeros.
pub(crate) fn fill(bytes: &mut [u8], block: u64, sequence: u32) {
    let mut words = PatternWords::of(block, sequence);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&words.next()[..chunk.len()]);
    }
}

/// Returns the number of bytes that differ from the pattern of [`fill`].
pub(crate) fn wrong_bytes(bytes: &[u8], block: u64, sequence: u32) -> u64 {
    let mut words = PatternWords::of(block, sequence);
    let differing = |chunk: &[u8]| {
        let word = words.next();
        // The usual case, compared at once.
        if chunk == &word[..chunk.len()] {
            0
        } else {
            chunk.iter().zip(word).filter(|(a, b)| **a != *b).count()
        }
    };
    bytes.chunks(8).map(differing).sum::<usize>() as u64
}

struct PatternWords {
    random: Random,
    is_unwritten: bool,
}

impl PatternWords {
    fn of(block: u64, sequence: u32) -> Self {
        Self { random: Random::new(block, sequence.into()), is_unwritten: sequence == 0 }
    }

    fn next(&mut self) -> [u8; 8] {
        if self.is_unwritten { [0; 8] } else { self.random.next().to_le_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn a_filled_block_verifies_only_as_its_own_write() {
        let mut bytes = vec![7; 4096];
        fill(&mut bytes, 5, 9);
        assert_eq!(wrong_bytes(&bytes, 5, 9), 0);
        // Of 256 random bytes, one agrees by chance.
        assert!(
            wrong_bytes(&bytes, 5, 8) > 4000
                && wrong_bytes(&bytes, 6, 9) > 4000
                && wrong_bytes(&bytes, 5, 0) > 4000
        );
        bytes[77] ^= 1;
        assert_eq!(wrong_bytes(&bytes, 5, 9), 1);
    }

    #[test]
    fn an_unwritten_block_is_zero() {
        let mut bytes = vec![7; 512];
        fill(&mut bytes, 5, 0);
        assert_eq!(bytes, vec![0; 512]);
        assert_eq!(wrong_bytes(&bytes, 6, 0), 0);
    }
}
