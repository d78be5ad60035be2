//! Physical memory: one mapping. The offset of an address in it is its "physical" address.

use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use coppice_kernel::machine::{PAGE_SIZE, PhysAddr, Protection};

use crate::heap;

/// Alignment of the mapping: that of the largest block of frames, which allows huge pages too.
const ALIGN: usize = 64 << 20;

/// The mapping.
pub(crate) struct Memory {
    /// Address of physical address 0.
    base: usize,
    bytes: usize,
    /// For each page, true if it is read-write, for devices.
    writable: Box<[AtomicBool]>,
}

impl Memory {
    /// Maps `bytes`, in huge pages if the host has them. Pages cost nothing until they are used.
    pub(crate) fn map(bytes: usize) -> io::Result<Self> {
        let bytes = bytes & !(PAGE_SIZE - 1);
        let start = Self::reserve(bytes + ALIGN)?;
        let base = start.next_multiple_of(ALIGN);
        // A hint: without it the kernel works too, but more slowly.
        // SAFETY: the range belongs to this mapping.
        unsafe { libc::madvise(base as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE) };
        heap::set_memory(base, bytes);
        let writable = (0..bytes / PAGE_SIZE).map(|_| AtomicBool::new(true)).collect();
        Ok(Self { base, bytes, writable })
    }

    /// Reserves address space, if possible directly below this program: a CPU predicts calls and returns
    /// between the kernel and domain images worse when they lie more than 4 GiB apart (measured on a Zen 4: 8
    /// cycles of the counter a crossing).
    fn reserve(bytes: usize) -> io::Result<usize> {
        let program = Self::map as *const () as usize & !(ALIGN - 1);
        let near = program
            .checked_sub(bytes + ALIGN)
            .and_then(|start| map_at(start, bytes, libc::MAP_FIXED_NOREPLACE).ok());
        near.map_or_else(|| map_at(0, bytes, 0), Ok)
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// Returns the physical addresses that the kernel may use.
    pub(crate) fn range(&self) -> Range<PhysAddr> {
        PhysAddr(0)..PhysAddr(self.bytes as u64)
    }

    /// Returns the address of these bytes for a device; `None` if they are not all memory, or not all
    /// writable.
    pub(crate) fn for_device(&self, address: u64, len: usize) -> Option<*mut u8> {
        let start = usize::try_from(address).ok()?;
        let end = start.checked_add(len).filter(|&end| end <= self.bytes)?;
        let pages = &self.writable[start / PAGE_SIZE..end.div_ceil(PAGE_SIZE)];
        let all = pages.iter().all(|page| page.load(Ordering::Relaxed));
        all.then(|| ptr::with_exposed_provenance_mut(self.base + start))
    }

    /// Changes the permissions of pages.
    ///
    /// # Panics
    /// When the host refuses, or the range is not in the mapping: both are a defect of the kernel, or the
    /// host's limit on mappings (`vm.max_map_count`), which the message names.
    pub(crate) fn protect(&self, start: usize, len: usize, protection: Protection) {
        assert!(
            start >= self.base && start + len <= self.base + self.bytes,
            "{start:#x} is not the kernel's memory"
        );
        let flags = match protection {
            Protection::None => libc::PROT_NONE,
            Protection::Read => libc::PROT_READ,
            Protection::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
            Protection::ReadExecute => libc::PROT_READ | libc::PROT_EXEC,
        };
        let first = (start - self.base) / PAGE_SIZE;
        let note = |is_writable| {
            let pages = &self.writable[first..first + len / PAGE_SIZE];
            pages.iter().for_each(|page| page.store(is_writable, Ordering::SeqCst));
        };
        // In this order a device reaches no page on which it would fault, except by an access that is already
        // under way.
        if protection != Protection::ReadWrite {
            note(false);
        }
        // SAFETY: the range is in this mapping, as checked.
        let result = unsafe { libc::mprotect(start as *mut libc::c_void, len, flags) };
        assert!(
            result == 0,
            "mprotect of {len:#x} bytes at {start:#x}: {} (see vm.max_map_count)",
            io::Error::last_os_error()
        );
        if protection == Protection::ReadWrite {
            note(true);
        }
    }
}

/// Maps new memory at `start`, with the flags `how`; at any address, if `start` is 0.
fn map_at(start: usize, bytes: usize, how: libc::c_int) -> io::Result<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | how;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let hint = ptr::without_provenance_mut(start);
    // SAFETY: a new mapping; `how` never replaces one that exists.
    let mapped = unsafe { libc::mmap(hint, bytes, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(mapped as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    #[test]
    fn a_device_reaches_writable_memory_only() {
        let memory = Memory::map(8 * PAGE_SIZE).expect("the host has eight pages");
        let at = |address: u64| Some(memory.base() + address as usize);
        let reach = |address, len| memory.for_device(address, len).map(|place| place.addr());
        assert_eq!(reach(0, 8 * PAGE_SIZE), at(0));
        assert_eq!(reach(8 * PAGE - 1, 1), at(8 * PAGE - 1));
        for (address, len) in
            [(8 * PAGE - 1, 2), (8 * PAGE, 1), (u64::MAX, 1), (u64::MAX - 7, 64), (0, usize::MAX)]
        {
            assert_eq!(reach(address, len), None, "{len} bytes at {address:#x}");
        }
        for protection in [Protection::None, Protection::Read, Protection::ReadExecute] {
            memory.protect(memory.base() + 2 * PAGE_SIZE, PAGE_SIZE, protection);
            assert_eq!(reach(2 * PAGE, 1), None, "{protection:?}");
            assert_eq!(reach(2 * PAGE - 4, 8), None, "{protection:?}, with its end");
            assert_eq!(reach(2 * PAGE - 4, 4), at(2 * PAGE - 4));
            assert_eq!(reach(3 * PAGE, 4), at(3 * PAGE));
            memory.protect(memory.base() + 2 * PAGE_SIZE, PAGE_SIZE, Protection::ReadWrite);
            assert_eq!(reach(2 * PAGE - 4, 8), at(2 * PAGE - 4));
        }
    }
}
