//! What was done, in which order, on the disk itself: so that whoever tries a driver can read it like anything else.

use coppice_interfaces::block::{BlockInfo, Operation, RequestHead};

/// Bytes of an entry.
const BYTES: usize = 32;

/// Something that was done to the disk, but for reads. The last blocks of a disk with `record=` hold as many of these as they
/// have room for; the next one takes the place of the oldest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// How many came before.
    pub sequence: u64,
    /// What was done.
    pub operation: Operation,
    /// From which block.
    pub lba: u64,
    /// With how many.
    pub blocks: u32,
    /// Whether the medium had to have it.
    pub fua: bool,
}

impl Entry {
    /// All entries of the record that `bytes` holds, in no order.
    pub fn all(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(BYTES).filter_map(Self::decode)
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let rest = number(24)?;
        // Zero is none: numbers begin at 1 on the disk.
        Some(Self {
            sequence: number(0)?.checked_sub(1)?,
            operation: Operation::from_number(rest as u8)?,
            lba: number(8)?,
            blocks: number(16)? as u32,
            fua: rest >> 8 & 1 != 0,
        })
    }

    fn encode(&self) -> [u8; BYTES] {
        let rest = self.operation as u64 | u64::from(self.fua) << 8;
        let mut bytes = [0; BYTES];
        let numbers = [self.sequence + 1, self.lba, self.blocks.into(), rest];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }
}

/// Where the next entry goes.
pub(crate) struct Record {
    start: u64,
    capacity: u64,
    next: u64,
}

impl Record {
    /// In the last `blocks` blocks of a disk.
    pub(crate) fn new(info: &BlockInfo, blocks: u64) -> Self {
        let block_bytes = u64::from(info.block_bytes);
        Self {
            start: (info.blocks - blocks) * block_bytes,
            capacity: blocks * block_bytes / BYTES as u64,
            next: 0,
        }
    }

    /// The entry of a request that is done now, and the byte of the disk where it goes.
    pub(crate) fn next(&mut self, head: &RequestHead) -> (u64, [u8; BYTES]) {
        let entry = Entry {
            sequence: self.next,
            operation: head.operation().expect("it has been checked"),
            lba: head.lba(),
            blocks: head.blocks(),
            fua: head.is_fua(),
        };
        let place = self.start + self.next % self.capacity * BYTES as u64;
        self.next += 1;
        (place, entry.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let entry =
            Entry { sequence: 0, operation: Operation::Flush, lba: u64::MAX, blocks: u32::MAX, fua: true };
        let mut bytes = [0; 96];
        bytes[32..64].copy_from_slice(&entry.encode());
        assert!(Entry::all(&bytes).eq([entry]));
    }
}
