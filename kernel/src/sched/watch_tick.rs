//! The clock of the watch tick: the times at which each CPU scans the threads that it runs or keeps waiting.
//!
//! The scheduler starts the clock when a CPU stops being idle, and the CPU's timer includes it. The watchdog
//! (`policy`) scans at a tick, and sets the next one.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::platform::machine::machine;
use crate::sched::cpu::{Cpu, this_cpu};
use crate::sched::{scheduler, wait};

/// Nanoseconds between the ticks of a CPU that runs threads; 0 if ticks are off.
static PERIOD_NS: AtomicU64 = AtomicU64::new(0);

/// A CPU's next tick. Accessed by that CPU only.
pub(crate) struct WatchTick {
    /// `u64::MAX` for never.
    pub(crate) next_ns: u64,
    /// The CPU was idle at its last tick, so there is nothing to scan before the next one.
    pub(crate) is_paused: bool,
}

impl WatchTick {
    pub(crate) const fn new() -> Self {
        Self { next_ns: u64::MAX, is_paused: true }
    }
}

/// Nanoseconds between the ticks of a CPU that runs threads.
pub(crate) fn period_ns() -> u64 {
    PERIOD_NS.load(Ordering::Relaxed)
}

/// Turns ticks on. Other CPUs have run only kernel threads so far. Inside a section.
pub(crate) fn enable(period_ns: u64) {
    PERIOD_NS.store(period_ns, Ordering::Relaxed);
    let cpu = this_cpu();
    resume(cpu, scheduler::slice_end(cpu));
}

/// Restarts the ticks of a CPU that stops being idle.
#[inline]
pub(super) fn resume(cpu: &'static Cpu, slice_end_ns: u64) {
    // SAFETY: this CPU's, in a section.
    let tick = unsafe { cpu.watch_tick.get() };
    if !tick.is_paused {
        return;
    }
    let period_ns = PERIOD_NS.load(Ordering::Relaxed);
    if period_ns != 0 {
        tick.is_paused = false;
        tick.next_ns = tick.next_ns.min(machine().now_ns() + period_ns);
        wait::arm_timer(cpu, slice_end_ns);
    }
}

/// The time of this CPU's next tick, for its timer.
pub(crate) fn next_ns(cpu: &Cpu) -> u64 {
    // SAFETY: this CPU's, in a section.
    unsafe { cpu.watch_tick.get() }.next_ns
}

/// Sets this CPU's next tick.
pub(crate) fn set(cpu: &Cpu, tick: WatchTick) {
    // SAFETY: this CPU's, in a section.
    *unsafe { cpu.watch_tick.get() } = tick;
}
