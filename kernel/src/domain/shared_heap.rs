//! The kernel's shared heap: [`coppice_rref::heap`] on the machine's frames.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_abi::{DomainId, Refusal, SLOT_LIMIT, TypeNumber};
use coppice_rref::heap::{
    Cache, ChargeWalk, Counted, SPAN_BYTES, SharedHeap, SpanSource, Sweep, Usage, World, share_bucket,
};
use coppice_rref::{Header, Payer, TypeEntry};

use crate::domain::quota::{self, CpuReserves};
use crate::domain::{self, reaper, recount, shared_types};
use crate::memory::frames::{self, FrameOwner};
use crate::platform::machine::{PAGE_SIZE, machine};
use crate::platform::sync::{self, PerCpu, Section};
use crate::sched::cpu::{cpus, current_domain};
use crate::sched::cpu_local::CpuLocal;
use crate::sched::hooks::pause;
use crate::sched::world::Stopped;
use crate::sched::{liveness, thread};

struct Frames;

// SAFETY: the frames given to the shared heap are used by nothing else, and aligned to the next power of two
// of their size (`frames`).
unsafe impl SpanSource for Frames {
    fn take(&self, count: usize) -> Option<NonNull<u8>> {
        // Locks are held here, so the census is left to the checkpoint at the end of this section.
        HAS_GROWN.store(true, Ordering::Relaxed);
        sync::request_checkpoint();
        frames::take(count * (SPAN_BYTES / PAGE_SIZE), FrameOwner::SHARED)
    }
    fn give(&self, memory: NonNull<u8>, _: usize) {
        frames::give(memory);
    }
}

/// Set when the heap takes memory, until [`has_grown`] reports it.
static HAS_GROWN: AtomicBool = AtomicBool::new(false);

static HEAP: SharedHeap<Frames> = SharedHeap::new(Frames);

/// The per-CPU part of the heap.
struct Local {
    /// Free objects.
    cache: PerCpu<Cache>,
    /// The CPU's reserves of the domains' quotas.
    reserves: PerCpu<CpuReserves>,
}

static LOCAL: CpuLocal<Local> = CpuLocal::new();

/// Creates the part of CPU `cpu`, before that CPU uses the heap.
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

struct Kernel {
    /// The caller is in its outermost section and holds no lock, so walks can pause.
    can_pause: bool,
}

const PAUSING: Kernel = Kernel { can_pause: true };
const AT_ONCE: Kernel = Kernel { can_pause: false };

impl World for Kernel {
    fn type_entry(&self, number: TypeNumber) -> Option<&TypeEntry> {
        shared_types::entry(number)
    }
    fn is_alive(&self, domain: DomainId) -> bool {
        liveness::is_alive(domain)
    }
    fn change_payer(&self, from: Payer, to: Payer, bytes: usize) {
        quota::change_payer(from, to, bytes);
    }
    unsafe fn destroy(&self, value: NonNull<u8>) {
        // SAFETY: the caller's promise.
        unsafe { destroy(value) };
    }
    fn shares_bucket(&self, domain: DomainId) -> bool {
        let others = (0..SLOT_LIMIT).filter(|&slot| slot != domain.slot());
        let others = others.filter(|&slot| slot == DomainId::KERNEL.slot() || domain::get(slot).is_some());
        others.map(|slot| DomainId::new(slot as u32, 0)).any(|other| share_bucket(domain, other))
    }
    fn pause(&self) {
        if self.can_pause {
            pause();
        }
    }
}

/// Allocates an untyped object of `owner`, and charges `owner` for it.
#[inline(always)]
pub(crate) fn alloc(
    owner: DomainId,
    class: usize,
    size: usize,
    align: usize,
) -> Result<NonNull<u8>, Refusal> {
    let local = LOCAL.here();
    // SAFETY: our CPU's, in a section, and the heap does not call back into this module.
    let cache = unsafe { local.cache.get() };
    // SAFETY: as above.
    let reserves = unsafe { local.reserves.get() };
    HEAP.alloc(cache, reserves, owner, class, size, align)
}

/// Handles the refusal of a shared object to the domain of the running thread, or records the refusal for the
/// thread. If the quota of the shared heap was the reason, it tries again after a recount; if that of the
/// kernel's heap was, when destructors of the domain have run that are due.
#[cold]
pub(crate) fn retry_or_record(
    section: &Section,
    refusal: Refusal,
    retry: impl Fn() -> Result<NonNull<u8>, Refusal>,
) -> Option<NonNull<u8>> {
    // In an inner section the world cannot be stopped, and a thread cannot wait.
    let outcome = match refusal {
        Refusal::Quota if section.is_outermost() => recount::run(current_domain(), retry),
        Refusal::KernelHeap if section.is_outermost() => retry_when_freed(current_domain().slot(), retry),
        _ => Err(refusal),
    };
    // SAFETY: T3: the fields are the running thread's own.
    let fields = unsafe { thread::current().fields() };
    outcome.map_err(|refusal| fields.refusal = refusal).ok()
}

/// Tries again whenever the reaper has freed a proxy of `slot`, for a limited time.
fn retry_when_freed(
    slot: usize,
    retry: impl Fn() -> Result<NonNull<u8>, Refusal>,
) -> Result<NonNull<u8>, Refusal> {
    let deadline_ns = machine().now_ns() + reaper::WAIT_NS;
    loop {
        let freed = reaper::freed_of(slot);
        match retry() {
            Err(Refusal::KernelHeap) if reaper::await_freed(slot, freed, deadline_ns) => {}
            outcome => return outcome,
        }
    }
}

/// A count of charges; see [`SharedHeap::charges`].
pub(crate) struct ChargeCount(ChargeWalk<'static, Frames>);

impl ChargeCount {
    /// Begins a count of the objects that `only` owns or pays for, or of all.
    pub(crate) fn begin(only: Option<DomainId>) -> Self {
        Self(HEAP.charges(only))
    }

    /// Counts the next objects; see [`ChargeWalk::step`].
    pub(crate) fn step(
        &mut self,
        _: &Stopped,
        transfer: &mut impl FnMut(Payer, DomainId, usize) -> Payer,
    ) -> bool {
        // SAFETY: the world is stopped, and no heap operation is under way on this CPU.
        unsafe { self.0.step(&AT_ONCE, transfer) }
    }

    /// See [`ChargeWalk::is_incomplete`].
    pub(crate) fn is_incomplete(&self) -> bool {
        self.0.is_incomplete()
    }
}

/// Frees an object without running a destructor.
///
/// # Safety
/// `value` is a live object that is not used any more.
#[inline(always)]
pub(crate) unsafe fn free(value: NonNull<u8>) {
    let local = LOCAL.here();
    // SAFETY: our CPU's, in a section, and the heap does not call back into this module.
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
    if let Some(entry) = shared_types::entry(header.type_number()) {
        // SAFETY: R4: the published type is that of the value.
        unsafe { entry.drop_value(value.as_ptr()) };
    }
    // SAFETY: the caller's promise.
    unsafe { free(value) };
}

/// Returns a lent object to its lender.
///
/// # Safety
/// `value` is a live object that the caller holds and does not use any more.
pub(crate) unsafe fn return_lent(value: NonNull<u8>) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.return_lent(value, &AT_ONCE) };
}

/// Makes the sweep of `owner` find an object; see [`SharedHeap::remember`].
///
/// # Safety
/// `value` is a live object. In a section.
pub(crate) unsafe fn remember(value: NonNull<u8>, owner: DomainId) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.remember(value, owner) };
}

/// Keeps objects that a call still reads although its caller has died; see [`SharedHeap::retain`].
///
/// # Safety
/// Each is a live object, and the world is stopped.
pub(crate) unsafe fn retain(values: impl Iterator<Item = NonNull<u8>>) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.retain(values) };
}

/// Frees or returns the objects of a dead domain; see [`SharedHeap::sweep`]. In the outermost section,
/// holding no lock: other threads run during its pauses.
///
/// # Safety
/// The world was stopped since `dead` died, each thread inside it has been sent away, and the objects that
/// calls still read are retained.
pub(crate) unsafe fn sweep(dead: DomainId) -> Sweep {
    // SAFETY: the caller's promise; `Kernel` looks domains up in the domain table.
    unsafe { HEAP.sweep(dead, &PAUSING) }
}

/// Releases objects that a call read after their owner died; see [`SharedHeap::release`].
///
/// # Safety
/// Each was retained for this call.
pub(crate) unsafe fn release(values: impl Iterator<Item = NonNull<u8>>) {
    // SAFETY: the caller's promise.
    unsafe { HEAP.release(values, &AT_ONCE) };
}

/// Returns true if the heap has taken memory since the last call.
#[inline]
pub(crate) fn has_grown() -> bool {
    HAS_GROWN.load(Ordering::Relaxed) && HAS_GROWN.swap(false, Ordering::Relaxed)
}

/// Visits the owner of each object in use, with the bytes that it takes.
pub(crate) fn census(_: &Stopped, visit: impl FnMut(DomainId, usize)) {
    HEAP.census(visit);
}

/// Returns an upper bound of the bytes that `owner` owns, without a walk.
pub(crate) fn usage_bound(owner: DomainId) -> usize {
    HEAP.remembered_bytes(owner)
}

/// Audits the heap; see [`SharedHeap::audit`].
pub(crate) fn audit(_: &Stopped, add_finding: &mut dyn FnMut(core::fmt::Arguments<'_>)) -> Counted {
    // SAFETY: no other CPU runs, and nothing here enters the caches again.
    let caches = locals().map(|local| &*unsafe { local.cache.get() });
    // SAFETY: the world is stopped, and no heap operation is under way on this CPU.
    unsafe { HEAP.audit(caches, &AT_ONCE, add_finding) }
}

/// Visits each charged object; see [`SharedHeap::for_each_charge`].
pub(crate) fn for_each_charge(_: &Stopped, visit: impl FnMut(&Header, usize)) {
    // SAFETY: as above.
    unsafe { HEAP.for_each_charge(visit) };
}

/// Returns the number and bytes of the objects that `owner` owns at the root. In the outermost section,
/// holding no lock: other threads run during its pauses.
pub(crate) fn usage(owner: DomainId) -> Usage {
    HEAP.usage(owner, pause)
}

/// Returns this CPU's free objects to their spans, and empty spans to the machine.
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
    // SAFETY: by the caller's promise no other code uses the cache, and the heap does not call back into this
    // module.
    let cache = unsafe { local.cache.get() };
    // SAFETY: as above.
    let reserves = unsafe { local.reserves.get() };
    HEAP.flush(cache, reserves);
}
