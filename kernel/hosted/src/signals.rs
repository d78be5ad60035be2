//! Traps: signals. A handler runs on a stack of its own, converts the host's frame to a [`TrapFrame`], lets
//! the kernel edit it, and returns to the edited frame.

use std::arch::naked_asm;
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::ptr;

use coppice_kernel::InterruptsOff;
use coppice_kernel::trap::{self, Fault, Source, TrapFrame};

/// Bytes of the handlers' stack: more than the largest frame with AVX-512 state, and room for a panic.
const HANDLER_STACK: usize = 256 * 1024;

/// The meaning of an interrupting signal.
#[derive(Clone, Copy)]
pub(crate) enum Reason {
    Ipi,
    Timer,
    Console,
}

impl Reason {
    const ALL: [Self; 3] = [Self::Ipi, Self::Timer, Self::Console];

    /// Real-time signals: no library uses them, and a pending one does not absorb another.
    pub(crate) fn signal(self) -> libc::c_int {
        libc::SIGRTMIN() + self as libc::c_int
    }
}

/// The signals that Linux sends for exceptions of the running code. (SIGSYS stands for a system call that a
/// filter refuses.)
const EXCEPTIONS: [libc::c_int; 6] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS];

/// Installs the handlers.
pub(crate) fn install() -> io::Result<()> {
    for reason in Reason::ALL {
        install_one(reason.signal(), interrupt_entry)?;
    }
    EXCEPTIONS.into_iter().try_for_each(|signal| install_one(signal, exception_entry))
}

type Handler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

/// Linux starts a handler with the interrupted code's alignment check flag, under which compiled code does
/// not run.
macro_rules! without_alignment_check {
    ($handler:path) => {
        naked_asm!(
            "pushfq",
            "and dword ptr [rsp], {flags}",
            "popfq",
            "jmp {handler}",
            // All but AC (Intel SDM volume 1, section 3.4.3.3).
            flags = const !(1_i32 << 18),
            handler = sym $handler,
        )
    };
}

#[unsafe(naked)]
unsafe extern "C" fn interrupt_entry(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    without_alignment_check!(on_interrupt)
}

#[unsafe(naked)]
unsafe extern "C" fn exception_entry(
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    without_alignment_check!(on_exception)
}

fn install_one(signal: libc::c_int, handler: Handler) -> io::Result<()> {
    // SAFETY: all-zero is a value of it.
    let mut action: libc::sigaction = unsafe { zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // Handlers do not nest.
    action.sa_mask = interrupts();
    // SAFETY: the handler is async-signal-safe: it edits the frame and makes no call that the interrupted
    // code could be in the middle of.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives the calling host thread a stack for its handlers.
pub(crate) fn prepare_cpu() {
    let stack = Box::leak(vec![0_u8; HANDLER_STACK].into_boxed_slice());
    let alternate = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: HANDLER_STACK };
    // SAFETY: the stack is leaked, so it stays.
    let result = unsafe { libc::sigaltstack(&raw const alternate, ptr::null_mut()) };
    assert!(result == 0, "sigaltstack: {}", io::Error::last_os_error());
}

/// Returns the signals that stand for interrupts.
fn interrupts() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: writes the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for reason in Reason::ALL {
        // SAFETY: the set was initialised above.
        unsafe { libc::sigaddset(set.as_mut_ptr(), reason.signal()) };
    }
    // SAFETY: as above.
    unsafe { set.assume_init() }
}

/// Blocks interrupts on the calling host thread.
pub(crate) fn disable() {
    let interrupts = interrupts();
    // SAFETY: reads the set.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const interrupts, ptr::null_mut()) };
}

/// Unblocks interrupts, including those that arrived while they were blocked.
pub(crate) fn enable() {
    let interrupts = interrupts();
    // SAFETY: reads the set.
    unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const interrupts, ptr::null_mut()) };
}

/// Sleeps until an interrupt arrives, if `may_sleep()` returns true while interrupts are blocked.
pub(crate) fn sleep_unless(may_sleep: &dyn Fn() -> bool) {
    let interrupts = interrupts();
    let mut before = MaybeUninit::uninit();
    // SAFETY: reads one set and writes the other.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const interrupts, before.as_mut_ptr()) };
    // SAFETY: just written.
    let before = unsafe { before.assume_init() };
    if may_sleep() {
        // SAFETY: reads the set; the wait and the unblocking are one step.
        unsafe { libc::sigsuspend(&raw const before) };
    }
    // SAFETY: reads the set.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
}

/// Interrupts a host thread.
pub(crate) fn send(thread: libc::pid_t, reason: Reason) {
    // SAFETY: no arguments.
    let process = unsafe { libc::getpid() };
    // SAFETY: a signal with an installed handler.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, reason.signal()) };
}

/// Returns the interrupted registers from the host's frame.
fn frame_of(registers: &[libc::greg_t; 23]) -> TrapFrame {
    let register = |index: libc::c_int| registers[index as usize] as u64;
    TrapFrame {
        rip: register(libc::REG_RIP),
        rsp: register(libc::REG_RSP),
        rbp: register(libc::REG_RBP),
        rdi: register(libc::REG_RDI),
        r11: register(libc::REG_R11),
    }
}

fn put_frame(registers: &mut [libc::greg_t; 23], frame: &TrapFrame) {
    let mut put = |index: libc::c_int, value: u64| registers[index as usize] = value as libc::greg_t;
    put(libc::REG_RIP, frame.rip);
    put(libc::REG_RSP, frame.rsp);
    put(libc::REG_RBP, frame.rbp);
    put(libc::REG_RDI, frame.rdi);
}

/// Returns the registers in a handler's third argument.
///
/// # Safety
/// `context` is that argument.
unsafe fn registers<'a>(context: *mut libc::c_void) -> &'a mut [libc::greg_t; 23] {
    // SAFETY: with SA_SIGINFO the third argument is a ucontext.
    unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs }
}

extern "C" fn on_interrupt(signal: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let source = match Reason::ALL.into_iter().find(|reason| reason.signal() == signal) {
        Some(Reason::Timer) => Source::Timer,
        Some(Reason::Console) => Source::Console,
        Some(Reason::Ipi) | None => Source::Ipi,
    };
    // Interrupts are blocked during a handler, and unblocked for CPUs with a block only.
    let _time = InterruptsOff::begin();
    // SAFETY: this is a handler, and `context` its third argument.
    let registers = unsafe { registers(context) };
    let mut frame = frame_of(registers);
    trap::interrupt(&mut frame, source);
    put_frame(registers, &frame);
}

extern "C" fn on_exception(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: this is a handler, and `info` its second argument.
    let info = unsafe { &*info };
    // Sent by a process, so it is no exception of the interrupted code.
    if info.si_code <= 0 {
        return;
    }
    // SAFETY: this is a handler, and `context` its third argument.
    let registers = unsafe { registers(context) };
    // Linux reports the exception's vector, and the value of CR2 at that time (asm/sigcontext.h).
    let register = |index: libc::c_int| registers[index as usize];
    let vector = match signal {
        // Not an exception: the instruction was a system call.
        libc::SIGSYS => INVALID_OPCODE,
        _ => register(libc::REG_TRAPNO) as u8,
    };
    let fault = Fault::of_vector(vector, register(libc::REG_CR2) as usize);
    let mut frame = frame_of(registers);
    trap::fault(&mut frame, fault);
    put_frame(registers, &frame);
    // Otherwise the crash path would trap at its first instruction.
    registers[libc::REG_EFL as usize] &= !TRAP_FLAG;
}

/// TF in the flags.
const TRAP_FLAG: libc::greg_t = 1 << 8;
/// Vector of #UD.
const INVALID_OPCODE: u8 = 6;
