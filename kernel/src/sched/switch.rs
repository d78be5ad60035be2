//! The context switch: plain x86_64 code that leaves one stack and continues on another.

use core::arch::naked_asm;

use crate::sched::thread;

/// Saves the running thread's registers on its stack and its stack pointer at `from`; continues the thread
/// whose stack pointer was saved as `to`. Returns when another thread switches to this one.
///
/// Vector registers need no saving: for the compiler this is a call, and in the System V ABI they are all
/// caller-saved.
///
/// # Safety
/// Inside a section. `to` came from here or from [`prepare`], and no CPU runs on that stack.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn switch(from: *mut usize, to: usize) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Prepares an unused stack for [`switch`], which then continues at [`thread::main`]. Returns its stack
/// pointer.
pub(crate) fn prepare(top: usize) -> usize {
    // In the order in which `switch` pops: six registers, the return address; above it, a zero in place of
    // the return address of `main`'s caller, which also puts the stack 8 off a multiple of 16, as at any
    // function's first instruction.
    let frame: [usize; 8] = [0, 0, 0, 0, 0, 0, thread::main as *const () as usize, 0];
    let sp = top - size_of_val(&frame);
    // SAFETY: the stack is new and has room; nothing else uses it.
    unsafe { (sp as *mut [usize; 8]).write(frame) };
    sp
}
