//! [`Pieces`]: a range of blocks, split into parts of a limited size.

use core::ops::Range;

/// A part of a range that fits into one request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Piece {
    /// The first block of the piece.
    pub(crate) lba: u64,
    /// The number of blocks.
    pub(crate) blocks: u32,
    /// The number of blocks of the range before the piece.
    before: u64,
}

impl Piece {
    /// The range of the piece's bytes within the data of the whole range.
    pub(crate) fn bytes(&self, block_bytes: u32) -> Range<usize> {
        let start = (self.before * u64::from(block_bytes)) as usize;
        start..start + self.blocks as usize * block_bytes as usize
    }
}

/// An iterator over the pieces of a range of blocks.
pub(crate) struct Pieces {
    lba: u64,
    rest: u64,
    before: u64,
    max: u64,
    once: bool,
}

impl Pieces {
    /// Splits a range into pieces of at most `max` blocks. With `once` there is at least one piece, of no
    /// blocks if the range is empty.
    pub(crate) fn new(lba: u64, blocks: u64, max: u64, once: bool) -> Self {
        Self { lba, rest: blocks, before: 0, max: max.min(u32::MAX.into()), once }
    }
}

impl Iterator for Pieces {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        if self.rest == 0 && !self.once {
            return None;
        }
        self.once = false;
        let blocks = self.rest.min(self.max);
        // A range beyond the largest block number is beyond the disk too, so the device refuses it.
        let piece =
            Piece { lba: self.lba.saturating_add(self.before), blocks: blocks as u32, before: self.before };
        self.before += blocks;
        self.rest -= blocks;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn pieces_cover_a_range_without_a_gap() {
        for (blocks, max) in [(1, 1), (7, 3), (9, 3), (100, 256), (1000, 7)] {
            let mut next = 50;
            for piece in Pieces::new(50, blocks, max, false) {
                assert_eq!((piece.lba, u64::from(piece.blocks) <= max), (next, true));
                assert_eq!(piece.bytes(512).start as u64, (next - 50) * 512);
                assert_eq!(piece.bytes(512).len() as u64, u64::from(piece.blocks) * 512);
                next += u64::from(piece.blocks);
            }
            assert_eq!(next, 50 + blocks);
        }
    }

    #[test]
    fn an_empty_range_has_a_piece_only_for_a_flush() {
        assert_eq!(Pieces::new(5, 0, 8, false).next(), None);
        let mut flush = Pieces::new(0, 0, 8, true);
        assert_eq!(flush.next().map(|piece| piece.blocks), Some(0));
        assert_eq!(flush.next(), None);
    }

    #[test]
    fn a_range_beyond_the_largest_number_does_not_wrap() {
        let pieces: std::vec::Vec<_> = Pieces::new(u64::MAX - 1, 4, 1, false).collect();
        assert!(pieces.iter().all(|piece| piece.lba >= u64::MAX - 1));
    }
}
