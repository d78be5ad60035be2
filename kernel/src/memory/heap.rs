//! [`KernelHeap`]: the allocator behind `Box` and `Vec` in the kernel on the bare machine. The hosted machine
//! keeps its process's allocator, since the standard library needs it long before the kernel has memory.

use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};

use spin::mutex::SpinMutex;
use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

use crate::memory::frames::{self, FrameOwner};
use crate::platform::machine::PAGE_SIZE;
use crate::platform::sync::Relax;

/// The minimum number of frames that the heap takes at once.
const STEP: usize = 64;

/// The kernel's allocator, for `#[global_allocator]`. It works once [`crate::entry::boot()`] has taken over
/// the memory; before that every allocation fails.
pub struct KernelHeap;

#[derive(Debug)]
struct FrameSource;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// The number of frames that the heap has taken; 0 on the hosted machine, where the process's allocator is
/// used.
pub(crate) fn frames() -> usize {
    TAKEN.load(Ordering::Relaxed)
}

static HEAP: TalcLock<SpinMutex<(), Relax>, FrameSource> = TalcLock::new(FrameSource);

// SAFETY: `acquire` claims frames that stay the kernel's for good, and does not allocate.
unsafe impl Source for FrameSource {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Twice the size leaves room for the alignment and for talc's own tables.
        let pages = (layout.size() * 2 + layout.align()).div_ceil(PAGE_SIZE).max(STEP);
        let memory = frames::take(pages, FrameOwner::KERNEL).ok_or(())?;
        TAKEN.fetch_add(pages, Ordering::Relaxed);
        // SAFETY: the frames are the kernel's and never given back.
        unsafe { talc.claim(memory.as_ptr(), pages * PAGE_SIZE) }.map(drop).ok_or(())
    }
}

// SAFETY: forwards to talc. Callers are in a section, as all kernel code is, so the lock's holder always
// runs.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { HEAP.alloc(layout) }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { HEAP.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { HEAP.realloc(memory, layout, new_size) }
    }
}
