//! The crash path of a domain's own code: a reported panic, an exception, or a stack overflow.

use core::ffi::c_void;
use core::fmt;
use core::panic::Location;

use coppice_abi::crossing::Continuation;
use coppice_abi::{CrashKind, CrashReport, DomainId};
use coppice_interfaces::Text;

use crate::domain;
use crate::fault::{crash_log, terminate};
use crate::platform::backtrace::{Backtrace, Registers};
use crate::platform::exception::{Fault, PendingFault};
use crate::platform::latency;
use crate::platform::machine::PAGE_SIZE;
use crate::platform::sync::Section;
use crate::sched::cpu;
use crate::sched::thread::{self, Thread};

/// Stores the trap's view of the running thread for [`by_fault`], which runs over the domain's frames.
pub(crate) fn note(fault: Fault, registers: Registers, thread: &Thread) {
    let bottom = thread.stack_bottom();
    let guard = bottom.wrapping_sub(PAGE_SIZE)..bottom;
    let kind = match fault {
        Fault::Page { address } if guard.contains(&address) => CrashKind::StackOverflow,
        _ => CrashKind::Exception,
    };
    let pending = PendingFault { fault, rip: registers.rip, kind, backtrace: walk(registers, thread) };
    // SAFETY: T3: the fields of the running thread, which is this one.
    unsafe { thread.fields() }.fault = Some(pending);
}

/// Walks the frames of the domain that the running thread is in.
fn walk(registers: Registers, thread: &Thread) -> Backtrace {
    let control = thread.control();
    let Some(domain) = domain::get(control.current().slot()) else { return Backtrace::NONE };
    // SAFETY: C1: the innermost continuation lies on this thread's stack.
    let Some(top) = (unsafe { control.top().as_ref() }) else { return Backtrace::NONE };
    let stack = thread.stack_bottom()..top.stack_pointer();
    // SAFETY: the range is readable: it goes from the stack's lowest byte up to the frame of the proxy that
    // entered the domain.
    unsafe { Backtrace::walk(&domain.code(), domain.symbols.as_ref(), registers, &stack) }
}

/// Ends the running domain after an exception of its code. A trap diverts the thread to here
/// ([`crate::entry::divert::divert_to_crash`]); inside a section, on the stack below the proxy.
pub(crate) extern "C" fn by_fault(_: *mut c_void) -> ! {
    latency::begin_checkpoint(Location::caller());
    // SAFETY: T3: the fields of this thread.
    let pending = unsafe { thread::current().fields() }.fault.take();
    let PendingFault { fault, rip, kind, backtrace } =
        pending.expect("the trap stores the fault before it diverts");
    let text = match kind {
        CrashKind::StackOverflow => Text::new("the stack is used up"),
        _ => Text::format(format_args!("{fault} at {}", CodeAddress { domain: cpu::current_domain(), rip })),
    };
    end_current(kind, text, backtrace)
}

/// Returns the stack pointer for the crash path: right below the proxy's frame, because the domain's frames
/// are dead and its stack may be used up. Aligned as before a call.
pub(crate) fn stack_below(top: &Continuation) -> usize {
    (top.stack_pointer() - 256) & !15
}

/// Ends a domain that calls the kernel with too little stack. In the outermost section.
pub(crate) fn by_overflow() -> ! {
    let thread = thread::current();
    let address = thread.stack_bottom().wrapping_sub(1);
    // The frames between here and the domain are the kernel's own, which no table describes.
    let unknown = Registers { rip: 0, rsp: 0, rbp: 0, r11: 0, is_return: true };
    note(Fault::Page { address }, unknown, thread);
    // SAFETY: domain code runs, so there is a continuation (C1).
    let top = unsafe { &*thread.control().top() };
    let stack = stack_below(top);
    // SAFETY: nothing below that frame is live any more, and the crossing found room there.
    unsafe {
        core::arch::asm!("mov rsp, {stack}", "call {crash}", "ud2", stack = in(reg) stack, crash = sym by_fault,
            options(noreturn))
    }
}

/// Ends a domain that reports its own crash, by the call that `registers` describe. Inside a section.
pub(crate) fn by_report(report: &CrashReport<'_>, registers: Registers) -> ! {
    let text = if report.file.is_empty() {
        Text::new(report.message)
    } else {
        Text::format(format_args!("{} ({}:{})", report.message, report.file, report.line))
    };
    end_current(report.kind, text, walk(registers, thread::current()))
}

fn end_current(kind: CrashKind, text: Text<256>, backtrace: Backtrace) -> ! {
    let victim = cpu::current_domain();
    crash_log::record_own_crash(victim, kind, text, backtrace);
    terminate::terminate(victim, kind);
    thread::leave_if_killed();
    // Another thread ended the domain first, and this one is evicted at the end of its section.
    // SAFETY: the crash path runs in a section that nothing else ends.
    drop(unsafe { Section::take_over() });
    unreachable!("a thread inside a dead domain leaves it at the end of its section");
}

/// A code address, as image and offset where possible: the absolute address differs in each boot.
struct CodeAddress {
    /// The domain whose code ran.
    domain: DomainId,
    rip: usize,
}

impl fmt::Display for CodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = domain::get(self.domain.slot()).filter(|domain| domain.code().contains(&self.rip));
        match domain {
            Some(domain) => write!(f, "{} + {:#x}", domain.manifest.image, self.rip - domain.code().start),
            None => write!(f, "{:#x}", self.rip),
        }
    }
}
