//! How a domain's code comes to its end by itself, and what is remembered of it.

use core::ffi::c_void;

use coppice_abi::crossing::Continuation;
use coppice_abi::{CrashKind, CrashReport, DomainId};
use coppice_interfaces::Text;

use crate::sync::Lock;
use crate::trap::Fault;
use crate::{checkpoint, cpu, domain, terminate, thread};

/// How many deaths are remembered.
const REMEMBERED: usize = 256;

/// What a life died of.
#[derive(Clone, Copy)]
struct Obituary {
    domain: DomainId,
    kind: CrashKind,
    text: Text<256>,
}

struct Cemetery {
    graves: [Option<Obituary>; REMEMBERED],
    next: usize,
}

static CEMETERY: Lock<Cemetery> = Lock::new(Cemetery { graves: [const { None }; REMEMBERED], next: 0 });

/// An exception, between the trap that took it and the crash path.
#[derive(Clone, Copy)]
pub(crate) struct Noted {
    fault: Fault,
    rip: u64,
    kind: CrashKind,
}

/// Keeps what a trap saw, for [`by_fault`].
pub(crate) fn note(fault: Fault, rip: u64, stack_bottom: usize) {
    let guard = stack_bottom.wrapping_sub(crate::machine::PAGE_SIZE)..stack_bottom;
    let kind = match fault {
        Fault::Page { address } if guard.contains(&address) => CrashKind::StackOverflow,
        _ => CrashKind::Exception,
    };
    // SAFETY: T3: the running thread's own.
    unsafe { thread::current().fields() }.fault = Some(Noted { fault, rip, kind });
}

/// Where a trap sends a domain's code that raised an exception; inside a section, on the stack below the proxy.
pub(crate) extern "C" fn by_fault(_: *mut c_void) -> ! {
    // SAFETY: T3: our own.
    let noted = unsafe { thread::current().fields() }.fault.take();
    let noted = noted.expect("the trap noted what it saw");
    let text = match noted.kind {
        CrashKind::StackOverflow => Text::new("the stack is used up"),
        _ => Text::format(format_args!("{:?} at {:#x}", noted.fault, noted.rip)),
    };
    end_current(noted.kind, text)
}

/// Where the crash path runs: right below the proxy's frame. The domain's frames are dead, and its stack may be used up.
/// Aligned as before a call.
pub(crate) fn stack_below(top: &Continuation) -> usize {
    (top.rsp - 256) & !15
}

/// A domain calls the kernel with too little stack. In the outermost section.
pub(crate) fn by_overflow() -> ! {
    let thread = thread::current();
    let bottom = thread.stack_bottom();
    note(Fault::Page { address: bottom.wrapping_sub(1) }, 0, bottom);
    // SAFETY: domain code runs, so there is a continuation (C1).
    let top = unsafe { &*thread.control().top };
    let stack = stack_below(top);
    // SAFETY: below that frame nothing is live any more, and the crossing found room there.
    unsafe {
        core::arch::asm!("mov rsp, {stack}", "call {crash}", "ud2", stack = in(reg) stack, crash = sym by_fault,
            options(noreturn))
    }
}

/// A domain reports its own end. Inside a section.
pub(crate) fn by_report(report: &CrashReport<'_>) -> ! {
    let text = if report.file.is_empty() {
        Text::new(report.message)
    } else {
        Text::format(format_args!("{} ({}:{})", report.message, report.file, report.line))
    };
    end_current(report.kind, text)
}

fn end_current(kind: CrashKind, text: Text<256>) -> ! {
    let victim = cpu::current_domain();
    log::warn!("{} (generation {}): {kind:?}: {text}", domain::name(victim), victim.generation());
    remember(victim, kind, text);
    terminate::terminate(victim, kind);
    terminate::leave_if_killed();
    // Somebody else ended the domain first, and this thread has yet to hear of it.
    checkpoint::end_section();
    unreachable!("a thread inside a dead domain leaves it at the end of its section");
}

fn remember(domain: DomainId, kind: CrashKind, text: Text<256>) {
    let mut cemetery = CEMETERY.lock();
    let next = cemetery.next;
    cemetery.graves[next] = Some(Obituary { domain, kind, text });
    cemetery.next = (next + 1) % REMEMBERED;
}

fn find(domain: DomainId) -> Option<Obituary> {
    CEMETERY.lock().graves.iter().flatten().find(|grave| grave.domain == domain).copied()
}

/// Makes sure that a life that ends is remembered: by `text`, unless it has said something itself.
pub(crate) fn bury(domain: DomainId, kind: CrashKind, text: Text<256>) {
    if find(domain).is_none() {
        remember(domain, kind, text);
    }
}

/// What that life died of.
pub(crate) fn cause(domain: DomainId) -> CrashKind {
    find(domain).map_or(CrashKind::Killed, |grave| grave.kind)
}

/// What that life said of its end.
pub(crate) fn obituary(domain: DomainId) -> Option<Text<256>> {
    find(domain).map(|grave| grave.text)
}
