//! Per-CPU data.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use coppice_abi::crossing::{CpuBlock, ThreadControl};
use coppice_abi::{DomainId, SLOT_LIMIT};

use crate::platform::machine::CPU_LIMIT;
use crate::platform::sync::{Lock, PerCpu};
use crate::sched::cpu_local::{self, CpuLocal};
use crate::sched::cpu_time;
use crate::sched::scheduler::RunQueue;
use crate::sched::thread::{self, Thread};
use crate::sched::wait::Timers;
use crate::sched::watch_tick::WatchTick;

// SAFETY: a `Cpu`'s raw pointers are to threads, which are `Sync`; the cells are `PerCpu`.
unsafe impl Sync for Cpu {}

/// The data of one CPU that scheduling needs, behind [`CpuBlock`]. Higher storeys declare theirs by themselves
/// ([`CpuLocal`]).
#[repr(C)]
pub(crate) struct Cpu {
    block: PerCpu<CpuBlock>,
    /// This CPU's number.
    pub(crate) number: usize,
    /// What other CPUs and traps want of it: bits of [`request`].
    pub(crate) requests: AtomicU32,
    /// Where it stands towards a stop of the world: [`crate::sched::world`]'s business.
    pub(crate) presence: AtomicU32,
    pub(crate) queue: Lock<RunQueue>,
    pub(crate) timers: Lock<Timers>,
    /// Runs when nothing else does.
    pub(crate) idle: AtomicPtr<Thread>,
    /// A thread that ended here and whose stack this CPU has just left.
    pub(crate) ended: PerCpu<Option<NonNull<Thread>>>,
    /// When CPU time was last charged to somebody, by the time-stamp counter.
    pub(crate) charged_tsc: PerCpu<u64>,
    /// When it looks at its threads next.
    pub(crate) watch_tick: PerCpu<WatchTick>,
    /// CPU time in each slot's code, in ticks of the time-stamp counter.
    ticks: [AtomicU64; SLOT_LIMIT],
    /// CPU time of each slot's own threads, in whatever code.
    own_ticks: [AtomicU64; SLOT_LIMIT],
}

/// Bits of [`Cpu::requests`].
pub(crate) mod request {
    /// Look at the timers.
    pub(crate) const TIMER: u32 = 1;
    /// Another thread may deserve the CPU more.
    pub(crate) const RESCHEDULE: u32 = 2;
    /// Something was typed.
    pub(crate) const CONSOLE: u32 = 4;
    /// A device has sent a message that somebody waits for.
    pub(crate) const DEVICE: u32 = 8;
}

static CPUS: CpuLocal<Cpu> = CpuLocal::new();

impl Cpu {
    /// Makes CPU `number`'s data; `idle` runs on it first.
    pub(crate) fn create(number: usize, idle: NonNull<Thread>) -> &'static Self {
        let cpu = Self {
            block: PerCpu::new(CpuBlock {
                thread: idle.as_ptr().cast::<ThreadControl>(),
                // It begins inside the kernel, so inside a section.
                critical: 1,
                cpu: number as u32,
                calls: [0; SLOT_LIMIT],
            }),
            number,
            requests: AtomicU32::new(0),
            presence: AtomicU32::new(0),
            queue: Lock::new(RunQueue::new()),
            timers: Lock::new(Timers::new()),
            idle: AtomicPtr::new(idle.as_ptr()),
            charged_tsc: PerCpu::new(cpu_time::tsc()),
            watch_tick: PerCpu::new(WatchTick::new()),
            ticks: [const { AtomicU64::new(0) }; SLOT_LIMIT],
            own_ticks: [const { AtomicU64::new(0) }; SLOT_LIMIT],
            ended: PerCpu::new(None),
        };
        CPUS.create(number, cpu)
    }

    /// What `gs` points to on this CPU.
    pub(crate) fn block(&self) -> *mut CpuBlock {
        (&raw const self.block).cast::<CpuBlock>().cast_mut()
    }

    /// The thread that it runs. For the CPU itself, or while it is stopped: then the thread stays.
    pub(crate) fn running(&self) -> &'static Thread {
        // SAFETY: the block is a part of `self`.
        let thread = unsafe { &raw const (*self.block()).thread };
        // SAFETY: aligned and ours; its CPU may be in the middle of idling, but does not change the word then.
        let thread = unsafe { thread.read_volatile() };
        // SAFETY: T1, and a running thread lives.
        unsafe { &*thread.cast::<Thread>() }
    }

    /// CPU time in `slot`'s code here.
    pub(crate) fn ticks(&self, slot: usize) -> u64 {
        self.ticks[slot].load(Ordering::Relaxed)
    }

    /// CPU time of `slot`'s own threads here.
    pub(crate) fn own_ticks(&self, slot: usize) -> u64 {
        self.own_ticks[slot].load(Ordering::Relaxed)
    }

    /// Adds to both: time in the code of slot `code`, on a thread of slot `owner`.
    #[inline(always)]
    pub(crate) fn add_ticks(&self, code: usize, owner: usize, ticks: u64) {
        // Only the CPU itself does, so a load and a store do.
        let add = |slot: &AtomicU64| {
            slot.store(slot.load(Ordering::Relaxed).wrapping_add(ticks), Ordering::Relaxed);
        };
        add(&self.ticks[code]);
        add(&self.own_ticks[owner]);
    }

    /// Crossings into `slot` that this CPU has made; a snapshot when asked from another one.
    pub(crate) fn calls(&self, slot: usize) -> u64 {
        // SAFETY: the block is a part of `self`; an index out of bounds panics.
        let count = unsafe { &raw const (*self.block()).calls[slot] };
        // SAFETY: aligned and ours. Its CPU may be counting, hence volatile: a stale number is a fine answer.
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

/// Whose code runs on this CPU.
pub(crate) fn current_domain() -> DomainId {
    thread::current().control().current
}

/// The number of the CPU that runs the caller, for machines. Inside a section.
pub fn number() -> usize {
    cpu_local::number_here()
}
