//! [`Command`]s, and the submission queue entries that they become.

use coppice_hardware::DmaAddr;

/// What a command does to its blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Blocks to memory (NVM 3.2.4).
    Read,
    /// Memory to blocks (NVM 3.2.6).
    Write,
    /// What was written and answered before becomes durable (Base 7.1). Has no blocks.
    Flush,
    /// Blocks become zero (NVM 3.2.8). Has no data.
    WriteZeroes,
    /// What is in the blocks is not needed any more (NVM 3.2.3, Dataset Management). Has no data.
    Deallocate,
    /// Memory is compared with blocks (NVM 3.2.1); a difference is the status [`crate::Meaning::CompareFailure`].
    Compare,
}

impl Operation {
    /// The opcode (Base figure 391, NVM figure 24).
    #[inline]
    pub(crate) const fn opcode(self) -> u8 {
        match self {
            Self::Flush => 0x00,
            Self::Write => 0x01,
            Self::Read => 0x02,
            Self::Compare => 0x05,
            Self::WriteZeroes => 0x08,
            Self::Deallocate => 0x09,
        }
    }

    /// Whether memory takes part.
    #[inline]
    pub const fn has_data(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Compare)
    }

    /// Whether blocks may read as something else afterwards.
    #[inline]
    pub const fn changes_blocks(self) -> bool {
        matches!(self, Self::Write | Self::WriteZeroes | Self::Deallocate)
    }
}

/// A command for one namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// What is done.
    pub operation: Operation,
    /// The first block.
    pub lba: u64,
    /// How many; a flush ignores it.
    pub blocks: u32,
    /// Where in the buffer the data begins, in bytes.
    pub offset: u32,
    /// Force Unit Access: a write is durable when it is answered, a read comes from the medium.
    pub force_unit_access: bool,
}

impl Command {
    /// Reads blocks to the start of a buffer.
    pub const fn read(lba: u64, blocks: u32) -> Self {
        Self { operation: Operation::Read, lba, blocks, offset: 0, force_unit_access: false }
    }

    /// Writes blocks from the start of a buffer.
    pub const fn write(lba: u64, blocks: u32) -> Self {
        Self { operation: Operation::Write, ..Self::read(lba, blocks) }
    }

    /// Makes what was written durable.
    pub const fn flush() -> Self {
        Self { operation: Operation::Flush, ..Self::read(0, 0) }
    }

    /// Writes zeroes.
    pub const fn write_zeroes(lba: u64, blocks: u32) -> Self {
        Self { operation: Operation::WriteZeroes, ..Self::read(lba, blocks) }
    }

    /// Gives blocks up.
    pub const fn deallocate(lba: u64, blocks: u32) -> Self {
        Self { operation: Operation::Deallocate, ..Self::read(lba, blocks) }
    }
}

/// A submission queue entry (Base figure 87). Its data pointer can only be made of addresses that live memory has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry([u64; 8]);

impl Entry {
    /// A command without data. PSDT is 00b: PRPs.
    #[inline]
    pub(crate) const fn new(opcode: u8, namespace: u32) -> Self {
        Self([opcode as u64 | (namespace as u64) << 32, 0, 0, 0, 0, 0, 0, 0])
    }

    #[inline]
    pub(crate) const fn words(&self) -> &[u64; 8] {
        &self.0
    }

    pub(crate) const fn opcode(&self) -> u8 {
        self.0[0] as u8
    }

    /// CID.
    #[inline]
    pub(crate) const fn with_id(mut self, id: u16) -> Self {
        self.0[0] |= (id as u64) << 16;
        self
    }

    /// PRP1.
    #[inline]
    pub(crate) const fn with_prp1(mut self, address: DmaAddr) -> Self {
        self.0[3] = address.to_bits();
        self
    }

    /// PRP1 and, if there is one, PRP2.
    #[inline]
    pub(crate) const fn with_prps(mut self, prp1: DmaAddr, prp2: Option<DmaAddr>) -> Self {
        self.0[3] = prp1.to_bits();
        if let Some(prp2) = prp2 {
            self.0[4] = prp2.to_bits();
        }
        self
    }

    /// CDW10 and CDW11.
    #[inline]
    pub(crate) const fn with_cdw10(mut self, cdw10: u32, cdw11: u32) -> Self {
        self.0[5] = cdw10 as u64 | (cdw11 as u64) << 32;
        self
    }

    /// SLBA, which is CDW10 and CDW11; and CDW12: the number of blocks, counted from 0, and FUA (NVM figures 45 to 47).
    #[inline]
    pub(crate) const fn with_blocks(mut self, lba: u64, blocks: u32, force_unit_access: bool) -> Self {
        self.0[5] = lba;
        self.0[6] = ((blocks - 1) & 0xFFFF) as u64 | (force_unit_access as u64) << 30;
        self
    }
}

/// One range of Dataset Management (NVM figure 40): no context attributes, length, first block.
pub(crate) const fn deallocated_range(lba: u64, blocks: u32) -> [u64; 2] {
    [(blocks as u64) << 32, lba]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_specification_has_them() {
        let entry = Entry::new(0x02, 7).with_id(0xBEEF).with_blocks(0x1_2345_6789, 8, true);
        let dwords: Vec<u32> =
            entry.words().iter().flat_map(|word| [*word as u32, (word >> 32) as u32]).collect();
        assert_eq!(dwords[0], 0xBEEF_0002);
        assert_eq!(dwords[1], 7);
        assert_eq!((dwords[10], dwords[11]), (0x2345_6789, 1));
        assert_eq!(dwords[12], 7 | 1 << 30);
        assert_eq!(dwords[2..10], [0; 8]);
        assert_eq!(dwords[13..], [0; 3]);
        assert_eq!(deallocated_range(3, 9), [9 << 32, 3]);
    }
}
