//! x86-64 code to which a trap diverts the interrupted code: to the checkpoint, or to the crash path.

use core::arch::naked_asm;

use crate::entry::checkpoint;
use crate::fault::crash;
use crate::platform::xstate;

/// The target of a trap that interrupts code outside a section: saves the registers, runs the checkpoint, and
/// returns to the interrupted code. The trap has pushed the interrupted address (below the red zone) and
/// begun the section.
///
/// x87, SSE and the other state components that the machine has enabled are saved ([`xstate`]).
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn divert() {
    naked_asm!(
        "pushfq",
        // The flags that compiled code expects, whatever the domain has set: interrupts on, all else clear.
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
        "sub rsp, {area}",
        "and rsp, -64",
        "mov eax, [rip + {components}]",
        "test eax, eax",
        "jz 2f",
        "xor edx, edx",
        // `xrstor` requires the part of the header that `xsave` does not write to be zero.
        "mov [rsp + 520], rdx",
        "mov [rsp + 528], rdx",
        "mov [rsp + 536], rdx",
        "mov [rsp + 544], rdx",
        "mov [rsp + 552], rdx",
        "mov [rsp + 560], rdx",
        "mov [rsp + 568], rdx",
        // The bits of the first word for components that are not saved keep their old value, so it is cleared
        // too.
        "mov [rsp + 512], rdx",
        "xsave64 [rsp]",
        "call {diverted}",
        "mov eax, [rip + {components}]",
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
        area = const xstate::AREA_BYTES,
        components = sym xstate::SAVED_COMPONENTS,
        diverted = sym checkpoint::diverted,
    )
}

/// The `rflags` that compiled code may rely on: interrupts on (hosted: that bit is not ours), strings
/// ascending, no alignment checks. Bit 1 is always set.
const FLAGS: u32 = 0x202;

/// The target of a trap for an exception in a domain's code: puts the CPU into the state that compiled code
/// expects, whatever the domain has made of it, and continues on the crash path. Inside a section that the
/// trap began.
#[unsafe(naked)]
pub(crate) unsafe extern "C" fn divert_to_crash() {
    naked_asm!(
        "push {flags}",
        "popfq",
        // Rounding, precision and exception masks as at process start (System V ABI, section 3.2.1).
        "fninit",
        "push 0x1f80",
        "ldmxcsr [rsp]",
        "add rsp, 8",
        "jmp {by_fault}",
        flags = const FLAGS,
        by_fault = sym crash::by_fault,
    )
}

/// The stack bytes that [`divert`] and the checkpoint need below the interrupted stack pointer.
pub(crate) const DIVERT_STACK: usize = xstate::AREA_BYTES + 4096;
