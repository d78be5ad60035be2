//! CPU time by the time-stamp counter, charged at each switch and in each checkpoint.

use crate::platform::latency;
use crate::platform::machine::machine;
use crate::sched::cpu::{Cpu, cpus};
use crate::sched::thread::Thread;

/// Charges the time since the last call on this CPU to two slots: the one whose code `thread`, the running
/// thread, is in, and the one that spawned it.
#[inline]
pub(crate) fn charge(cpu: &Cpu, thread: &Thread) {
    let now = latency::tsc();
    // SAFETY: this CPU's, in a section.
    let charged = unsafe { cpu.charged_tsc.get() };
    // SAFETY: T3: the running thread's, and the world is not stopped.
    let owner = unsafe { thread.fields() }.charged_slot;
    cpu.add_ticks(thread.control().current().slot(), owner, now.wrapping_sub(*charged));
    *charged = now;
}

/// CPU time in the code of `slot`, on all CPUs, in nanoseconds.
pub(crate) fn in_code_ns(slot: usize) -> u64 {
    nanoseconds(cpus().map(|cpu| cpu.ticks(slot)).sum())
}

/// CPU time of the threads that `slot` spawned, on all CPUs and in any code, in nanoseconds.
pub(crate) fn of_threads_ns(slot: usize) -> u64 {
    nanoseconds(cpus().map(|cpu| cpu.own_ticks(slot)).sum())
}

fn nanoseconds(ticks: u64) -> u64 {
    (u128::from(ticks) * 1_000_000_000 / u128::from(machine().tsc_hz())) as u64
}
