//! The kernel's shared heap: [`coppice_rref::heap`] over the machine's frames.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_abi::{DomainId, Fingerprint};
use coppice_rref::heap::{SPAN_BYTES, SharedHeap, SpanSource, Sweep, Usage, World};
use coppice_rref::{Header, TypeEntry};

use crate::cpu::this_cpu;
use crate::frames::{self, FrameOwner};
use crate::machine::PAGE_SIZE;
use crate::{checkpoint, domain, types};

struct Frames;

// SAFETY: the frames of the shared heap are its own, aligned to spans (`frames`), and zeroed here.
unsafe impl SpanSource for Frames {
    fn take(&self, count: usize) -> Option<NonNull<u8>> {
        // Locks are held: the way out of this section sees to the rest.
        HAS_GROWN.store(true, Ordering::Relaxed);
        checkpoint::request_here();
        frames::take_zeroed(count * (SPAN_BYTES / PAGE_SIZE), FrameOwner::SHARED)
    }
    fn give(&self, memory: NonNull<u8>, _: usize) {
        frames::give(memory);
    }
}

/// Set when the heap takes memory, until somebody asks.
static HAS_GROWN: AtomicBool = AtomicBool::new(false);

static HEAP: SharedHeap<Frames> = SharedHeap::new(Frames);

struct Kernel;

impl World for Kernel {
    fn type_entry(&self, id: Fingerprint) -> Option<&TypeEntry> {
        types::find(id)
    }
    fn is_alive(&self, domain: DomainId) -> bool {
        domain::is_alive(domain)
    }
    unsafe fn destroy(&self, value: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { destroy(value) };
    }
}

/// A new untyped object of `owner`.
#[inline(always)]
pub(crate) fn alloc(owner: DomainId, class: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
    // SAFETY: our CPU's, in a section, and the heap does not come back here.
    let cache = unsafe { this_cpu().cache.get() };
    HEAP.alloc(cache, owner, class, size, align)
}

/// Frees an object without running a destructor.
///
/// # Safety
/// `value` is a live object that nobody uses any more.
#[inline(always)]
pub(crate) unsafe fn free(value: NonNull<u8>) {
    // SAFETY: our CPU's, in a section, and the heap does not come back here.
    let cache = unsafe { this_cpu().cache.get() };
    // SAFETY: the caller's promise.
    unsafe { HEAP.free(cache, value) };
}

/// Runs an object's destructor and frees it.
///
/// # Safety
/// As [`free`].
pub(crate) unsafe fn destroy(value: NonNull<u8>) {
    // SAFETY: the caller's promise.
    let header = unsafe { Header::of(value) };
    if let Some(entry) = types::find(header.type_id()) {
        // SAFETY: R4: the published type is the value's.
        unsafe { (entry.drop)(value.as_ptr()) };
    }
    // SAFETY: the caller's promise.
    unsafe { free(value) };
}

/// Gives a lent object back.
///
/// # Safety
/// `value` is a live object that the caller holds and does not use any more.
pub(crate) unsafe fn return_lent(value: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.return_lent(value, &Kernel) };
}

/// Keeps objects that a call goes on reading although its caller has died; see [`SharedHeap::retain`].
///
/// # Safety
/// Each is a live object, and the world is stopped.
pub(crate) unsafe fn retain(values: impl Iterator<Item = NonNull<u8>>) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.retain(values) };
}

/// Takes back what a dead domain owned; see [`SharedHeap::sweep`].
///
/// # Safety
/// The world was stopped since `dead` died, each thread inside it has been sent away, and what calls still read retained.
pub(crate) unsafe fn sweep(dead: DomainId) -> Sweep {
    // SAFETY: the caller's promise; `Kernel` answers from the domain table.
    unsafe { HEAP.sweep(dead, &Kernel) }
}

/// Ends a call's reading of objects whose owner died; see [`SharedHeap::release`].
///
/// # Safety
/// Each was retained for this call.
pub(crate) unsafe fn release(values: impl Iterator<Item = NonNull<u8>>) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.release(values, &Kernel) };
}

/// Whether the heap has taken memory since this was asked last.
#[inline]
pub(crate) fn has_grown() -> bool {
    HAS_GROWN.load(Ordering::Relaxed) && HAS_GROWN.swap(false, Ordering::Relaxed)
}

/// Visits the owner of each object in use, with the bytes that it takes.
pub(crate) fn census(visit: impl FnMut(DomainId, usize)) {
    HEAP.census(visit);
}

/// What `owner` owns at the root.
pub(crate) fn usage(owner: DomainId) -> Usage {
    HEAP.usage(owner)
}

/// Gives this CPU's free objects back to their spans, and empty spans to the machine.
pub(crate) fn flush() {
    // SAFETY: our CPU's, in a section, and the heap does not come back here.
    let cache = unsafe { this_cpu().cache.get() };
    HEAP.flush(cache);
}
