//! CPUs: host threads, each pinned to a host CPU if the host has enough of them.

use std::cell::Cell;
use std::sync::atomic::{AtomicI32, Ordering};

use coppice_abi::crossing::CpuBlock;
use coppice_kernel::machine::CPU_LIMIT;
use coppice_kernel::machine::CpuStart;

use crate::heap;
use crate::signals::{self, Reason};

/// Host thread ids; 0 before a CPU has started.
static THREADS: [AtomicI32; CPU_LIMIT] = [const { AtomicI32::new(0) }; CPU_LIMIT];

thread_local! {
    static IS_CPU: Cell<bool> = const { Cell::new(false) };
}

/// Returns true if the calling host thread is a CPU.
pub(crate) fn is_cpu() -> bool {
    IS_CPU.get()
}

/// Makes the calling host thread CPU `cpu`. Interrupts are off until it has its block.
pub(crate) fn enter(cpu: usize) {
    signals::disable();
    pin(cpu);
    signals::prepare_cpu();
    IS_CPU.set(true);
    // SAFETY: no arguments.
    THREADS[cpu].store(unsafe { libc::gettid() }, Ordering::Release);
}

/// Starts another CPU.
pub(crate) fn start(start: CpuStart) {
    std::thread::spawn(move || begin(start));
}

fn begin(start: CpuStart) -> ! {
    enter(start.cpu);
    set_block(start.block);
    let (stack_top, kernel) = (start.stack_top, start.enter);
    heap::enter_kernel();
    // The kernel's idle thread runs on the stack of `start`; this host thread's own stack is never used
    // again.
    // SAFETY: the stack is unused, and `kernel` does not return.
    unsafe {
        std::arch::asm!("mov rsp, {}", "xor ebp, ebp", "call {}", in(reg) stack_top, in(reg) kernel, options(noreturn))
    }
}

/// Interrupts CPU `cpu`. One that has not started yet checks for work when it does.
pub(crate) fn interrupt(cpu: usize, reason: Reason) {
    let thread = THREADS[cpu].load(Ordering::Acquire);
    if thread != 0 {
        signals::send(thread, reason);
    }
}

/// Points this CPU's `gs` at `block`, and enables interrupts once the block names a thread. Linux leaves `gs`
/// to the program.
pub(crate) fn set_block(block: *mut u8) {
    const ARCH_SET_GS: libc::c_long = 0x1001;
    // SAFETY: only the kernel library uses `gs` in this process.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, block) };
    assert!(result == 0, "arch_prctl(ARCH_SET_GS): {}", std::io::Error::last_os_error());
    // SAFETY: by the machine's contract a CPU block, valid from here on.
    let thread = unsafe { CpuBlock::thread_word(block.cast()) };
    // SAFETY: as above.
    if !unsafe { thread.read() }.is_null() {
        signals::enable();
    }
}

/// Pins the calling thread to a host CPU of its own, if this process may use enough of them.
fn pin(cpu: usize) {
    if let Some(&index) = usable().get(cpu) {
        run_on(&[index]);
    }
}

/// Keeps the calling thread, and the threads that it starts, off the host CPUs to which the first `cpus` CPUs
/// are pinned, if that leaves any. Call it before any of them is pinned.
pub(crate) fn avoid(cpus: usize) {
    let usable = usable();
    if let Some(rest) = usable.get(cpus..).filter(|rest| !rest.is_empty()) {
        run_on(rest);
    }
}

/// Returns the host CPUs that the calling thread may run on.
fn usable() -> Vec<usize> {
    // SAFETY: all-zero is an empty set.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes the set.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) } != 0 {
        return Vec::new();
    }
    let indices = 0..libc::CPU_SETSIZE as usize;
    // SAFETY: `index` is below the set's size.
    indices.filter(|&index| unsafe { libc::CPU_ISSET(index, &allowed) }).collect()
}

fn run_on(indices: &[usize]) {
    // SAFETY: all-zero is an empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for &index in indices {
        // SAFETY: `usable` found it below the set's size.
        unsafe { libc::CPU_SET(index, &mut set) };
    }
    // A refusal only costs speed.
    // SAFETY: reads the set.
    unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) };
}
