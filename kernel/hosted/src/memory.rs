//! Physical memory: one mapping. An address in it, less the start of the mapping, is a "physical" address.

use std::io;
use std::ops::Range;
use std::ptr;

use coppice_kernel::machine::{PAGE_SIZE, PhysAddr, Protection};

/// Alignment of the mapping: what the largest block of frames wants, and huge pages with it.
const ALIGN: usize = 64 << 20;

/// The mapping.
pub(crate) struct Memory {
    /// Where physical address 0 is.
    base: usize,
    bytes: usize,
}

impl Memory {
    /// Maps `bytes`, huge pages where the host has them. Pages cost nothing until they are used.
    pub(crate) fn map(bytes: usize) -> io::Result<Self> {
        let bytes = bytes & !(PAGE_SIZE - 1);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping touches nothing that exists.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes + ALIGN, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = (start as usize).next_multiple_of(ALIGN);
        // A hint: without it the kernel works as well, only slower.
        // SAFETY: the range is ours.
        unsafe { libc::madvise(base as *mut libc::c_void, bytes, libc::MADV_HUGEPAGE) };
        Ok(Self { base, bytes })
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// What the kernel may use.
    pub(crate) fn range(&self) -> Range<PhysAddr> {
        PhysAddr(0)..PhysAddr(self.bytes as u64)
    }

    /// Changes what code may do with pages.
    ///
    /// # Panics
    /// When the host refuses, or the range is not in the mapping: both are the kernel's mistake, or the host's limit on
    /// mappings (`vm.max_map_count`), which the message names.
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
        // SAFETY: the range is in our own mapping, as checked.
        let result = unsafe { libc::mprotect(start as *mut libc::c_void, len, flags) };
        assert!(
            result == 0,
            "mprotect of {len:#x} bytes at {start:#x}: {} (see vm.max_map_count)",
            io::Error::last_os_error()
        );
    }
}
