//! The checkpoint: a CPU handles its pending requests here, at the end of a section or after a trap.

use core::panic::Location;
use core::sync::atomic::Ordering;

use coppice_abi::crossing::CpuBlock;

use crate::device::{self, console};
use crate::domain::shared_heap;
use crate::platform::latency;
use crate::platform::machine::machine;
use crate::policy::{deferred_work, watchdog};
use crate::sched::cpu::{Cpu, request, this_cpu};
use crate::sched::{cpu_time, scheduler, thread, trace, wait, world};

/// Runs the checkpoint for code that left its outermost section with
/// [`PENDING`](coppice_abi::crossing::PENDING) set.
pub(crate) extern "C" fn pending() {
    set_critical(1);
    latency::begin_checkpoint(Location::caller());
    run();
}

/// Runs the checkpoint for code that a trap diverted. The trap began the section.
pub(crate) extern "C" fn diverted() {
    latency::begin_checkpoint(Location::caller());
    run();
}

/// Handles the requests so far, and goes on with the section.
pub(crate) fn pause() {
    set_critical(1);
    world::park();
    handle_requests(this_cpu());
}

/// Handles requests until none is pending, and ends the section.
fn run() {
    loop {
        // The bit is cleared first: a request that arrives from here on sets it again.
        set_critical(1);
        world::park();
        handle_requests(this_cpu());
        thread::leave_if_killed();
        latency::end_section();
        if try_end_section() {
            return;
        }
        latency::begin_section(Location::caller());
    }
}

/// Handles the requests that other CPUs and traps have set for this CPU.
fn handle_requests(cpu: &'static Cpu) {
    let requests = cpu.requests.swap(0, Ordering::AcqRel);
    let thread = thread::current();
    let interrupted = thread.control().current();
    cpu_time::charge(cpu, thread);
    if requests != 0 {
        trace::record(trace::Kind::Interrupt, interrupted, requests.into());
    }
    if requests & request::CONSOLE != 0 {
        console::input_arrived();
    }
    if requests & request::LOG != 0 {
        console::wake_writer();
    }
    if latency::has_lockups() {
        watchdog::wake();
    }
    if requests & request::DEVICE != 0 {
        device::deliver(cpu);
    }
    if requests & request::TIMER != 0 {
        // The watchdog first, since `expire` sets the timer for both.
        watchdog::tick(cpu);
        wait::expire(cpu);
    }
    if shared_heap::has_grown() {
        deferred_work::want_census();
    }
    if requests & (request::RESCHEDULE | request::TIMER) != 0 {
        scheduler::reschedule();
    }
}

fn set_critical(value: u32) {
    // SAFETY: one instruction on this CPU's own word, inside a section.
    unsafe {
        core::arch::asm!("mov dword ptr gs:[{offset}], {value:e}", offset = const CpuBlock::CRITICAL,
            value = in(reg) value, options(nostack));
    }
}

/// Ends the outermost section, unless a trap has set [`PENDING`](coppice_abi::crossing::PENDING) since.
fn try_end_section() -> bool {
    let word: u32;
    // SAFETY: a compare-and-exchange of this CPU's own word: one instruction, so it needs no lock prefix.
    unsafe {
        core::arch::asm!("cmpxchg dword ptr gs:[{offset}], {zero:e}", offset = const CpuBlock::CRITICAL,
            zero = in(reg) 0, inout("eax") 1 => word, options(nostack));
    }
    word == 1
}

/// The idle loop of a CPU.
pub(crate) fn idle() -> ! {
    let cpu = this_cpu();
    loop {
        set_critical(1);
        world::park();
        handle_requests(cpu);
        scheduler::yield_now();
        scheduler::steal_when_idle();
        world::begin_idle();
        machine().idle(&|| cpu.requests.load(Ordering::Acquire) == 0 && scheduler::is_queue_empty(cpu));
        world::end_idle();
    }
}
