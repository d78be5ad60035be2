//! The checkpoint: where a CPU turns to what has come up, at the end of a section or out of a trap.

use core::mem::offset_of;
use core::sync::atomic::Ordering;

use coppice_abi::crossing::{CpuBlock, PENDING};

use crate::cpu::{Cpu, request, this_cpu};
use crate::{
    agenda, device, domain, logger, scheduler, shared, terminate, thread, trace, wait, watchdog, world,
};

/// Asks for a checkpoint on this CPU as soon as the present section ends.
pub(crate) fn request_here() {
    // SAFETY: one instruction on this CPU's own word (the rule of coppice_abi::crossing).
    unsafe {
        core::arch::asm!("or dword ptr gs:[{offset}], {pending}", offset = const offset_of!(CpuBlock, critical),
            pending = const PENDING, options(nostack));
    }
}

/// Runs the checkpoint for code that left its outermost section with [`PENDING`] set.
pub(crate) extern "C" fn pending() {
    set_critical(1);
    run();
}

/// Runs the checkpoint for code that a trap has diverted; the trap began the section.
pub(crate) extern "C" fn diverted() {
    run();
}

/// Does what has come up until nothing more has, and ends the section.
fn run() {
    loop {
        // The bit goes first: what comes up from here on sets it again.
        set_critical(1);
        world::park();
        attend(this_cpu());
        terminate::leave_if_killed();
        if try_end_section() {
            return;
        }
    }
}

/// Turns to everything that other CPUs and traps have noted.
fn attend(cpu: &'static Cpu) {
    let requests = cpu.requests.swap(0, Ordering::AcqRel);
    let thread = thread::current();
    let interrupted = thread.control().current;
    domain::charge(cpu, thread);
    if requests != 0 {
        trace::record(trace::Kind::Interrupt, interrupted, requests.into());
    }
    if requests & request::CONSOLE != 0 {
        logger::input_arrived();
    }
    if requests & request::DEVICE != 0 {
        device::deliver(cpu);
    }
    if requests & request::TIMER != 0 {
        // First, since the other sets the timer for both.
        watchdog::tick(cpu);
        wait::expire(cpu);
    }
    if shared::has_grown() {
        agenda::want_census();
    }
    if requests & (request::RESCHEDULE | request::TIMER) != 0 {
        scheduler::reschedule();
    }
}

fn set_critical(value: u32) {
    // SAFETY: one instruction on this CPU's own word, inside a section.
    unsafe {
        core::arch::asm!("mov dword ptr gs:[{offset}], {value:e}", offset = const offset_of!(CpuBlock, critical),
            value = in(reg) value, options(nostack));
    }
}

/// Ends the outermost section, unless a trap has set [`PENDING`] since.
fn try_end_section() -> bool {
    let word: u32;
    // SAFETY: a compare-and-exchange with this CPU's own word: one instruction, so no lock prefix.
    unsafe {
        core::arch::asm!("cmpxchg dword ptr gs:[{offset}], {zero:e}", offset = const offset_of!(CpuBlock, critical),
            zero = in(reg) 0, inout("eax") 1 => word, options(nostack));
    }
    word == 1
}

/// Ends the outermost section of a thread that goes on in domain code.
pub(crate) fn end_section() {
    if !try_end_section() {
        run();
    }
}

/// What an idle CPU does, for ever.
pub(crate) fn idle() -> ! {
    let cpu = this_cpu();
    loop {
        set_critical(1);
        world::park();
        attend(cpu);
        scheduler::yield_now();
        scheduler::steal_when_idle();
        world::begin_idle();
        crate::machine::machine()
            .idle(&|| cpu.requests.load(Ordering::Acquire) == 0 && scheduler::is_queue_empty(cpu));
        world::end_idle();
    }
}
