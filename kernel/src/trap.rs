//! Traps: what a machine calls when something interrupts a CPU.
//!
//! A handler only edits the frame. The machine saves the interrupted registers, calls [`interrupt`] or [`fault`]
//! on a stack of its own with interrupts off, and resumes whatever the frame says afterwards. Nothing here takes
//! a lock, allocates or switches threads; the checkpoint that a frame is diverted to does.

use core::sync::atomic::Ordering;

use coppice_abi::DomainId;
use coppice_abi::crossing::PENDING;

use crate::cpu::{request, this_cpu};
use crate::{crash, switch, thread};

/// The registers of an interrupted CPU that a handler may look at and change. The machine resumes all others
/// unchanged.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct TrapFrame {
    /// Next instruction.
    pub rip: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Frame pointer, where backtraces start.
    pub rbp: u64,
    /// First argument register, so that a diverted frame can carry one.
    pub rdi: u64,
}

/// Who interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The deadline of [`crate::machine::Machine::set_timer`] has passed.
    Timer,
    /// [`crate::machine::Machine::send_ipi`] on another CPU.
    Ipi,
    /// A byte was typed.
    Console,
    /// A device, by the number that the machine gave it.
    Device(u8),
}

/// A CPU exception that code raised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// #DE.
    Divide,
    /// #UD, and `ud2` in particular.
    InvalidOpcode,
    /// #GP; hosted: SIGSEGV without an address.
    GeneralProtection,
    /// #PF, with what the code touched.
    Page {
        /// The address.
        address: usize,
    },
    /// #AC; hosted: SIGBUS.
    Alignment,
    /// Any other exception, by its x86 vector.
    Other {
        /// x86 exception vector.
        vector: u8,
    },
}

/// Something wants this CPU's attention; the checkpoint looks what.
pub fn interrupt(frame: &mut TrapFrame, source: Source) {
    let cpu = this_cpu();
    let wanted = match source {
        Source::Timer => request::TIMER,
        Source::Console => request::CONSOLE,
        Source::Ipi | Source::Device(_) => 0,
    };
    cpu.requests.fetch_or(wanted, Ordering::Relaxed);
    let block = cpu.block();
    // SAFETY: the block is this CPU's own, and traps do not nest.
    let critical = unsafe { &mut (*block).critical };
    let bottom = thread::current().stack_bottom() as u64;
    // Without room for the detour it waits for the thread's next section, or for the guard page.
    if *critical != 0 || frame.rsp < bottom + switch::DIVERT_STACK as u64 {
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
    frame.rip = switch::divert as *const () as u64;
}

/// Code raised an exception. A domain's code ends its domain; the kernel's ends the system.
pub fn fault(frame: &mut TrapFrame, fault: Fault) {
    let cpu = this_cpu();
    let block = cpu.block();
    let thread = thread::current();
    // SAFETY: the block is this CPU's own, and traps do not nest.
    let critical = unsafe { &mut (*block).critical };
    let control = thread.control();
    // SAFETY: C1: the innermost continuation lies on this thread's stack.
    let top = unsafe { control.top.as_ref() };
    let (0, Some(top)) = (*critical & !PENDING, top) else {
        panic!("{fault:?} in the kernel at {:#x}, stack {:#x}, thread {}", frame.rip, frame.rsp, thread.id);
    };
    if control.current == DomainId::KERNEL {
        panic!("{fault:?} in the kernel at {:#x}, stack {:#x}, thread {}", frame.rip, frame.rsp, thread.id);
    }
    *critical = (*critical & PENDING) + 1;
    crash::note(fault, frame.rip, thread.stack_bottom());
    // As if called: 8 for the return address that a function expects.
    frame.rsp = crash::stack_below(top) as u64 - 8;
    frame.rip = crash::by_fault as *const () as u64;
}
