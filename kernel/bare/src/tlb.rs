//! TLB shootdown: invalidates the page table entries that CPUs have cached.
//!
//! A change of a mapped page increments a generation; a CPU flushes when the shootdown interrupt arrives, and
//! records the generation. The CPU that made the change waits until all CPUs have recorded it. It holds no
//! lock during the wait, so any number of CPUs may change pages at once, and a CPU that waits for something
//! else with interrupts on flushes in the handler. A sleeping CPU is not interrupted: it flushes when it
//! wakes.
//!
//! # Invariants
//! - **T1** A CPU that runs and has not flushed since generation `g` has a number below `g` in [`FLUSHED`].
//! - **T2** A CPU with [`NOT_RUNNING`] there touches no page whose protection changes, and flushes, if
//!   anything has changed, after it has replaced that value and before it touches anything else.

use core::sync::atomic::{AtomicU64, Ordering};

use coppice_kernel::machine::CPU_LIMIT;
use crossbeam_utils::{Backoff, CachePadded};
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::instructions::tlb::flush_all;

use crate::{apic, cpu, traps};

/// Incremented by each change that CPUs must flush for.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The newest generation that each CPU has flushed for; a CPU that does not run has nothing cached. Each CPU
/// reads its own word at every interrupt and writes it at every sleep, so each has a cache line of its own.
static FLUSHED: [CachePadded<AtomicU64>; CPU_LIMIT] =
    [const { CachePadded::new(AtomicU64::new(NOT_RUNNING)) }; CPU_LIMIT];

const NOT_RUNNING: u64 = u64::MAX;

/// The generation that each sleeping CPU had flushed for.
static ASLEEP_SINCE: [AtomicU64; CPU_LIMIT] = [const { AtomicU64::new(0) }; CPU_LIMIT];

/// Makes all CPUs flush, and waits for them.
pub(crate) fn shoot_down() {
    let generation = GENERATION.fetch_add(1, Ordering::SeqCst) + 1;
    if !cpu::is_attached() {
        // This is the booting CPU, and the only one.
        flush_all();
        return;
    }
    without_interrupts(flush);
    let is_behind = |cpu: usize| FLUSHED[cpu].load(Ordering::SeqCst) < generation;
    for cpu in (0..cpu::count()).filter(|&cpu| is_behind(cpu)) {
        apic::send_interrupt(cpu::apic_id(cpu), traps::vector::SHOOT_DOWN);
    }
    for cpu in 0..cpu::count() {
        let backoff = Backoff::new();
        while is_behind(cpu) {
            backoff.spin();
        }
    }
}

/// Flushes the TLB of the calling CPU, which must have interrupts off, and records the generation.
pub(crate) fn flush() {
    // Read first: the flush may miss a change after this, so the change must not count as flushed for.
    let generation = GENERATION.load(Ordering::SeqCst);
    flush_all();
    FLUSHED[cpu::this()].store(generation, Ordering::SeqCst);
}

/// Declares that the calling CPU, which has a block and interrupts off, may cache entries from now on.
pub(crate) fn join() {
    // In this order: a CPU that changes a page from here on waits for this one, and `flush` covers all
    // earlier changes.
    FLUSHED[cpu::this()].store(0, Ordering::SeqCst);
    flush();
}

/// Declares that CPU `cpu` has been stopped.
pub(crate) fn leave(cpu: usize) {
    FLUSHED[cpu].store(NOT_RUNNING, Ordering::SeqCst);
}

/// Declares that the calling CPU, which has a block and interrupts off, goes to sleep: a change need not wake
/// it. Until [`wake_up`] it only touches its own stack and code, which do not change.
pub(crate) fn fall_asleep() {
    let cpu = cpu::this();
    ASLEEP_SINCE[cpu].store(FLUSHED[cpu].swap(NOT_RUNNING, Ordering::SeqCst), Ordering::Relaxed);
}

/// Ends [`fall_asleep`], if the CPU was asleep. Called with interrupts off, first in an interrupt on a CPU
/// that has a block, and first after a sleep.
pub(crate) fn wake_up() {
    let cpu = cpu::this();
    if FLUSHED[cpu].load(Ordering::Relaxed) == NOT_RUNNING {
        // In this order, as in `join`.
        let since = ASLEEP_SINCE[cpu].load(Ordering::Relaxed);
        FLUSHED[cpu].store(since, Ordering::SeqCst);
        if GENERATION.load(Ordering::SeqCst) != since {
            flush();
        }
    }
}
