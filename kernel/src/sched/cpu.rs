//! Per-CPU data of scheduling.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use coppice_abi::crossing::{CpuBlock, ThreadControl};
use coppice_abi::{DomainId, SLOT_LIMIT};

use crate::platform::latency;
use crate::platform::machine::CPU_LIMIT;
use crate::platform::sync::{Lock, PerCpu};
use crate::sched::cpu_local::{self, CpuLocal};
use crate::sched::scheduler::RunQueue;
use crate::sched::thread::{self, Thread};
use crate::sched::wait::Timers;
use crate::sched::watch_tick::WatchTick;

// SAFETY: a `Cpu`'s raw pointers point to threads, which are `Sync`; its cells are `PerCpu`.
unsafe impl Sync for Cpu {}

/// One CPU's data for scheduling, behind [`CpuBlock`]. Higher storeys declare their own per-CPU data
/// ([`CpuLocal`]).
#[repr(C)]
pub(crate) struct Cpu {
    block: PerCpu<CpuBlock>,
    pub(crate) number: usize,
    /// Requests of other CPUs and traps: bits of [`request`].
    pub(crate) requests: AtomicU32,
    /// This CPU's part in a stop of the world; a constant of [`crate::sched::world`].
    pub(crate) presence: AtomicU32,
    pub(crate) queue: Lock<RunQueue>,
    pub(crate) timers: Lock<Timers>,
    /// The thread that runs when no other does.
    pub(crate) idle: AtomicPtr<Thread>,
    /// A thread that has ended here and whose stack this CPU has just left.
    pub(crate) ended: PerCpu<Option<NonNull<Thread>>>,
    /// The time-stamp counter at the last charge of CPU time.
    pub(crate) charged_tsc: PerCpu<u64>,
    /// The time of this CPU's next watch tick.
    pub(crate) watch_tick: PerCpu<WatchTick>,
    /// CPU time in each slot's code, in ticks of the time-stamp counter.
    ticks: [AtomicU64; SLOT_LIMIT],
    /// CPU time of each slot's own threads, in any code.
    own_ticks: [AtomicU64; SLOT_LIMIT],
}

/// Bits of [`Cpu::requests`].
pub(crate) mod request {
    /// Expire timers.
    pub(crate) const TIMER: u32 = 1;
    /// A more urgent thread may be ready.
    pub(crate) const RESCHEDULE: u32 = 2;
    /// A byte was typed.
    pub(crate) const CONSOLE: u32 = 4;
    /// A device has sent a message that a thread waits for.
    pub(crate) const DEVICE: u32 = 8;
    /// A line waits for the log writer.
    pub(crate) const LOG: u32 = 16;
}

static CPUS: CpuLocal<Cpu> = CpuLocal::new();

impl Cpu {
    /// Creates the data of CPU `number`, which runs `idle` first.
    pub(crate) fn create(number: usize, idle: NonNull<Thread>) -> &'static Self {
        // A CPU begins inside the kernel, so inside a section.
        // SAFETY: T1; idle threads are never freed.
        let block = unsafe { CpuBlock::new(idle.as_ptr().cast::<ThreadControl>(), 1, number as u32) };
        let cpu = Self {
            block: PerCpu::new(block),
            number,
            requests: AtomicU32::new(0),
            presence: AtomicU32::new(0),
            queue: Lock::new(RunQueue::new()),
            timers: Lock::new(Timers::new()),
            idle: AtomicPtr::new(idle.as_ptr()),
            charged_tsc: PerCpu::new(latency::tsc()),
            watch_tick: PerCpu::new(WatchTick::new()),
            ticks: [const { AtomicU64::new(0) }; SLOT_LIMIT],
            own_ticks: [const { AtomicU64::new(0) }; SLOT_LIMIT],
            ended: PerCpu::new(None),
        };
        CPUS.create(number, cpu)
    }

    /// The block that `gs` points to on this CPU.
    pub(crate) fn block(&self) -> *mut CpuBlock {
        (&raw const self.block).cast::<CpuBlock>().cast_mut()
    }

    /// The running thread. Called by the CPU itself, or while the CPU is stopped: then the thread does not
    /// change.
    pub(crate) fn running(&self) -> &'static Thread {
        // SAFETY: the block is a part of `self`.
        let thread = unsafe { CpuBlock::thread_word(self.block()) };
        // SAFETY: aligned and valid; the CPU may be idling, but does not change the word then.
        let thread = unsafe { thread.read_volatile() };
        // SAFETY: T1, and a running thread is alive.
        unsafe { &*thread.cast::<Thread>() }
    }

    /// CPU time in `slot`'s code on this CPU.
    pub(crate) fn ticks(&self, slot: usize) -> u64 {
        self.ticks[slot].load(Ordering::Relaxed)
    }

    /// CPU time of `slot`'s own threads on this CPU.
    pub(crate) fn own_ticks(&self, slot: usize) -> u64 {
        self.own_ticks[slot].load(Ordering::Relaxed)
    }

    /// Adds time to both counters: in the code of slot `code`, on a thread of slot `owner`.
    #[inline(always)]
    pub(crate) fn add_ticks(&self, code: usize, owner: usize, ticks: u64) {
        // The CPU itself is the only writer, so a load and a store are enough.
        let add = |slot: &AtomicU64| {
            slot.store(slot.load(Ordering::Relaxed).wrapping_add(ticks), Ordering::Relaxed);
        };
        add(&self.ticks[code]);
        add(&self.own_ticks[owner]);
    }

    /// The number of crossings into `slot` that this CPU has made; a snapshot if another CPU calls this.
    pub(crate) fn calls(&self, slot: usize) -> u64 {
        // SAFETY: the block is a part of `self`; an index out of bounds panics.
        let count = unsafe { CpuBlock::call_counter(self.block(), slot) };
        // SAFETY: aligned and valid. The CPU may be counting, hence volatile; a stale number is acceptable.
        unsafe { count.read_volatile() }
    }
}

/// The CPU that runs the caller, which is in a section.
#[inline(always)]
pub(crate) fn this_cpu() -> &'static Cpu {
    CPUS.here()
}

/// CPU `number`, once it exists.
pub(crate) fn cpu(number: usize) -> Option<&'static Cpu> {
    CPUS.get(number)
}

/// All CPUs that exist, in order.
pub(crate) fn cpus() -> impl Iterator<Item = &'static Cpu> {
    (0..CPU_LIMIT).map_while(cpu)
}

/// The domain whose code runs on this CPU.
pub(crate) fn current_domain() -> DomainId {
    thread::current().control().current()
}

/// The number of the CPU that runs the caller, for machines. Inside a section.
pub fn number() -> usize {
    cpu_local::number_here()
}
