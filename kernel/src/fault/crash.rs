//! How a domain's code comes to its end by itself: it reports a panic, it raises an exception, or its stack is used up.

use core::ffi::c_void;
use core::fmt;

use coppice_abi::crossing::Continuation;
use coppice_abi::{CrashKind, CrashReport, DomainId};
use coppice_interfaces::Text;

use crate::domain;
use crate::fault::{crash_log, terminate};
use crate::platform::backtrace::{Backtrace, Registers};
use crate::platform::exception::{Fault, PendingFault};
use crate::platform::machine::PAGE_SIZE;
use crate::platform::sync::Section;
use crate::sched::cpu;
use crate::sched::thread::{self, Thread};

/// Keeps what a trap saw of the running thread, for [`by_fault`], which will run over the domain's frames.
pub(crate) fn note(fault: Fault, registers: Registers, thread: &Thread) {
    let bottom = thread.stack_bottom();
    let guard = bottom.wrapping_sub(PAGE_SIZE)..bottom;
    let kind = match fault {
        Fault::Page { address } if guard.contains(&address) => CrashKind::StackOverflow,
        _ => CrashKind::Exception,
    };
    let noted = PendingFault { fault, rip: registers.rip, kind, backtrace: walk(registers, thread) };
    // SAFETY: T3: the running thread's own.
    unsafe { thread.fields() }.fault = Some(noted);
}

/// The functions of its domain that the running thread is in.
fn walk(registers: Registers, thread: &Thread) -> Backtrace {
    let control = thread.control();
    let Some(domain) = domain::get(control.current.slot()) else { return Backtrace::NONE };
    // SAFETY: C1: the innermost continuation lies on this thread's stack.
    let Some(top) = (unsafe { control.top.as_ref() }) else { return Backtrace::NONE };
    let stack = thread.stack_bottom()..top.rsp;
    // SAFETY: from the stack's lowest byte up to the frame of the proxy that entered the domain.
    unsafe { Backtrace::walk(&domain.code(), domain.symbols.as_ref(), registers, &stack) }
}

/// Where a trap sends a domain's code that raised an exception, by way of [`crate::entry::divert::divert_to_crash`]; inside a
/// section, on the stack below the proxy.
pub(crate) extern "C" fn by_fault(_: *mut c_void) -> ! {
    // SAFETY: T3: our own.
    let noted = unsafe { thread::current().fields() }.fault.take();
    let PendingFault { fault, rip, kind, backtrace } = noted.expect("the trap noted what it saw");
    let text = match kind {
        CrashKind::StackOverflow => Text::new("the stack is used up"),
        _ => Text::format(format_args!("{fault} at {}", CodeAddress { domain: cpu::current_domain(), rip })),
    };
    end_current(kind, text, backtrace)
}

/// Where the crash path runs: right below the proxy's frame. The domain's frames are dead, and its stack may be used up.
/// Aligned as before a call.
pub(crate) fn stack_below(top: &Continuation) -> usize {
    (top.rsp - 256) & !15
}

/// A domain calls the kernel with too little stack. In the outermost section.
pub(crate) fn by_overflow() -> ! {
    let thread = thread::current();
    let address = thread.stack_bottom().wrapping_sub(1);
    // The frames between here and the domain are the kernel's own, which no table describes.
    let nowhere = Registers { rip: 0, rsp: 0, rbp: 0, r11: 0, is_return: true };
    note(Fault::Page { address }, nowhere, thread);
    // SAFETY: domain code runs, so there is a continuation (C1).
    let top = unsafe { &*thread.control().top };
    let stack = stack_below(top);
    // SAFETY: below that frame nothing is live any more, and the crossing found room there.
    unsafe {
        core::arch::asm!("mov rsp, {stack}", "call {crash}", "ud2", stack = in(reg) stack, crash = sym by_fault,
            options(noreturn))
    }
}

/// A domain reports its own end, from the call that `registers` describe. Inside a section.
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
    // Somebody else ended the domain first, and this thread has yet to hear of it.
    // SAFETY: the crash path runs in a section that nothing else ends.
    drop(unsafe { Section::take_over() });
    unreachable!("a thread inside a dead domain leaves it at the end of its section");
}

/// An address, as far as it can be said better than by a number that differs in each boot.
struct CodeAddress {
    /// Whose code ran.
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
