//! [`Command`], and the submission queue entry built from it.

use coppice_hardware::DmaAddr;

/// The operation of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Reads blocks into memory (NVM 3.2.4).
    Read,
    /// Writes memory to blocks (NVM 3.2.6).
    Write,
    /// Makes earlier completed writes durable (Base 7.1). Addresses no blocks.
    Flush,
    /// Writes zeroes to blocks (NVM 3.2.8). Transfers no data.
    WriteZeroes,
    /// Deallocates blocks (NVM 3.2.3, Dataset Management). Transfers no data.
    Deallocate,
    /// Compares memory with blocks (NVM 3.2.1); a difference is the status
    /// [`crate::Meaning::CompareFailure`].
    Compare,
}

impl Operation {
    /// Returns the opcode (Base figure 391, NVM figure 24).
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

    /// Returns true if the command transfers data.
    #[inline]
    pub const fn has_data(self) -> bool {
        matches!(self, Self::Read | Self::Write | Self::Compare)
    }

    /// Returns true if the command may change the content of blocks.
    #[inline]
    pub const fn changes_blocks(self) -> bool {
        matches!(self, Self::Write | Self::WriteZeroes | Self::Deallocate)
    }
}

/// A command for one namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Command {
    /// The operation.
    pub operation: Operation,
    /// The first block.
    pub lba: u64,
    /// The number of blocks; a flush ignores it.
    pub blocks: u32,
    /// The start of the data in the buffer, in bytes.
    pub offset: u32,
    /// Force Unit Access: a write is durable when it completes, a read comes from the medium.
    pub force_unit_access: bool,
}

impl Command {
    /// Creates a command that reads blocks to the start of a buffer.
    pub const fn read(lba: u64, blocks: u32) -> Self {
        Self { operation: Operation::Read, lba, blocks, offset: 0, force_unit_access: false }
    }

    /// Creates a command that writes blocks from the start of a buffer.
    pub const fn write(lba: u64, blocks: u32) -> Self {
        Self { operation: Operation::Write, ..Self::read(lba, blocks) }
    }

    /// Creates a command that makes completed writes durable.
    pub const fn flush() -> Self {
        Self { operation: Operation::Flush, ..Self::read(0, 0) }
    }

    /// Creates a command that writes zeroes.
    pub const fn write_zeroes(lba: u64, blocks: u32) -> Self {
        Self { operation: Operation::WriteZeroes, ..Self::read(lba, blocks) }
    }

    /// Creates a command that deallocates blocks.
    pub const fn deallocate(lba: u64, blocks: u32) -> Self {
        Self { operation: Operation::Deallocate, ..Self::read(lba, blocks) }
    }
}

/// A submission queue entry (Base figure 87). Its data pointer only takes a [`DmaAddr`], so it always names
/// existing memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubmissionEntry([u64; 8]);

impl SubmissionEntry {
    /// Creates an entry of a command without data. PSDT is 00b: PRPs.
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

    /// Sets CID.
    #[inline]
    pub(crate) const fn with_id(mut self, id: u16) -> Self {
        self.0[0] |= (id as u64) << 16;
        self
    }

    /// Sets PRP1.
    #[inline]
    pub(crate) const fn with_prp1(mut self, address: DmaAddr) -> Self {
        self.0[3] = address.to_bits();
        self
    }

    /// Sets PRP1 and, if present, PRP2.
    #[inline]
    pub(crate) const fn with_prps(mut self, prp1: DmaAddr, prp2: Option<DmaAddr>) -> Self {
        self.0[3] = prp1.to_bits();
        if let Some(prp2) = prp2 {
            self.0[4] = prp2.to_bits();
        }
        self
    }

    /// Sets CDW10 and CDW11.
    #[inline]
    pub(crate) const fn with_cdw10(mut self, cdw10: u32, cdw11: u32) -> Self {
        self.0[5] = cdw10 as u64 | (cdw11 as u64) << 32;
        self
    }

    /// Sets SLBA (CDW10 and CDW11) and CDW12: the 0-based number of blocks, and FUA (NVM figures 45 to 47).
    #[inline]
    pub(crate) const fn with_blocks(mut self, lba: u64, blocks: u32, force_unit_access: bool) -> Self {
        self.0[5] = lba;
        self.0[6] = ((blocks - 1) & 0xFFFF) as u64 | (force_unit_access as u64) << 30;
        self
    }
}

/// Returns one range of Dataset Management (NVM figure 40): no context attributes, length, first block.
pub(crate) const fn deallocated_range(lba: u64, blocks: u32) -> [u64; 2] {
    [(blocks as u64) << 32, lba]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_encoded_as_specified() {
        let entry = SubmissionEntry::new(0x02, 7).with_id(0xBEEF).with_blocks(0x1_2345_6789, 8, true);
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
