//! Plain x86_64 code for leaving one stack and going on with another.

use core::arch::naked_asm;

use crate::sched::thread;

/// Saves the running thread's registers on its stack and its stack pointer at `from`; goes on with the thread whose
/// stack pointer was saved as `to`. Comes back when somebody switches to this thread again.
///
/// Vector registers need no saving: for the compiler this is a call, and the System V ABI has a callee keep none.
///
/// # Safety
/// Inside a section. `to` came from here or from [`prepare`], and no CPU runs on it.
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

/// Makes an unused stack one that [`switch`] can go on with: at [`thread::main`]. Returns its stack pointer.
pub(crate) fn prepare(top: usize) -> usize {
    // As `switch` pops: six registers, the return address; above it, a zero where `main` would look for its caller's
    // address, which also puts the stack 8 off a multiple of 16, as at any function's first instruction.
    let frame: [usize; 8] = [0, 0, 0, 0, 0, 0, thread::main as *const () as usize, 0];
    let sp = top - size_of_val(&frame);
    // SAFETY: the stack is new and has room; nobody else uses it.
    unsafe { (sp as *mut [usize; 8]).write(frame) };
    sp
}
