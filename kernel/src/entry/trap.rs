//! Traps: the functions that a machine calls when an interrupt or exception stops a CPU.
//!
//! A handler only edits the frame. The machine saves the interrupted registers, calls [`interrupt`] or
//! [`fault`] on a separate stack with interrupts off, and resumes at the address in the frame afterwards.
//! Nothing here takes a lock, allocates or switches threads; the checkpoint that a frame is diverted to does.

use core::sync::atomic::Ordering;

use coppice_abi::DomainId;
use coppice_abi::crossing::{CpuBlock, PENDING};

use crate::device;
use crate::entry::divert;
use crate::fault::crash;
use crate::platform::backtrace::Registers;
pub use crate::platform::exception::{Fault, Source, TrapFrame};
use crate::platform::latency;
use crate::sched::cpu::{request, this_cpu};
use crate::sched::thread::{self, Thread};

/// Handles an interrupt: sets the request bit of its source, and diverts the interrupted code to the
/// checkpoint. Code inside a section is not diverted; the end of the section runs the checkpoint.
pub fn interrupt(frame: &mut TrapFrame, source: Source) {
    let cpu = this_cpu();
    let requested = match source {
        Source::Timer => request::TIMER,
        Source::Console => request::CONSOLE,
        Source::Ipi => 0,
        Source::Device(number) if device::message_here(cpu, number) => request::DEVICE,
        // No thread waits for the message: it has been counted, and the interrupted code continues.
        Source::Device(_) => return,
    };
    cpu.requests.fetch_or(requested, Ordering::Relaxed);
    let block = cpu.block();
    // SAFETY: the block is this CPU's own, and traps do not nest.
    let critical = unsafe { CpuBlock::critical_word(block) };
    // SAFETY: as above, and this CPU's own.
    let critical = unsafe { &mut *critical };
    let thread = thread::current();
    let bottom = thread.stack_bottom();
    if *critical & !PENDING == 0
        && (frame.rsp as usize) < bottom + divert::DIVERT_STACK
        && is_in_domain(thread)
    {
        // No room for the detour. If the request waited for the thread's next section, code that never begins
        // one would keep its CPU, and a stop of the world would not end. The request is handled at the end of
        // the crash path.
        *critical |= PENDING;
        return send_to_crash(frame, Fault::Page { address: bottom.wrapping_sub(1) }, critical, thread);
    }
    if *critical != 0 {
        *critical |= PENDING;
        latency::defer_interrupt(frame.rip as usize);
        return;
    }
    // The diverted code begins inside a section, so no second interrupt can divert it again.
    *critical = 1;
    // The 128 bytes below the stack pointer belong to the interrupted function (System V ABI, red zone);
    // `divert` returns with `ret 128`.
    frame.rsp -= 128 + 8;
    // SAFETY: outside a section a thread is on its own stack, with room for this word as checked, and nothing
    // below its red zone is live.
    unsafe { (frame.rsp as *mut u64).write(frame.rip) };
    frame.rip = divert::divert as *const () as u64;
}

/// Handles the message `number` of a device, sent to no CPU in particular. For machines whose devices do not
/// raise interrupts themselves. Called from any thread of the machine's, whether it is a CPU or not.
pub fn message(number: u8) {
    device::message(number);
}

/// The vector of #DB.
const DEBUG: u8 = 1;

/// Handles an exception. An exception in a domain's code ends the domain; one in the kernel's code ends the
/// system.
pub fn fault(frame: &mut TrapFrame, fault: Fault) {
    let cpu = this_cpu();
    let block = cpu.block();
    let thread = thread::current();
    // SAFETY: the block is this CPU's own, and traps do not nest.
    let critical = unsafe { CpuBlock::critical_word(block) };
    // SAFETY: as above, and this CPU's own.
    let critical = unsafe { &mut *critical };
    if *critical & !PENDING != 0 || !is_in_domain(thread) {
        // A domain that single-steps was interrupted, and its trap flag is still set in the detour. The
        // machine clears it; the last instructions of the detour restore it, and then the trap is handled as
        // the domain's.
        if fault == (Fault::Other { vector: DEBUG }) {
            return;
        }
        panic!("{fault:x?} in the kernel at {:#x}, stack {:#x}, thread {}", frame.rip, frame.rsp, thread.id);
    }
    send_to_crash(frame, fault, critical, thread);
}

/// Returns true if `thread`, which is the running one, is in a domain's code, and not in the kernel's before
/// or after it.
fn is_in_domain(thread: &Thread) -> bool {
    let control = thread.control();
    control.current() != DomainId::KERNEL && !control.top().is_null()
}

/// Makes the frame of a domain's code resume on the crash path. A pending interrupt stays pending: the crash
/// path handles it at the end of the section that begins here.
fn send_to_crash(frame: &mut TrapFrame, fault: Fault, critical: &mut u32, thread: &Thread) {
    *critical = (*critical & PENDING) + 1;
    let [rip, rsp, rbp, r11] = [frame.rip, frame.rsp, frame.rbp, frame.r11].map(|word| word as usize);
    crash::note(fault, Registers { rip, rsp, rbp, r11, is_return: false }, thread);
    // SAFETY: C1: the innermost continuation lies on this thread's stack. The thread is in a domain, so there
    // is one.
    let top = unsafe { &*thread.control().top() };
    // Aligned as after a call: 8 for the return address that a function expects.
    frame.rsp = crash::stack_below(top) as u64 - 8;
    frame.rip = divert::divert_to_crash as *const () as u64;
}
