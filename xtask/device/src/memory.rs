//! [`Memory`], the memory of a machine, shared with this process.

use std::fs::File;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{PoisonError, RwLock};

use anyhow::{Context, Result, bail};
use device_bus::DmaError;
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

/// Memory by bus address, in regions that are mapped into this process. Accesses are volatile, because the
/// machine's CPUs access it at the same time.
#[derive(Default)]
pub(crate) struct Memory {
    /// Accesses hold the lock for reading, so that unmapping waits for them.
    regions: RwLock<Vec<Region>>,
}

struct Region {
    range: Range<u64>,
    mapping: MmapRegion,
}

impl Memory {
    /// Maps `bytes` of `file` from `offset` on, at bus address `start`.
    ///
    /// # Errors
    /// If the region exceeds the address space, overlaps another one, or cannot be mapped.
    pub(crate) fn map(&self, start: u64, bytes: u64, file: File, offset: u64) -> Result<()> {
        let end = start.checked_add(bytes).context("a region of memory exceeds the address space")?;
        let range = start..end;
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) =
            regions.iter().find(|region| region.range.start < end && start < region.range.end)
        {
            bail!("memory at {range:#x?} overlaps memory that is mapped already at {:#x?}", other.range);
        }
        let size = usize::try_from(bytes)?;
        let mapping = MmapRegion::from_file(FileOffset::new(file, offset), size)
            .with_context(|| format!("mapping memory at {range:#x?}"))?;
        regions.push(Region { range, mapping });
        Ok(())
    }

    /// Unmaps the regions inside of `range`, after accesses under way. Returns true if there were any.
    pub(crate) fn unmap(&self, range: &Range<u64>) -> bool {
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        let before = regions.len();
        regions.retain(|region| region.range.start < range.start || range.end < region.range.end);
        regions.len() < before
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

    /// Stores a word atomically, after all earlier writes.
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
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        let region = regions.iter().find(|region| region.range.contains(&address)).ok_or(unreachable)?;
        let slice = region.mapping.get_slice((address - region.range.start) as usize, bytes);
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
    fn writes_reach_the_file_and_unmapped_addresses_are_refused() {
        let memory = Memory::default();
        let shared = file(0x3000);
        let again = shared.try_clone().expect("the file can be shared");
        memory.map(0x10000, 0x2000, again, 0x1000).expect("nothing is mapped there");
        memory.write(0x10ffe, &[1, 2, 3]).expect("the address is mapped");
        let mut found = [0; 3];
        std::os::unix::fs::FileExt::read_exact_at(&shared, &mut found, 0x1ffe).expect("the file is readable");
        assert_eq!(found, [1, 2, 3]);
        memory.publish(0x10004, 0x0403_0201).expect("the word is mapped");
        let mut word = [0; 4];
        memory.read(0x10004, &mut word).expect("the address is mapped");
        assert_eq!(word, [1, 2, 3, 4]);
        for (address, bytes) in [(0xffff, 1), (0x11fff, 2), (0x12000, 1), (u64::MAX, 2)] {
            let unreachable = DmaError::Unreachable { address, bytes };
            assert_eq!(memory.write(address, &vec![0; bytes as usize]), Err(unreachable));
        }
        let misaligned = DmaError::Unreachable { address: 0x10002, bytes: 4 };
        assert_eq!(memory.publish(0x10002, 1), Err(misaligned));
    }

    #[test]
    fn unmapped_memory_is_unreachable() {
        let memory = Memory::default();
        memory.map(0, 0x1000, file(0x1000), 0).expect("nothing is mapped there");
        let twice = memory.map(0x800, 0x1000, file(0x1000), 0).expect_err("the regions overlap");
        assert!(twice.to_string().contains("already"), "{twice}");
        assert!(memory.write(0, &[1]).is_ok());
        assert!(memory.unmap(&(0..0x1000)));
        assert!(!memory.unmap(&(0..0x1000)));
        assert!(memory.write(0, &[1]).is_err());
    }
}
