//! The clock of the watch tick: when each CPU looks at the threads that it runs or keeps off.
//!
//! The scheduler starts it when a CPU stops being idle, and the timer includes it. What a tick looks at is the business of
//! the watchdog (`policy`), which also sets the next one.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::platform::machine::machine;
use crate::sched::cpu::{Cpu, this_cpu};
use crate::sched::{scheduler, wait};

/// Nanoseconds between ticks of a CPU that runs threads; 0 if there are no ticks.
static PERIOD_NS: AtomicU64 = AtomicU64::new(0);

/// A CPU's next tick. Its own business.
pub(crate) struct WatchTick {
    /// `u64::MAX` for never.
    pub(crate) next_ns: u64,
    /// There is nothing to look at before that: the CPU was idle at its last tick.
    pub(crate) rests: bool,
}

impl WatchTick {
    pub(crate) const fn new() -> Self {
        Self { next_ns: u64::MAX, rests: true }
    }
}

/// Turns ticks on. Other CPUs have run nothing yet but threads of the kernel's. Inside a section.
pub(crate) fn enable(period_ns: u64) {
    PERIOD_NS.store(period_ns, Ordering::Relaxed);
    let cpu = this_cpu();
    resume(cpu, scheduler::slice_end(cpu));
}

/// The CPU stops being idle.
#[inline]
pub(super) fn resume(cpu: &'static Cpu, slice_end_ns: u64) {
    // SAFETY: our CPU's, in a section.
    let tick = unsafe { cpu.watch_tick.get() };
    if !tick.rests {
        return;
    }
    let period_ns = PERIOD_NS.load(Ordering::Relaxed);
    if period_ns != 0 {
        tick.rests = false;
        tick.next_ns = tick.next_ns.min(machine().now_ns() + period_ns);
        wait::arm_timer(cpu, slice_end_ns);
    }
}

/// When this CPU has to look next, for its timer.
pub(crate) fn next_ns(cpu: &Cpu) -> u64 {
    // SAFETY: our CPU's, in a section.
    unsafe { cpu.watch_tick.get() }.next_ns
}

/// Sets this CPU's next tick.
pub(crate) fn set(cpu: &Cpu, tick: WatchTick) {
    // SAFETY: our CPU's, in a section.
    *unsafe { cpu.watch_tick.get() } = tick;
}
