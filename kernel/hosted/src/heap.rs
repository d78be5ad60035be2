//! The allocators of this process: the kernel's heap for the kernel's code, the host's for all other code.
//!
//! The kernel's heap lies in the machine's memory, as on bare, so its bytes are counted and its limits are
//! real. Device models, the console's reader and the implementation of the machine allocate from the host's
//! heap. The calling code decides at an allocation ([`on_host_heap`]); the address decides when memory is
//! freed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use coppice_kernel::heap::KernelHeap;

/// The machine's memory: start and length; nothing before it is mapped.
static START: AtomicUsize = AtomicUsize::new(0);
static LEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static IS_KERNEL: Cell<bool> = const { Cell::new(false) };
}

/// The process's allocator.
pub(crate) struct ProcessHeap;

#[global_allocator]
static HEAP: ProcessHeap = ProcessHeap;

/// Names the machine's memory, which is never unmapped.
pub(crate) fn set_memory(start: usize, len: usize) {
    START.store(start, Ordering::Relaxed);
    LEN.store(len, Ordering::Release);
}

/// From here on the calling host thread, a CPU, runs the kernel.
pub(crate) fn enter_kernel() {
    IS_KERNEL.set(true);
}

/// Runs code of the host on a CPU: its allocations are not the kernel's.
pub(crate) fn on_host_heap<R>(body: impl FnOnce() -> R) -> R {
    let was_kernel = IS_KERNEL.replace(false);
    let result = body();
    IS_KERNEL.set(was_kernel);
    result
}

fn is_kernels(memory: *mut u8) -> bool {
    let len = LEN.load(Ordering::Acquire);
    memory.addr().wrapping_sub(START.load(Ordering::Relaxed)) < len
}

// SAFETY: each allocation comes from one of two allocators, and goes back to the same one: only the kernel's
// has memory in the range.
unsafe impl GlobalAlloc for ProcessHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if IS_KERNEL.get() {
            // SAFETY: the caller's promise.
            unsafe { KernelHeap.alloc(layout) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { System.alloc(layout) }
        }
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_kernels(memory) {
            // SAFETY: the caller's promise, and the address.
            unsafe { KernelHeap.dealloc(memory, layout) }
        } else {
            // SAFETY: as above.
            unsafe { System.dealloc(memory, layout) }
        }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if IS_KERNEL.get() {
            // SAFETY: the caller's promise.
            unsafe { KernelHeap.alloc_zeroed(layout) }
        } else {
            // SAFETY: the caller's promise.
            unsafe { System.alloc_zeroed(layout) }
        }
    }
    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if is_kernels(memory) {
            // SAFETY: the caller's promise, and the address.
            unsafe { KernelHeap.realloc(memory, layout, new_size) }
        } else {
            // SAFETY: as above.
            unsafe { System.realloc(memory, layout, new_size) }
        }
    }
}
