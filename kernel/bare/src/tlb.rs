//! TLB shootdown: making all CPUs forget what they remember of the page tables.
//!
//! A change of a page that was mapped bumps a generation; a CPU flushes when the interrupt that asks for it
//! arrives, and notes the generation. Whoever made the change waits until all CPUs have noted it. No lock is held
//! meanwhile, so any number of CPUs may change pages at once, and a CPU that waits for anything else with
//! interrupts on answers from the handler. A CPU that sleeps is left alone: it catches up when it wakes.
//!
//! # Invariants
//! - **T1** A CPU that runs and has not flushed since generation `g` has a number below `g` in [`FLUSHED`].
//! - **T2** A CPU with [`NOT_RUNNING`] there touches nothing that anybody re-protects, and flushes, if anything has
//!   changed, after it has replaced that value and before it touches anything else.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_kernel::machine::CPU_LIMIT;
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::instructions::tlb::flush_all;

use crate::{apic, cpu, traps};

/// Bumped by each change that CPUs must learn of.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The newest generation that each CPU has flushed for; a CPU that does not run remembers nothing.
static FLUSHED: [AtomicU64; CPU_LIMIT] = [const { AtomicU64::new(NOT_RUNNING) }; CPU_LIMIT];

const NOT_RUNNING: u64 = u64::MAX;

/// The generation that each sleeping CPU had flushed for.
static ASLEEP_SINCE: [AtomicU64; CPU_LIMIT] = [const { AtomicU64::new(0) }; CPU_LIMIT];

/// Makes all CPUs forget what they remember of the tables.
pub(crate) fn shoot_down() {
    let generation = GENERATION.fetch_add(1, Ordering::SeqCst) + 1;
    if !cpu::is_attached() {
        // This CPU is the only one, and boots.
        flush_all();
        return;
    }
    without_interrupts(flush);
    let is_behind = |cpu: usize| FLUSHED[cpu].load(Ordering::SeqCst) < generation;
    for cpu in (0..cpu::count()).filter(|&cpu| is_behind(cpu)) {
        apic::send_interrupt(cpu::apic_id(cpu), traps::vector::SHOOT_DOWN);
    }
    for cpu in 0..cpu::count() {
        while is_behind(cpu) {
            spin_loop();
        }
    }
}

/// Flushes the TLB of the calling CPU, which must have interrupts off, and notes for which generation.
pub(crate) fn flush() {
    // Read first: a change after this may or may not be seen by the flush, so it may not count as flushed for.
    let generation = GENERATION.load(Ordering::SeqCst);
    flush_all();
    FLUSHED[cpu::this()].store(generation, Ordering::SeqCst);
}

/// Says that the calling CPU, which has a block and interrupts off, may remember pages from now on.
pub(crate) fn join() {
    // In this order: whoever changes a page from here on waits for this CPU, and `flush` forgets all before.
    FLUSHED[cpu::this()].store(0, Ordering::SeqCst);
    flush();
}

/// Says that CPU `cpu` has been stopped.
pub(crate) fn part(cpu: usize) {
    FLUSHED[cpu].store(NOT_RUNNING, Ordering::SeqCst);
}

/// Says that the calling CPU, which has a block and interrupts off, goes to sleep: nobody needs to wake it because
/// of a change. All that it touches until [`wake_up`] is its own stack and code, which stay as they are.
pub(crate) fn fall_asleep() {
    let cpu = cpu::this();
    ASLEEP_SINCE[cpu].store(FLUSHED[cpu].swap(NOT_RUNNING, Ordering::SeqCst), Ordering::Relaxed);
}

/// Ends [`fall_asleep`], if that is how things are. With interrupts off: an interrupt's first act on a CPU that has a
/// block, and the first act after a sleep.
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
