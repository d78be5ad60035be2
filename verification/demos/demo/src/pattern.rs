//! What a block holds: all of it follows from which block it is and how often it was written, so that whoever reads it knows
//! each byte, and a block that is old, of another place, or half written is no other's.

use coppice_experiment::Random;

/// Fills `bytes` with what block `block` holds after its write number `sequence`; 0 is before any, when the disk is new.
pub(crate) fn fill(bytes: &mut [u8], block: u64, sequence: u32) {
    let mut words = Words::of(block, sequence);
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&words.next()[..chunk.len()]);
    }
}

/// How many bytes are not what [`fill`] would have put there.
pub(crate) fn wrong(bytes: &[u8], block: u64, sequence: u32) -> u64 {
    let mut words = Words::of(block, sequence);
    let differing = |chunk: &[u8]| {
        let word = words.next();
        // Nearly always they are the same.
        if chunk == &word[..chunk.len()] {
            0
        } else {
            chunk.iter().zip(word).filter(|(a, b)| **a != *b).count()
        }
    };
    bytes.chunks(8).map(differing).sum::<usize>() as u64
}

struct Words {
    random: Random,
    is_new: bool,
}

impl Words {
    fn of(block: u64, sequence: u32) -> Self {
        Self { random: Random::new(block, sequence.into()), is_new: sequence == 0 }
    }

    fn next(&mut self) -> [u8; 8] {
        if self.is_new { [0; 8] } else { self.random.next().to_le_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn what_was_filled_is_right_and_any_other_is_wrong() {
        let mut bytes = vec![7; 4096];
        fill(&mut bytes, 5, 9);
        assert_eq!(wrong(&bytes, 5, 9), 0);
        // One byte in 256 agrees by chance.
        assert!(wrong(&bytes, 5, 8) > 4000 && wrong(&bytes, 6, 9) > 4000 && wrong(&bytes, 5, 0) > 4000);
        bytes[77] ^= 1;
        assert_eq!(wrong(&bytes, 5, 9), 1);
    }

    #[test]
    fn a_block_that_was_never_written_is_zero() {
        let mut bytes = vec![7; 512];
        fill(&mut bytes, 5, 0);
        assert_eq!(bytes, vec![0; 512]);
        assert_eq!(wrong(&bytes, 6, 0), 0);
    }
}
