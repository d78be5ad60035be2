//! Raises CPU exceptions, for a domain that tests their handling.
//!
//! Safe code cannot raise them, and domains forbid unsafe code; so this is a crate of its own. It belongs to
//! the trusted set and is reserved for `coppice-fault-injection` and the domains that link it
//! (`xtask/trusted.toml`). Each function is a few instructions that raise one exception and change only
//! registers. A function returns only on a machine that does not raise the exception.

#![no_std]
#![warn(missing_docs)]

use core::arch::asm;

use coppice_abi::crossing::{CpuBlock, ThreadControl};

/// #DE: a division by zero, hidden from the compiler.
#[inline(never)]
pub fn divide_error() {
    // SAFETY: changes only the registers that it names.
    unsafe {
        asm!("div {zero:e}", zero = in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _, options(nomem, nostack));
    }
}

/// #UD: an invalid opcode.
#[inline(never)]
pub fn invalid_opcode() {
    // SAFETY: changes nothing.
    unsafe { asm!("ud2", options(nomem, nostack)) };
}

/// #GP: a read from a non-canonical address, which no page table can map (Intel SDM volume 1, section
/// 3.3.7.1).
#[inline(never)]
pub fn general_protection() {
    const NON_CANONICAL: u64 = 0x8000_0000_0000_0000;
    // SAFETY: reads nothing: no such address exists.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) NON_CANONICAL => _, options(nostack)) };
}

/// #PF: a read of page 0.
#[inline(never)]
pub fn read_of_null() {
    // SAFETY: page 0 is never mapped.
    unsafe { asm!("mov {0}, [{0}]", inout(reg) 0_u64 => _, options(nostack)) };
}

/// #PF: a write to the instruction's own code.
#[inline(never)]
pub fn write_to_code() {
    // SAFETY: code is not writable; if it were, this would write back the byte that it read.
    unsafe {
        asm!("2:", "lea {place}, [rip + 2b]", "mov {byte}, [{place}]", "mov [{place}], {byte}", place = out(reg) _,
            byte = out(reg_byte) _, options(nostack));
    }
}

/// #PF: a call into data.
#[inline(never)]
pub fn jump_into_data() {
    /// A `ret`, in case data are executable after all.
    static DATA: [u8; 16] = [0xc3; 16];
    // SAFETY: constants are not executable; if they were, this one would return at once.
    unsafe { asm!("call {0}", in(reg) DATA.as_ptr(), clobber_abi("C")) };
}

/// #AC: a misaligned access with alignment checks enabled. The CPU checks in user mode only (Intel SDM volume
/// 3, section 6.15, interrupt 17), so on the bare machine this returns.
#[inline(never)]
pub fn misaligned() {
    let words = [0_u64; 2];
    // SAFETY: reads inside `words`, and restores the flag.
    unsafe {
        asm!(
            "pushfq",
            "or dword ptr [rsp], {check}",
            "popfq",
            "mov {word:e}, [{words} + 1]",
            "pushfq",
            "and dword ptr [rsp], ~{check}",
            "popfq",
            words = in(reg) words.as_ptr(),
            word = out(reg) _,
            // AC (Intel SDM volume 1, section 3.4.3.3).
            check = const 1 << 18,
        );
    }
}

/// #BP: a breakpoint.
#[inline(never)]
pub fn breakpoint() {
    // SAFETY: changes nothing.
    unsafe { asm!("int3", options(nomem, nostack)) };
}

/// #DB: a single-step trap after one instruction.
#[inline(never)]
pub fn debug_trap() {
    // SAFETY: changes only the flag, and restores it.
    unsafe {
        asm!(
            "pushfq",
            "or dword ptr [rsp], {step}",
            "popfq",
            "nop",
            "pushfq",
            "and dword ptr [rsp], ~{step}",
            "popfq",
            // TF (Intel SDM volume 1, section 3.4.3.3).
            step = const 1 << 8,
        );
    }
}

/// #MF: an x87 division by zero, with that exception unmasked. (QEMU's TCG does not raise #XM, the SSE
/// equivalent.)
#[inline(never)]
pub fn floating_point() {
    /// The control word after `fninit`, without the mask for divisions by zero.
    const UNMASKED: u16 = 0x37f & !(1 << 2);
    let unmasked = UNMASKED;
    // SAFETY: changes only x87 registers, and leaves them as at the start of a program.
    unsafe {
        asm!(
            "fninit",
            "fldcw [{unmasked}]",
            "fld1",
            "fldz",
            "fdivp st(1), st",
            "fwait",
            "fninit",
            unmasked = in(reg) &raw const unmasked,
            out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
            out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
            options(nostack),
        );
    }
}

/// Spins forever with the stack pointer at 2 KiB above the end of the stack, which is too little for an
/// interrupt to switch this thread to other code.
#[inline(never)]
pub fn spin_at_the_end_of_the_stack() -> ! {
    /// The distance of a thread's `stack_limit` from the end of its stack (the kernel's `thread::HEADROOM`).
    const HEADROOM: u32 = 24 * 1024;
    // SAFETY: the stack between the current frame and that address belongs to this thread and is unused, and
    // this function does not return.
    unsafe {
        asm!(
            "mov {stack}, gs:[{thread}]",
            "mov rsp, [{stack} + {limit}]",
            "sub rsp, {down}",
            "2: pause",
            "jmp 2b",
            stack = in(reg) 0_u64,
            thread = const CpuBlock::THREAD,
            limit = const ThreadControl::STACK_LIMIT,
            down = const HEADROOM - 2048,
            options(noreturn),
        )
    }
}
