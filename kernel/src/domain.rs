//! The domain table: a slot for each domain of the manifest, and what its present instance has.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use coppice_abi::DomainId;
use coppice_interfaces::DomainState;
use coppice_manifest::Symbols;
use coppice_rref::Payer;
use spin::Once;

use crate::boot;
use crate::cpu::{Cpu, cpus};
use crate::device::{self, Grants};
use crate::family::{self, Family};
use crate::frames::{self, FrameOwner};
use crate::load::Program;
use crate::machine::{PAGE_SIZE, machine};
use crate::proxy::Port;
use crate::quota::Account;
use crate::share::Window;
use crate::supervisor::Fate;
use crate::sync::Lock;
use crate::thread::Thread;

/// Slot of the first domain: 0 is nobody and 1 the kernel.
const FIRST_SLOT: usize = 2;

/// One domain of the manifest.
pub(crate) struct Domain {
    /// Its place in the table, and in [`DomainId`]s.
    pub(crate) slot: usize,
    /// What the manifest says of it.
    pub(crate) manifest: coppice_manifest::Domain,
    /// Its place in the tree of supervision.
    pub(crate) family: Family,
    /// Its devices.
    pub(crate) devices: Grants,
    /// What is to become of it when it is dead.
    pub(crate) fate: Lock<Fate>,
    /// Where its present or last instance is called by the kernel; 0 while it starts.
    pub(crate) upcall: AtomicUsize,
    /// Bits of its present instance's id; of [`DomainId::NONE`] while it has none. Proxies compare with it.
    alive: AtomicU64,
    /// The id of its present or last instance.
    last: AtomicU64,
    state: AtomicU32,
    /// The generation of its present or last instance, and how many threads that has: from the top. Threads of an earlier
    /// instance, still on their way out of other domains, are nobody's any more.
    census: AtomicU64,
    /// Where its code lies, from start to end, for backtraces; kept over a restart.
    code: [AtomicUsize; 2],
    /// Its image's tables for backtraces, if the boot archive has them.
    pub(crate) symbols: Option<Symbols<'static>>,
    /// What its threads have used of their share of the CPU lately.
    pub(crate) window: Lock<Window>,
    /// Private heap: blocks of frames.
    heap: Lock<PrivateHeap>,
    /// What it may still have of the shared heap.
    pub(crate) account: Lock<Account>,
    /// Its loaded image. Kept over a restart.
    pub(crate) program: Lock<Option<Program>>,
    /// The object that it exports, for those that the manifest wires to it.
    pub(crate) port: Lock<Option<Port>>,
}

#[derive(Default)]
struct PrivateHeap {
    blocks: Vec<NonNull<u8>>,
    pages: usize,
    /// How many of them are for DMA.
    dma_pages: usize,
}

// SAFETY: the blocks are owned.
unsafe impl Send for PrivateHeap {}

static TABLE: Once<Box<[Domain]>> = Once::new();

/// What proxies of the kernel's own objects compare with.
pub(crate) static KERNEL_ALIVE: AtomicU64 = AtomicU64::new(DomainId::KERNEL.to_bits());

/// Makes the table. Called once.
pub(crate) fn init(manifest: coppice_manifest::Manifest) {
    let families = family::all(&manifest);
    let grants = device::assign(&manifest);
    let members = manifest.domains.into_iter().zip(families).zip(grants).enumerate();
    let domains = members.map(|(index, ((manifest, family), devices))| Domain {
        slot: index + FIRST_SLOT,
        code: [const { AtomicUsize::new(0) }; 2],
        symbols: boot::symbols(&manifest.image),
        manifest,
        family,
        devices,
        fate: Lock::new(Fate::default()),
        upcall: AtomicUsize::new(0),
        alive: AtomicU64::new(DomainId::NONE.to_bits()),
        last: AtomicU64::new(DomainId::NONE.to_bits()),
        state: AtomicU32::new(DomainState::Absent as u32),
        census: AtomicU64::new(0),
        window: Lock::new(Window::new()),
        heap: Lock::new(PrivateHeap::default()),
        account: Lock::new(Account::default()),
        program: Lock::new(None),
        port: Lock::new(None),
    });
    TABLE.call_once(|| domains.collect());
}

/// All domains, in the manifest's order.
pub(crate) fn all() -> &'static [Domain] {
    TABLE.get().map_or(&[], |table| table)
}

/// The domain in that slot, which is neither nobody's nor the kernel's.
pub(crate) fn get(slot: usize) -> Option<&'static Domain> {
    all().get(slot.checked_sub(FIRST_SLOT)?)
}

/// The domain of that name.
pub(crate) fn find(name: &str) -> Option<&'static Domain> {
    all().iter().find(|domain| domain.manifest.name == name)
}

/// What to call a domain in messages.
pub(crate) fn name(id: DomainId) -> &'static str {
    match get(id.slot()) {
        Some(domain) => &domain.manifest.name,
        None if id == DomainId::KERNEL => "kernel",
        None => "nobody",
    }
}

/// Whether that instance goes on.
pub(crate) fn is_alive(id: DomainId) -> bool {
    id == DomainId::KERNEL || get(id.slot()).is_some_and(|domain| domain.instance() == Some(id))
}

/// What proxies to objects of `id` compare with.
pub(crate) fn liveness(id: DomainId) -> &'static AtomicU64 {
    get(id.slot()).map_or(&KERNEL_ALIVE, |domain| &domain.alive)
}

impl Domain {
    /// Its present instance.
    pub(crate) fn instance(&self) -> Option<DomainId> {
        let id = DomainId::from_bits(self.alive.load(Ordering::SeqCst));
        (id != DomainId::NONE).then_some(id)
    }

    /// Its present or last instance.
    pub(crate) fn last_instance(&self) -> DomainId {
        DomainId::from_bits(self.last.load(Ordering::SeqCst))
    }

    /// Begins a new instance, if it has none: then nobody else may.
    pub(crate) fn begin_instance(&self) -> Result<DomainId, DomainState> {
        let begin = |from: DomainState| {
            let to = DomainState::Starting as u32;
            self.state.compare_exchange(from as u32, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        };
        if !begin(DomainState::Dead) && !begin(DomainState::Absent) {
            return Err(self.state());
        }
        let last = self.last_instance();
        let generation = if last == DomainId::NONE { 0 } else { last.generation() + 1 };
        let id = DomainId::new(self.slot as u32, generation);
        self.census.store(u64::from(generation) << 32, Ordering::SeqCst);
        self.upcall.store(0, Ordering::SeqCst);
        self.account.lock().open(Payer::of(id), self.allowance().shared_bytes, machine().cpu_count());
        self.last.store(id.to_bits(), Ordering::SeqCst);
        self.alive.store(id.to_bits(), Ordering::SeqCst);
        Ok(id)
    }

    /// Ends the present instance for everybody who asks. The world is stopped.
    pub(crate) fn end_instance(&self) {
        self.alive.store(DomainId::NONE.to_bits(), Ordering::SeqCst);
    }

    pub(crate) fn state(&self) -> DomainState {
        let state = self.state.load(Ordering::SeqCst);
        [DomainState::Absent, DomainState::Starting, DomainState::Running, DomainState::Dead]
            .into_iter()
            .find(|&known| known as u32 == state)
            .expect("only states are stored")
    }

    /// Whether it has started and not ended.
    pub(crate) fn is_running(&self) -> bool {
        self.state() == DomainState::Running && self.instance().is_some()
    }

    pub(crate) fn set_state(&self, state: DomainState) {
        self.state.store(state as u32, Ordering::SeqCst);
    }

    /// The entry function has returned: callable from now on, unless it died meanwhile.
    pub(crate) fn started(&self) {
        let (from, to) = (DomainState::Starting as u32, DomainState::Running as u32);
        let _ = self.state.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Where its image lies. Takes no lock, for traps.
    pub(crate) fn code(&self) -> Range<usize> {
        let [start, end] = &self.code;
        start.load(Ordering::Relaxed)..end.load(Ordering::Relaxed)
    }

    /// Tells where its image lies, before the first instruction of it runs.
    pub(crate) fn set_code(&self, code: Range<usize>) {
        let [start, end] = &self.code;
        start.store(code.start, Ordering::Relaxed);
        end.store(code.end, Ordering::Relaxed);
    }

    pub(crate) fn threads(&self) -> u32 {
        self.census.load(Ordering::SeqCst) as u32
    }

    /// `count` zeroed pages for the private heap, if the quota allows them.
    pub(crate) fn grow_heap(&self, count: usize) -> Option<NonNull<u8>> {
        let mut heap = self.heap.lock();
        self.grow(&mut heap, count)
    }

    /// As [`Self::grow_heap`], for memory that a device of its reaches too.
    pub(crate) fn take_dma_memory(&self, count: usize) -> Option<NonNull<u8>> {
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
        let block = frames::take_zeroed(count, FrameOwner::domain(self.slot))?;
        heap.blocks.push(block);
        heap.pages += count;
        Some(block)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.heap.lock().pages * PAGE_SIZE
    }

    /// Frames of its private heap, how many of them are for DMA, and frames of its image; `None` if somebody holds the lock
    /// of either.
    pub(crate) fn frames(&self) -> Option<(usize, usize, usize)> {
        let heap = self.heap.try_lock()?;
        let (heap, dma) = (heap.pages, heap.dma_pages);
        let image = self.program.try_lock()?.as_ref().map_or(0, Program::frames);
        Some((heap, dma, image))
    }

    /// Frees the private heap of a instance that is over and whose devices have been quiesced. Answers how many pages that were.
    pub(crate) fn free_heap(&self) -> usize {
        let heap = core::mem::take(&mut *self.heap.lock());
        heap.blocks.into_iter().for_each(frames::give);
        heap.pages
    }

    /// Crossings into it, on all CPUs.
    pub(crate) fn calls(&self) -> u64 {
        cpus().map(|cpu| cpu.calls(self.slot)).sum()
    }

    /// CPU time in its code, on all CPUs.
    pub(crate) fn cpu_ns(&self) -> u64 {
        nanoseconds(cpus().map(|cpu| cpu.ticks(self.slot)).sum())
    }

    /// CPU time of the threads that it spawned, on all CPUs and in whatever code.
    pub(crate) fn own_cpu_ns(&self) -> u64 {
        nanoseconds(cpus().map(|cpu| cpu.own_ticks(self.slot)).sum())
    }
}

/// Counts a new thread of `id`, unless that is one too many.
pub(crate) fn admit_thread(id: DomainId) -> bool {
    let Some(domain) = get(id.slot()) else { return true };
    let quota = domain.thread_allowance();
    let admit = |census: u64| (is_of(census, id) && (census as u32) < quota).then_some(census + 1);
    match domain.census.fetch_update(Ordering::SeqCst, Ordering::SeqCst, admit) {
        // A child may have taken its share meanwhile without having seen this thread.
        Ok(before) if before as u32 >= domain.thread_allowance() => {
            dismiss_thread(id);
            false
        }
        outcome => outcome.is_ok(),
    }
}

/// Counts a thread of `id` that has ended.
pub(crate) fn dismiss_thread(id: DomainId) {
    if let Some(domain) = get(id.slot()) {
        let dismiss = |census: u64| is_of(census, id).then(|| census - 1);
        let _ = domain.census.fetch_update(Ordering::Relaxed, Ordering::Relaxed, dismiss);
    }
}

/// Whether a census is that of the instance `id`.
fn is_of(census: u64, id: DomainId) -> bool {
    (census >> 32) as u32 == id.generation()
}

/// Charges the time since the last call on this CPU to the domain whose code `thread`, the running one, is in, and to
/// the one that spawned it.
#[inline]
pub(crate) fn charge(cpu: &Cpu, thread: &Thread) {
    let now = tsc();
    // SAFETY: our CPU's, in a section.
    let charged = unsafe { cpu.charged_tsc.get() };
    // SAFETY: T3: the running thread's, and the world goes on.
    let account = unsafe { thread.fields() }.account;
    cpu.add_ticks(thread.control().current.slot(), account, now.wrapping_sub(*charged));
    *charged = now;
}

/// Ticks of the time-stamp counter as time.
fn nanoseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(machine().tsc_hz())) as u64
}

/// The time-stamp counter.
pub(crate) fn tsc() -> u64 {
    // SAFETY: every x86_64 CPU has it, and nothing here turns it off.
    unsafe { core::arch::x86_64::_rdtsc() }
}
