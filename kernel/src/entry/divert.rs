//! Plain x86_64 code for a trap that makes interrupted code go on elsewhere: at the checkpoint, or at the crash path.

use core::arch::naked_asm;

use crate::entry::checkpoint;
use crate::fault::crash;
use crate::platform::xstate;

/// Where a trap sends code that it interrupts outside a section: keeps what that code may have in registers, runs
/// the checkpoint, and goes back. The trap has pushed the interrupted address (below the red zone) and begun the
/// section.
///
/// x87, SSE and what else the machine has enabled is kept ([`extended`]).
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn divert() {
    naked_asm!(
        "pushfq",
        // Flags as compiled code expects them, whatever the domain has set: interrupts on, all else clear.
        "push {flags}",
        "popfq",
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "push rbx",
        "mov rbx, rsp",
        "sub rsp, {room}",
        "and rsp, -64",
        "mov eax, [rip + {kept}]",
        "test eax, eax",
        "jz 2f",
        "xor edx, edx",
        // `xrstor` wants what `xsave` does not write of the header to be zero.
        "mov [rsp + 520], rdx",
        "mov [rsp + 528], rdx",
        "mov [rsp + 536], rdx",
        "mov [rsp + 544], rdx",
        "mov [rsp + 552], rdx",
        "mov [rsp + 560], rdx",
        "mov [rsp + 568], rdx",
        // And bits of the first word that it is not told to write are whatever they are.
        "mov [rsp + 512], rdx",
        "xsave64 [rsp]",
        "call {diverted}",
        "mov eax, [rip + {kept}]",
        "xor edx, edx",
        "xrstor64 [rsp]",
        "jmp 3f",
        "2:",
        "fxsave64 [rsp]",
        "call {diverted}",
        "fxrstor64 [rsp]",
        "3:",
        "mov rsp, rbx",
        "pop rbx",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "popfq",
        "ret 128",
        flags = const FLAGS,
        room = const xstate::AREA_BYTES,
        kept = sym xstate::SAVED_COMPONENTS,
        diverted = sym checkpoint::diverted,
    )
}

/// What code may count on in `rflags`: interrupts are on (hosted: that bit is not ours), strings go upwards, alignment
/// is not checked. Bit 1 is always set.
const FLAGS: u32 = 0x202;

/// Where a trap sends a domain's code that raised an exception: puts the CPU in the state that compiled code expects,
/// whatever the domain has made of it, and goes on to the crash path. Inside a section that the trap began.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn divert_to_crash() {
    naked_asm!(
        "push {flags}",
        "popfq",
        // Rounding, precision and masked exceptions as at a program's start (System V ABI, section 3.2.1).
        "fninit",
        "push 0x1f80",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "jmp {by_fault}",
        flags = const FLAGS,
        by_fault = sym crash::by_fault,
    )
}

/// Bytes that [`divert`] and the checkpoint need below the interrupted stack pointer.
pub(crate) const DIVERT_STACK: usize = xstate::AREA_BYTES + 4096;
