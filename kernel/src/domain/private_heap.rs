//! The private heap of a domain: blocks of frames, some of which are DMA memory.

use alloc::vec::Vec;
use core::ptr::NonNull;

use coppice_abi::{DeviceRefusal, DmaBlock};

use crate::device;
use crate::domain::load::Program;
use crate::domain::{self, Domain};
use crate::memory::frames::{self, FrameOwner};
use crate::memory::heap::{self, Charge, Purpose};
use crate::platform::machine::{PAGE_SIZE, machine};
use crate::sched::cpu::current_domain;

#[derive(Default)]
pub(super) struct PrivateHeap {
    blocks: Vec<NonNull<u8>>,
    pages: usize,
    /// The part of `pages` that is DMA memory.
    dma_pages: usize,
}

// SAFETY: a heap owns its blocks.
unsafe impl Send for PrivateHeap {}

/// Allocates zeroed adjacent pages that the caller's device can reach, charged to the caller's private heap.
/// They are freed when the instance is over and its devices have been quiesced.
///
/// # Errors
/// When `device` is not a device of the caller's, the quota is used up, or there is no memory.
pub(crate) fn take_dma_memory(device: u32, pages: usize) -> Result<DmaBlock, DeviceRefusal> {
    device::info(device)?;
    let domain = domain::get(current_domain().slot());
    let memory = domain.and_then(|domain| domain.take_dma_memory(pages));
    let memory = memory.ok_or(DeviceRefusal::NoMemory { bytes: pages.saturating_mul(PAGE_SIZE) })?;
    let address = memory.addr().get() - machine().phys_offset();
    // SAFETY: these pages are the domain's from here on, and zeroed.
    Ok(unsafe { DmaBlock::new(memory.as_ptr(), address as u64) })
}

impl Domain {
    /// Allocates `count` zeroed pages for the private heap, if the quota and memory suffice.
    pub(crate) fn grow_heap(&self, count: usize) -> Option<NonNull<u8>> {
        let mut heap = self.heap.lock();
        self.grow(&mut heap, count)
    }

    /// Allocates `count` zeroed pages as [`Self::grow_heap`] does, and counts them as DMA memory.
    fn take_dma_memory(&self, count: usize) -> Option<NonNull<u8>> {
        let mut heap = self.heap.lock();
        let block = self.grow(&mut heap, count)?;
        heap.dma_pages += count;
        Some(block)
    }

    fn grow(&self, heap: &mut PrivateHeap, count: usize) -> Option<NonNull<u8>> {
        let bytes = heap.pages.checked_add(count)?.checked_mul(PAGE_SIZE)?;
        if count == 0 || bytes as u64 > self.allowance().heap_bytes {
            return None;
        }
        if !heap::try_reserve(Charge::to_slot(self.slot, Purpose::HeapList), &mut heap.blocks, 1) {
            return None;
        }
        let block = frames::take_zeroed(count, FrameOwner::domain(self.slot))?;
        heap.blocks.push(block);
        heap.pages += count;
        Some(block)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.heap.lock().pages * PAGE_SIZE
    }

    /// The bytes of the list of the private heap's blocks; `None` if the list's lock is held.
    pub(crate) fn heap_list_bytes(&self) -> Option<usize> {
        Some(heap::list_bytes(&self.heap.try_lock()?.blocks))
    }

    /// The frames of the private heap, the part of them that is DMA memory, and the frames of the image.
    /// `None` if the lock of either is held.
    pub(crate) fn frames(&self) -> Option<(usize, usize, usize)> {
        let heap = self.heap.try_lock()?;
        let (heap, dma) = (heap.pages, heap.dma_pages);
        let image = self.program.try_lock()?.as_ref().map_or(0, Program::frames);
        Some((heap, dma, image))
    }

    /// Frees the private heap of an instance that is over and whose devices have been quiesced. Returns the
    /// number of pages freed.
    pub(crate) fn free_heap(&self) -> usize {
        let heap = core::mem::take(&mut *self.heap.lock());
        heap.blocks.into_iter().for_each(frames::give);
        heap.pages
    }
}
