//! The private heap: an allocator in the domain, over pages that the kernel charges to its quota.
//!
//! It is never torn down: when the domain dies, the kernel takes the pages, in any state.

use core::alloc::{GlobalAlloc, Layout};

use coppice_abi::{CrashKind, CrashReport, services};
use talc::TalcLock;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

use crate::sync::RawMutex;

const PAGE: usize = 4096;

/// Pages that the heap requests at once while the quota allows it.
const STEP: usize = 16;

/// The allocator that [`crate::entry!`] installs.
///
/// A failed allocation ends the domain: its quota is exhausted, and nothing in it can continue.
///
/// Its lock blocks. With a spinning one, a thread of higher priority than the holder could keep the holder
/// off the CPU for ever.
pub struct Heap(TalcLock<RawMutex, Pages>);

#[derive(Debug)]
struct Pages;

// SAFETY: claims pages that are this domain's until it dies, and does not allocate.
unsafe impl Source for Pages {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the alignment and for talc's own tables, which lie in its first memory.
        let least = (layout.size() + layout.align() + PAGE).div_ceil(PAGE);
        let request = |pages: usize| {
            let memory = (services().pages_alloc)(pages);
            if memory.is_null() {
                return None;
            }
            // SAFETY: fresh pages, owned by this domain.
            unsafe { talc.claim(memory, pages * PAGE) }
        };
        [least.max(STEP), least].into_iter().find_map(request).map(drop).ok_or(())
    }
}

impl Heap {
    /// Makes a heap without pages.
    #[allow(clippy::new_without_default, reason = "it is a static's initialiser")]
    pub const fn new() -> Self {
        Self(TalcLock::new(Pages))
    }
}

// SAFETY: forwards to talc; an allocation that fails does not return.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let memory = unsafe { self.0.alloc(layout) };
        if memory.is_null() { exhausted() } else { memory }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(memory, layout) }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let memory = unsafe { self.0.realloc(memory, layout, new_size) };
        if memory.is_null() { exhausted() } else { memory }
    }
}

#[cold]
fn exhausted() -> ! {
    let message = "the private heap's quota is exhausted";
    let report = CrashReport { kind: CrashKind::OutOfMemory, line: 0, file: "", message };
    // SAFETY: the report is valid for the call.
    unsafe { (services().crash)(&raw const report) }
}
