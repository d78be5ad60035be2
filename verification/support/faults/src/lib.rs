//! Raises CPU exceptions, for a domain that shows what becomes of them.
//!
//! Safe code cannot do any of this, and domains forbid the other kind; so this is a crate of its own, a part of the
//! trusted set, for `coppice-failure` and the domains linked with that alone (`xtask/trusted.toml`). Each function is a few instructions that
//! raise one exception and change nothing but registers. A function comes back only where the machine does not raise it.

#![no_std]
#![warn(missing_docs)]

use core::arch::asm;
use core::mem::offset_of;

use coppice_abi::crossing::{CpuBlock, ThreadControl};

/// #DE: a division by zero that the compiler does not see.
#[inline(never)]
pub fn divide_error() {
    // SAFETY: changes the registers that it names.
    unsafe {
        asm!("div {zero:e}", zero = in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _, options(nomem, nostack));
    }
}

/// #UD.
#[inline(never)]
pub fn invalid_opcode() {
    // SAFETY: changes nothing.
    unsafe { asm!("ud2", options(nomem, nostack)) };
}

/// #GP: a read from an address in the middle, which no page table can map (Intel SDM volume 1, section 3.3.7.1).
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

/// #PF: a write to its own instruction.
#[inline(never)]
pub fn write_to_code() {
    // SAFETY: code is not writable; were it, this would put back what it read.
    unsafe {
        asm!("2:", "lea {place}, [rip + 2b]", "mov {byte}, [{place}]", "mov [{place}], {byte}", place = out(reg) _,
            byte = out(reg_byte) _, options(nostack));
    }
}

/// #PF: a call of data.
#[inline(never)]
pub fn jump_into_data() {
    /// `ret`, should somebody run it.
    static DATA: [u8; 16] = [0xc3; 16];
    // SAFETY: constants are not executable; were they, this one would come back at once.
    unsafe { asm!("call {0}", in(reg) DATA.as_ptr(), clobber_abi("C")) };
}

/// #AC: an access that is not aligned, with the CPU told to check that. The CPU does so in user mode only (Intel SDM
/// volume 3, section 6.15, interrupt 17), so on the bare machine this comes back.
#[inline(never)]
pub fn misaligned() {
    let words = [0_u64; 2];
    // SAFETY: reads inside `words`, and puts the flag back.
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

/// #BP.
#[inline(never)]
pub fn breakpoint() {
    // SAFETY: changes nothing.
    unsafe { asm!("int3", options(nomem, nostack)) };
}

/// #DB: a trap after a single instruction.
#[inline(never)]
pub fn debug_trap() {
    // SAFETY: changes the flag only, and puts it back.
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

/// #MF: an x87 division by zero, with that exception unmasked. (#XM, its like for SSE, is not raised by QEMU's TCG.)
#[inline(never)]
pub fn floating_point() {
    /// As `fninit` leaves the control word, but for the mask of divisions by zero.
    const UNMASKED: u16 = 0x37f & !(1 << 2);
    let unmasked = UNMASKED;
    // SAFETY: changes x87 registers only, and leaves them as at a program's start.
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

/// Spins for ever with the stack pointer where the stack has 2 KiB left: too little for an interrupt to turn this
/// thread to anything else.
#[inline(never)]
pub fn spin_at_the_end_of_the_stack() -> ! {
    /// How far a thread's `stack_limit` is above its stack's end (the kernel's `thread::HEADROOM`).
    const HEADROOM: u32 = 24 * 1024;
    // SAFETY: the stack between here and there is this thread's and unused, and this does not come back.
    unsafe {
        asm!(
            "mov {stack}, gs:[{thread}]",
            "mov rsp, [{stack} + {limit}]",
            "sub rsp, {down}",
            "2: pause",
            "jmp 2b",
            stack = in(reg) 0_u64,
            thread = const offset_of!(CpuBlock, thread),
            limit = const offset_of!(ThreadControl, stack_limit),
            down = const HEADROOM - 2048,
            options(noreturn),
        )
    }
}
