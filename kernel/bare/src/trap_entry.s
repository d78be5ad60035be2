# The entry of traps: one stub per vector, which brings all to the same layout (`Interrupted` in traps.rs), and the
# return. The CPU has switched to a stack of the interrupt stack table, so its pointer is 16-byte aligned before the
# five words that the CPU pushes.

.section .text.traps, "ax"
.globl trap_stubs
    .balign 16
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    # These push an error code of their own (Intel SDM volume 3, table 6-1).
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21
    .elseif vector == 29 || vector == 30
    .else
        push $0
    .endif
    push $vector
    jmp save_and_dispatch
    .set vector, vector + 1
.endr

save_and_dispatch:
    push %rax
    push %rbx
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %rbp
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    sub $512, %rsp
    fxsave64 (%rsp)             # handlers are compiled code, which uses SSE
    cld
    mov %rsp, %rdi
    call dispatch
    fxrstor64 (%rsp)
    add $512, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rbp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rbx
    pop %rax
    add $16, %rsp               # vector and error code
    iretq
