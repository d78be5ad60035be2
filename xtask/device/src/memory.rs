//! [`Memory`]: a machine's memory, which it shares with us.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock};

use anyhow::{Context, Result, bail};
use device_bus::DmaError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Memory by its bus addresses, in pieces that are mapped here. It is read and written as volatile memory, since the machine's
/// CPUs do the same meanwhile.
#[derive(Default)]
pub(crate) struct Memory {
    /// Readers are accesses under way, so who takes a piece away waits for them.
    pieces: RwLock<Vec<Piece>>,
}

struct Piece {
    range: Range<u64>,
    mapping: MmapRegion,
}

impl Memory {
    /// Adds `bytes` of `file` from `offset` on, at bus address `start`.
    pub(crate) fn map(&self, start: u64, bytes: u64, file: File, offset: u64) -> Result<()> {
        let end = start.checked_add(bytes).context("a piece of memory goes beyond the last address")?;
        let range = start..end;
        let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = pieces.iter().find(|piece| piece.range.start < end && start < piece.range.end) {
            bail!("memory at {range:#x?} is at {:#x?} already", other.range);
        }
        let size = usize::try_from(bytes)?;
        let mapping = MmapRegion::from_file(FileOffset::new(file, offset), size)
            .with_context(|| format!("mapping memory at {range:#x?}"))?;
        pieces.push(Piece { range, mapping });
        Ok(())
    }

    /// Takes away what lies in `range`; waits for accesses under way. Answers whether there was anything.
    pub(crate) fn unmap(&self, range: &Range<u64>) -> bool {
        let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
        let before = pieces.len();
        pieces.retain(|piece| piece.range.start < range.start || range.end < piece.range.end);
        pieces.len() < before
    }

    pub(crate) fn read(&self, address: u64, into: &mut [u8]) -> Result<(), DmaError> {
        self.at(address, into.len(), |slice| slice.copy_to(into) == into.len())
    }

    pub(crate) fn write(&self, address: u64, from: &[u8]) -> Result<(), DmaError> {
        self.at(address, from.len(), |slice| {
            slice.copy_from(from);
            true
        })
    }

    /// Stores a word in one piece, after all that was written before.
    pub(crate) fn publish(&self, address: u64, value: u32) -> Result<(), DmaError> {
        self.at(address, 4, |slice| slice.store(value.to_le(), 0, Ordering::Release).is_ok())
    }

    fn at(
        &self,
        address: u64,
        bytes: usize,
        access: impl FnOnce(VolatileSlice<'_>) -> bool,
    ) -> Result<(), DmaError> {
        let unreachable = DmaError::Unreachable { address, bytes: bytes as u64 };
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        let piece = pieces.iter().find(|piece| piece.range.contains(&address)).ok_or(unreachable)?;
        let slice = piece.mapping.get_slice((address - piece.range.start) as usize, bytes);
        if access(slice.map_err(|_| unreachable)?) { Ok(()) } else { Err(unreachable) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: u64) -> File {
        let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC);
        let file = File::from(fd.expect("the host has memory"));
        file.set_len(bytes).expect("the host has memory");
        file
    }

    #[test]
    fn what_is_written_is_in_the_file_and_elsewhere_there_is_nothing() {
        let memory = Memory::default();
        let shared = file(0x3000);
        let again = shared.try_clone().expect("it can be opened twice");
        memory.map(0x10000, 0x2000, again, 0x1000).expect("there is nothing yet");
        memory.write(0x10ffe, &[1, 2, 3]).expect("it is memory");
        let mut found = [0; 3];
        std::os::unix::fs::FileExt::read_exact_at(&shared, &mut found, 0x1ffe).expect("it is there");
        assert_eq!(found, [1, 2, 3]);
        memory.publish(0x10004, 0x0403_0201).expect("it is a word");
        let mut word = [0; 4];
        memory.read(0x10004, &mut word).expect("it is memory");
        assert_eq!(word, [1, 2, 3, 4]);
        for (address, bytes) in [(0xffff, 1), (0x11fff, 2), (0x12000, 1), (u64::MAX, 2)] {
            let unreachable = DmaError::Unreachable { address, bytes };
            assert_eq!(memory.write(address, &vec![0; bytes as usize]), Err(unreachable));
        }
        let crooked = DmaError::Unreachable { address: 0x10002, bytes: 4 };
        assert_eq!(memory.publish(0x10002, 1), Err(crooked));
    }

    #[test]
    fn memory_that_is_taken_away_is_gone() {
        let memory = Memory::default();
        memory.map(0, 0x1000, file(0x1000), 0).expect("there is nothing yet");
        let twice = memory.map(0x800, 0x1000, file(0x1000), 0).expect_err("half of it is there");
        assert!(twice.to_string().contains("already"), "{twice}");
        assert!(memory.write(0, &[1]).is_ok());
        assert!(memory.unmap(&(0..0x1000)));
        assert!(!memory.unmap(&(0..0x1000)));
        assert!(memory.write(0, &[1]).is_err());
    }
}
