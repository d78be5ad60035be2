//! The kernel's shared heap: [`coppice_rref::heap`] over the machine's frames.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_abi::{DomainId, Fingerprint, Refusal};
use coppice_rref::heap::{Cache, Counted, SPAN_BYTES, SharedHeap, SpanSource, Sweep, Usage, World};
use coppice_rref::{Header, Payer, TypeEntry};

use crate::domain::quota::CpuReserves;
use crate::domain::{recount, shared_types};
use crate::memory::frames::{self, FrameOwner};
use crate::platform::machine::PAGE_SIZE;
use crate::platform::sync::{self, PerCpu, Section};
use crate::sched::cpu::cpus;
use crate::sched::cpu_local::CpuLocal;
use crate::sched::world::Stopped;
use crate::sched::{liveness, thread};

struct Frames;

// SAFETY: the frames of the shared heap are its own, aligned to spans (`frames`), and zeroed here.
unsafe impl SpanSource for Frames {
    fn take(&self, count: usize) -> Option<NonNull<u8>> {
        // Locks are held: the way out of this section sees to the rest.
        HAS_GROWN.store(true, Ordering::Relaxed);
        sync::request_checkpoint();
        frames::take_zeroed(count * (SPAN_BYTES / PAGE_SIZE), FrameOwner::SHARED)
    }
    fn give(&self, memory: NonNull<u8>, _: usize) {
        frames::give(memory);
    }
}

/// Set when the heap takes memory, until somebody asks.
static HAS_GROWN: AtomicBool = AtomicBool::new(false);

static HEAP: SharedHeap<Frames> = SharedHeap::new(Frames);

/// The part of the heap that each CPU has to itself.
struct Local {
    /// Free objects.
    cache: PerCpu<Cache>,
    /// Bytes in hand of the domains' quotas.
    reserves: PerCpu<CpuReserves>,
}

static LOCAL: CpuLocal<Local> = CpuLocal::new();

/// Makes the part of CPU `cpu`, before that uses the heap.
pub(crate) fn init_cpu(cpu: usize) {
    LOCAL.create(cpu, Local { cache: PerCpu::new(Cache::new()), reserves: PerCpu::new(CpuReserves::new()) });
}

fn locals() -> impl Iterator<Item = &'static Local> {
    cpus().filter_map(|cpu| LOCAL.get(cpu.number))
}

/// The reserves of all CPUs.
pub(super) fn reserves(_: &Stopped) -> impl Iterator<Item = &'static PerCpu<CpuReserves>> {
    locals().map(|local| &local.reserves)
}

struct Kernel;

impl World for Kernel {
    fn type_entry(&self, id: Fingerprint) -> Option<&TypeEntry> {
        shared_types::find(id)
    }
    fn is_alive(&self, domain: DomainId) -> bool {
        liveness::is_alive(domain)
    }
    unsafe fn destroy(&self, value: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { destroy(value) };
    }
}

/// A new untyped object of `owner`, who is charged for it.
#[inline(always)]
pub(crate) fn alloc(
    owner: DomainId,
    class: usize,
    size: usize,
    align: usize,
) -> Result<NonNull<u8>, Refusal> {
    let local = LOCAL.here();
    // SAFETY: our CPU's, in a section, and the heap does not come back here.
    let cache = unsafe { local.cache.get() };
    // SAFETY: as above.
    let reserves = unsafe { local.reserves.get() };
    HEAP.alloc(cache, reserves, owner, class, size, align)
}

/// What a service does when the running thread's domain was refused a shared object: tries once more when the quotas have
/// been counted exactly, or remembers why there is none.
#[cold]
pub(crate) fn insist(
    section: &Section,
    refusal: Refusal,
    again: impl FnOnce() -> Result<NonNull<u8>, Refusal>,
) -> Option<NonNull<u8>> {
    // In an inner section the world cannot be stopped.
    let outcome = if refusal == Refusal::Quota && section.is_outermost() {
        recount::run();
        again()
    } else {
        Err(refusal)
    };
    // SAFETY: T3: the running thread's own.
    let fields = unsafe { thread::current().fields() };
    outcome.map_err(|refusal| fields.refusal = refusal).ok()
}

/// See [`SharedHeap::charge_owners`].
///
/// # Safety
/// The world is stopped, and the caller holds no lock.
pub(crate) unsafe fn charge_owners(charge: impl FnMut(DomainId, usize) -> Payer) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.charge_owners(&Kernel, charge) };
}

/// Frees an object without running a destructor.
///
/// # Safety
/// `value` is a live object that nobody uses any more.
#[inline(always)]
pub(crate) unsafe fn free(value: NonNull<u8>) {
    let local = LOCAL.here();
    // SAFETY: our CPU's, in a section, and the heap does not come back here.
    let cache = unsafe { local.cache.get() };
    // SAFETY: as above.
    let reserves = unsafe { local.reserves.get() };
    // SAFETY: the caller's promise.
    unsafe { HEAP.free(cache, reserves, value) };
}

/// Runs an object's destructor and frees it.
///
/// # Safety
/// As [`free`].
pub(crate) unsafe fn destroy(value: NonNull<u8>) {
    // SAFETY: the caller's promise.
    let header = unsafe { Header::of(value) };
    if let Some(entry) = shared_types::find(header.type_id()) {
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

/// See [`SharedHeap::audit`].
pub(crate) fn audit(_: &Stopped, find: &mut dyn FnMut(core::fmt::Arguments<'_>)) -> Counted {
    // SAFETY: no other CPU runs, and nothing here comes back to the caches.
    let caches = locals().map(|local| &*unsafe { local.cache.get() });
    // SAFETY: the world is stopped, and we come from outside the heap.
    unsafe { HEAP.audit(caches, &Kernel, find) }
}

/// See [`SharedHeap::for_each_charge`].
pub(crate) fn for_each_charge(_: &Stopped, visit: impl FnMut(&Header, usize)) {
    // SAFETY: as above.
    unsafe { HEAP.for_each_charge(visit) };
}

/// What `owner` owns at the root.
pub(crate) fn usage(owner: DomainId) -> Usage {
    HEAP.usage(owner)
}

/// Gives this CPU's free objects back to their spans, and empty spans to the machine.
pub(crate) fn flush() {
    // SAFETY: our CPU's, in a section.
    unsafe { flush_local(LOCAL.here()) };
}

/// Flushes the caches of all CPUs as [`flush`] does its own CPU's.
pub(crate) fn flush_all(_: &Stopped) {
    for local in locals() {
        // SAFETY: our own, or its CPU is stopped outside any section.
        unsafe { flush_local(local) };
    }
}

/// Flushes a CPU's cache.
///
/// # Safety
/// In a section. The CPU is the running one, or the world is stopped.
unsafe fn flush_local(local: &Local) {
    // SAFETY: by the caller's promise no other code uses the cache, and the heap does not come back here.
    let cache = unsafe { local.cache.get() };
    // SAFETY: as above.
    let reserves = unsafe { local.reserves.get() };
    HEAP.flush(cache, reserves);
}
