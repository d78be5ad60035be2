//! Traps: what a machine calls when something interrupts a CPU.
//!
//! A handler only edits the frame. The machine saves the interrupted registers, calls [`interrupt`] or [`fault`]
//! on a stack of its own with interrupts off, and resumes whatever the frame says afterwards. Nothing here takes
//! a lock, allocates or switches threads; the checkpoint that a frame is diverted to does.

use core::sync::atomic::Ordering;

use coppice_abi::DomainId;
use coppice_abi::crossing::PENDING;

use crate::device;
use crate::entry::divert;
use crate::fault::crash;
use crate::platform::backtrace::Registers;
pub use crate::platform::exception::{Fault, Source, TrapFrame};
use crate::sched::cpu::{request, this_cpu};
use crate::sched::thread::{self, Thread};

/// Something wants this CPU's attention; the checkpoint looks what.
pub fn interrupt(frame: &mut TrapFrame, source: Source) {
    let cpu = this_cpu();
    let wanted = match source {
        Source::Timer => request::TIMER,
        Source::Console => request::CONSOLE,
        Source::Ipi => 0,
        Source::Device(number) if device::message_here(cpu, number) => request::DEVICE,
        // Nobody waits for it: it has been counted, and whoever was interrupted goes on.
        Source::Device(_) => return,
    };
    cpu.requests.fetch_or(wanted, Ordering::Relaxed);
    let block = cpu.block();
    // SAFETY: the block is this CPU's own, and traps do not nest.
    let critical = unsafe { &mut (*block).critical };
    let thread = thread::current();
    let bottom = thread.stack_bottom();
    if *critical & !PENDING == 0
        && (frame.rsp as usize) < bottom + divert::DIVERT_STACK
        && is_in_domain(thread)
    {
        // No room for the detour. Were it to wait for the thread's next section, code that never begins one would keep
        // its CPU, and a stop of the world would not end. What is wanted of the CPU waits for the crash path's end.
        *critical |= PENDING;
        return send_to_crash(frame, Fault::Page { address: bottom.wrapping_sub(1) }, critical, thread);
    }
    if *critical != 0 {
        *critical |= PENDING;
        return;
    }
    // The diverted code begins inside a section, so no second interrupt can divert it again.
    *critical = 1;
    // The 128 bytes below the stack pointer are the interrupted function's (System V ABI, red zone); `divert` returns
    // with `ret 128`.
    frame.rsp -= 128 + 8;
    // SAFETY: outside a section a thread is on its own stack, with room for this as checked, and nothing below its red
    // zone is live.
    unsafe { (frame.rsp as *mut u64).write(frame.rip) };
    frame.rip = divert::divert as *const () as u64;
}

/// A device has sent the message of that number, to no CPU in particular: for machines whose devices are not interrupts yet
/// when they say so. From any thread of the machine's, whether it is a CPU or not.
pub fn message(number: u8) {
    device::message(number);
}

/// Vector of #DB.
const DEBUG: u8 = 1;

/// Code raised an exception. A domain's code ends its domain; the kernel's ends the system.
pub fn fault(frame: &mut TrapFrame, fault: Fault) {
    let cpu = this_cpu();
    let block = cpu.block();
    let thread = thread::current();
    // SAFETY: the block is this CPU's own, and traps do not nest.
    let critical = unsafe { &mut (*block).critical };
    if *critical & !PENDING != 0 || !is_in_domain(thread) {
        // A domain that single-steps was interrupted, and the flag came along into the detour. The machine clears it; the
        // detour's last instructions bring it back, and then the trap is the domain's.
        if fault == (Fault::Other { vector: DEBUG }) {
            return;
        }
        panic!("{fault:x?} in the kernel at {:#x}, stack {:#x}, thread {}", frame.rip, frame.rsp, thread.id);
    }
    send_to_crash(frame, fault, critical, thread);
}

/// Whether `thread`, which is the running one, is in a domain's code, and not in the kernel's before or after it.
fn is_in_domain(thread: &Thread) -> bool {
    let control = thread.control();
    control.current != DomainId::KERNEL && !control.top.is_null()
}

/// Makes the frame of a domain's code go on where its domain ends. An interrupt that is pending stays so: the crash path
/// turns to it at the end of the section that begins here.
fn send_to_crash(frame: &mut TrapFrame, fault: Fault, critical: &mut u32, thread: &Thread) {
    *critical = (*critical & PENDING) + 1;
    let [rip, rsp, rbp, r11] = [frame.rip, frame.rsp, frame.rbp, frame.r11].map(|word| word as usize);
    crash::note(fault, Registers { rip, rsp, rbp, r11, is_return: false }, thread);
    // SAFETY: C1: the innermost continuation lies on this thread's stack; it is in a domain, so there is one.
    let top = unsafe { &*thread.control().top };
    // As if called: 8 for the return address that a function expects.
    frame.rsp = crash::stack_below(top) as u64 - 8;
    frame.rip = divert::divert_to_crash as *const () as u64;
}
