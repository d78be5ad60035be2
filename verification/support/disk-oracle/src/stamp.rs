//! [`Stamp`]: the header of a written block, and [`Content`]: the classification of a block that was read.

use core::fmt;

use crc::{CRC_32_ISCSI, Crc, Table};

/// "coppice!" as bytes in this order.
const MAGIC: u64 = u64::from_le_bytes(*b"coppice!");

/// Bytes of a stamp: little-endian words of eight bytes in the order of [`Stamp::words`], then the checksum.
const STAMP_BYTES: usize = 64;

/// CRC-32C finds each error burst of up to 32 bits, and all but one in 2^32 of the others. The rest of a
/// block differs in every word from that of any other write, so a block with parts of two writes is found
/// wherever the seam is.
static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// 2^64 divided by the golden ratio: its multiples are spread over all numbers.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The identity of the write of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The run of the write, which distinguishes its data from those of an earlier run.
    pub run: u64,
    /// The address of the block.
    pub lba: u64,
    /// The sequence number of the write.
    pub sequence: u64,
    /// The first block of the write.
    pub first: u64,
    /// The number of blocks of the write.
    pub blocks: u32,
    /// The number of the writer.
    pub writer: u16,
    /// The number of journal lines that had been printed before the write ([`crate::journal`]).
    pub journal: u64,
}

/// The content of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// An intact block with this stamp.
    Stamped(Stamp),
    /// A block with the start of a stamp and a wrong checksum: parts of it are from elsewhere.
    Torn {
        /// The run in its header, which may itself be damaged.
        run: u64,
        /// The sequence number in its header.
        sequence: u64,
    },
    /// Zeroes.
    Zeroes,
    /// All bytes are zero.
    Ones,
    /// Any other content.
    Foreign,
}

impl Stamp {
    fn words(&self) -> [u64; 7] {
        let shape = u64::from(self.blocks) | u64::from(self.writer) << 32;
        [MAGIC, self.run, self.lba, self.sequence, self.first, shape, self.journal]
    }

    /// Fills `block` with the data of this stamp.
    ///
    /// # Panics
    /// When `block` is shorter than a stamp or its length is not a multiple of 8. The smallest block of a
    /// disk has 512 bytes.
    pub fn compose(&self, block: &mut [u8]) {
        assert!(
            block.len() >= STAMP_BYTES && block.len().is_multiple_of(8),
            "a block of {} bytes",
            block.len()
        );
        for (slot, word) in block.chunks_exact_mut(8).zip(self.words()) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let mut word = (self.sequence ^ self.lba.rotate_left(32) ^ self.run).wrapping_mul(STEP);
        for slot in block[STAMP_BYTES..].chunks_exact_mut(8) {
            word = word.wrapping_add(STEP);
            slot.copy_from_slice(&word.to_le_bytes());
        }
        let sum = checksum(block);
        block[STAMP_BYTES - 8..STAMP_BYTES].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Returns the checksum of the block without its checksum field.
fn checksum(block: &[u8]) -> u64 {
    let mut digest = CRC.digest();
    digest.update(&block[..STAMP_BYTES - 8]);
    digest.update(&block[STAMP_BYTES..]);
    u64::from(digest.finalize())
}

impl Content {
    /// Classifies `block`.
    ///
    /// # Panics
    /// As [`Stamp::compose`].
    pub fn of(block: &[u8]) -> Self {
        assert!(
            block.len() >= STAMP_BYTES && block.len().is_multiple_of(8),
            "a block of {} bytes",
            block.len()
        );
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
                write!(f, "torn; its header says write {sequence} (run {run:x})")
            }
            Self::Zeroes => f.write_str("zeroes"),
            Self::Ones => f.write_str("ones"),
            Self::Foreign => f.write_str("data of no write of this test"),
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
    fn a_composed_block_is_classified_by_its_stamp() {
        for bytes in [512, 4096] {
            assert_eq!(Content::of(&block(5, bytes)), Content::Stamped(stamp(5)));
        }
        assert_eq!(Content::of(&[0; 512]), Content::Zeroes);
        assert_eq!(Content::of(&[0xff; 512]), Content::Ones);
        assert_eq!(Content::of(&[7; 512]), Content::Foreign);
    }

    #[test]
    fn zeroes_with_one_bit_set_are_not_zeroes() {
        for (fill, slot) in [(0, 511), (0xff, 511), (0, 0), (0xff, 7)] {
            let mut bytes = [fill; 512];
            bytes[slot] ^= 0x10;
            assert_eq!(Content::of(&bytes), Content::Foreign);
        }
    }

    #[test]
    fn a_block_of_two_writes_is_torn_wherever_the_seam_is() {
        let (old, new) = (block(5, 512), block(6, 512));
        for seam in (8..512).step_by(8) {
            for (front, back) in [(&old, &new), (&new, &old)] {
                let mixed: Vec<u8> = front[..seam].iter().chain(&back[seam..]).copied().collect();
                // A seam inside words that both writes share leaves an intact block.
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
