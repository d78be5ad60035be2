//! [`Stamp`]: what a written block carries, and [`Content`]: what a block that was read turns out to be.

use core::fmt;

use crc::{CRC_32_ISCSI, Crc, Table};

/// "coppice!" as bytes in this order.
const MAGIC: u64 = u64::from_le_bytes(*b"coppice!");

/// Bytes of a stamp: words of eight bytes, little-endian, in the order of [`Stamp::words`], the checksum last.
const HEAD: usize = 64;

/// CRC-32C: finds each error of up to 32 bits in a row, and of others all but one in four thousand millions. The rest of a block
/// differs in every word from that of any other write, so a block made of two writes' parts is found wherever the seam is.
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// 2^64 divided by the golden ratio: multiples of it are spread over all numbers.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which write a block is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The run that wrote it: what another run left on the disk is told from what this one wrote.
    pub run: u64,
    /// The block that it was written to.
    pub lba: u64,
    /// The write's number.
    pub sequence: u64,
    /// The write's first block.
    pub first: u64,
    /// How many blocks the write had.
    pub blocks: u32,
    /// Who wrote it.
    pub writer: u16,
    /// How many lines of the journal were out before it was written ([`crate::journal`]).
    pub journal: u64,
}

/// What is in a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// Whole, and says what it is.
    Stamped(Stamp),
    /// Has a stamp's beginning but is not what was written: parts of it are from elsewhere.
    Torn {
        /// The run and sequence number that are in its head, if those can be believed.
        run: u64,
        /// As above.
        sequence: u64,
    },
    /// Zeroes.
    Zeroes,
    /// Every bit is one.
    Ones,
    /// None of these.
    Foreign,
}

impl Stamp {
    fn words(&self) -> [u64; 7] {
        let shape = u64::from(self.blocks) | u64::from(self.writer) << 32;
        [MAGIC, self.run, self.lba, self.sequence, self.first, shape, self.journal]
    }

    /// Makes `block` the block of this stamp.
    ///
    /// # Panics
    /// When `block` is shorter than a stamp or no multiple of 8; the smallest block of a disk is 512.
    pub fn compose(&self, block: &mut [u8]) {
        assert!(block.len() >= HEAD && block.len().is_multiple_of(8), "a block of {} bytes", block.len());
        for (place, word) in block.chunks_exact_mut(8).zip(self.words()) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let mut word = (self.sequence ^ self.lba.rotate_left(32) ^ self.run).wrapping_mul(STEP);
        for place in block[HEAD..].chunks_exact_mut(8) {
            word = word.wrapping_add(STEP);
            place.copy_from_slice(&word.to_le_bytes());
        }
        let sum = checksum(block);
        block[HEAD - 8..HEAD].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Of all but its own place.
fn checksum(block: &[u8]) -> u64 {
    let mut digest = CRC.digest();
    digest.update(&block[..HEAD - 8]);
    digest.update(&block[HEAD..]);
    u64::from(digest.finalize())
}

impl Content {
    /// What `block` is.
    ///
    /// # Panics
    /// As [`Stamp::compose`].
    pub fn of(block: &[u8]) -> Self {
        assert!(block.len() >= HEAD && block.len().is_multiple_of(8), "a block of {} bytes", block.len());
        let word = |number: usize| {
            let bytes = block[8 * number..][..8].try_into().expect("eight bytes");
            u64::from_le_bytes(bytes)
        };
        if word(0) != MAGIC {
            return match word(0) {
                0 if block.iter().all(|&byte| byte == 0) => Self::Zeroes,
                u64::MAX if block.iter().all(|&byte| byte == 0xff) => Self::Ones,
                _ => Self::Foreign,
            };
        }
        let (run, sequence) = (word(1), word(3));
        if word(7) != checksum(block) {
            return Self::Torn { run, sequence };
        }
        let shape = word(5);
        Self::Stamped(Stamp {
            run,
            lba: word(2),
            sequence,
            first: word(4),
            blocks: shape as u32,
            writer: (shape >> 32) as u16,
            journal: word(6),
        })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stamped(Stamp { run, lba, sequence, first, blocks, writer, .. }) => write!(
                f,
                "write {sequence} of writer {writer} to blocks {first}+{blocks}, its block {lba} (run {run:x})"
            ),
            Self::Torn { run, sequence } => {
                write!(f, "torn; its head says write {sequence} (run {run:x})")
            }
            Self::Zeroes => f.write_str("zeroes"),
            Self::Ones => f.write_str("ones"),
            Self::Foreign => f.write_str("nothing that was written here"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use super::*;

    fn stamp(sequence: u64) -> Stamp {
        Stamp { run: 0xabcd, lba: 77, sequence, first: 70, blocks: 9, writer: 3, journal: 12 }
    }

    fn block(sequence: u64, bytes: usize) -> Vec<u8> {
        let mut block = vec![0xee; bytes];
        stamp(sequence).compose(&mut block);
        block
    }

    #[test]
    fn a_block_says_what_it_is() {
        for bytes in [512, 4096] {
            assert_eq!(Content::of(&block(5, bytes)), Content::Stamped(stamp(5)));
        }
        assert_eq!(Content::of(&[0; 512]), Content::Zeroes);
        assert_eq!(Content::of(&[0xff; 512]), Content::Ones);
        assert_eq!(Content::of(&[7; 512]), Content::Foreign);
    }

    #[test]
    fn zeroes_with_one_bit_set_are_not_zeroes() {
        for (fill, place) in [(0, 511), (0xff, 511), (0, 0), (0xff, 7)] {
            let mut bytes = [fill; 512];
            bytes[place] ^= 0x10;
            assert_eq!(Content::of(&bytes), Content::Foreign);
        }
    }

    #[test]
    fn a_block_of_two_writes_is_torn_wherever_the_seam_is() {
        let (old, new) = (block(5, 512), block(6, 512));
        for seam in (8..512).step_by(8) {
            for (front, back) in [(&old, &new), (&new, &old)] {
                let mixed: Vec<u8> = front[..seam].iter().chain(&back[seam..]).copied().collect();
                // The words of the head that both have alike are no seam.
                let is_whole = mixed == old || mixed == new;
                assert_eq!(matches!(Content::of(&mixed), Content::Torn { .. }), !is_whole, "at {seam}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found() {
        for bit in 64..512 * 8 {
            let mut damaged = block(5, 512);
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Content::of(&damaged), Content::Torn { .. }), "bit {bit}");
        }
    }
}
