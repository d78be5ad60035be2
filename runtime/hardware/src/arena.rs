//! [`Arena`]: simulated physical memory, for drivers and device models that run without a machine.

use alloc::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use crate::{DeviceRefusal, Region};

const PAGE: usize = 4096;

/// Device addresses begin here, so that a zero in a descriptor is not an address by chance.
const FIRST_ADDRESS: u64 = 0x10_0000;

/// Memory with device addresses. Regions are taken from it one after the other and are valid as long as the
/// arena.
///
/// A device model accesses the memory by [`Self::read`] and [`Self::write`], which refuse an address outside
/// the arena. The tests check that an address inside is one that the driver meant.
pub struct Arena {
    memory: NonNull<u8>,
    len: usize,
    taken: AtomicUsize,
}

// SAFETY: it owns its memory.
unsafe impl Send for Arena {}
// SAFETY: regions do not overlap, and accesses by address are like a device's: plain bytes, at any time.
unsafe impl Sync for Arena {}

/// An access outside the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OutsideArena {
    /// The device address of the first byte.
    pub address: u64,
    /// Number of bytes.
    pub len: usize,
}

impl Arena {
    /// An arena of `pages` pages of 4 KiB, zeroed.
    pub fn new(pages: usize) -> Self {
        let layout = Self::layout(pages * PAGE);
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Self { memory, len: pages * PAGE, taken: AtomicUsize::new(0) }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len.max(PAGE), PAGE).expect("a page's alignment is a power of two")
    }

    /// Takes `pages` adjacent pages that have not been taken yet.
    ///
    /// The caller keeps the arena for as long as it uses the region, as [`crate::Backend::region`] requires
    /// anyway.
    ///
    /// # Errors
    /// [`DeviceRefusal::NoMemory`] when fewer pages are left.
    pub fn region(self: &alloc::sync::Arc<Self>, pages: usize) -> Result<Region, DeviceRefusal> {
        let bytes = pages * PAGE;
        let take = |taken: usize| taken.checked_add(bytes).filter(|&end| end <= self.len);
        let start = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map_err(|_| DeviceRefusal::NoMemory { bytes })?;
        // The memory is never freed while a region of it may be in use.
        core::mem::forget(self.clone());
        // SAFETY: in the memory, as `take` checked.
        let memory = unsafe { self.memory.add(start) };
        // SAFETY: H2: these pages are handed out once; the arena is leaked by the line above.
        Ok(unsafe { Region::new(memory, FIRST_ADDRESS + start as u64, bytes) })
    }

    /// Copies from a device address.
    ///
    /// # Errors
    /// When part of the range is outside the arena; then nothing is copied.
    pub fn read(&self, address: u64, into: &mut [u8]) -> Result<(), OutsideArena> {
        let place = self.place(address, into.len())?;
        // SAFETY: in the memory; no reference leads there.
        unsafe { into.as_mut_ptr().copy_from_nonoverlapping(place, into.len()) };
        Ok(())
    }

    /// Copies to a device address.
    ///
    /// # Errors
    /// When part of the range is outside the arena; then nothing is copied.
    pub fn write(&self, address: u64, from: &[u8]) -> Result<(), OutsideArena> {
        let place = self.place(address, from.len())?;
        // SAFETY: in the memory; no reference leads there.
        unsafe { place.copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    /// Writes a word that publishes all earlier writes: a reader that sees it sees them too.
    ///
    /// # Errors
    /// When the word is outside the arena or not aligned.
    pub fn write_flag(&self, address: u64, value: u32) -> Result<(), OutsideArena> {
        let place = self.place(address, 4)?.cast::<u32>();
        if !place.is_aligned() {
            return Err(OutsideArena { address, len: 4 });
        }
        // SAFETY: in the memory and aligned; all accesses to it are of the whole word.
        unsafe { AtomicU32::from_ptr(place) }.store(value, Ordering::Release);
        Ok(())
    }

    fn place(&self, address: u64, len: usize) -> Result<*mut u8, OutsideArena> {
        let outside = OutsideArena { address, len };
        let start = address.checked_sub(FIRST_ADDRESS).ok_or(outside)? as usize;
        if start.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(outside);
        }
        // SAFETY: in the memory, as checked.
        Ok(unsafe { self.memory.as_ptr().add(start) })
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; no region was taken, or this would not be dropped.
        unsafe { dealloc(self.memory.as_ptr(), Self::layout(self.len)) };
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use super::*;

    #[test]
    fn regions_do_not_overlap_and_end_with_the_arena() {
        let arena = Arc::new(Arena::new(4));
        let first = arena.region(1).expect("there are four pages");
        let second = arena.region(3).expect("three are left");
        assert_eq!(second.address, first.address + PAGE as u64);
        assert_eq!(arena.region(1).map(|_| ()), Err(DeviceRefusal::NoMemory { bytes: PAGE }));
    }

    #[test]
    fn access_outside_the_arena_is_refused_and_copies_nothing() {
        let arena = Arena::new(1);
        let end = FIRST_ADDRESS + PAGE as u64;
        let mut bytes = [7; 8];
        for address in [0, FIRST_ADDRESS - 1, end - 7, end, u64::MAX - 3] {
            assert_eq!(arena.read(address, &mut bytes), Err(OutsideArena { address, len: 8 }));
            assert_eq!(arena.write(address, &bytes), Err(OutsideArena { address, len: 8 }));
        }
        assert_eq!(bytes, [7; 8]);
        let mut all = [1; PAGE];
        arena.read(FIRST_ADDRESS, &mut all).expect("the whole arena");
        assert!(all.iter().all(|&byte| byte == 0));
    }
}
