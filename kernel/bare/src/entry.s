# From the loader to the first Rust line, on the CPU that boots and on the others.
#
# A loader enters in 32-bit protected mode without paging: QEMU by Xen's PVH protocol (ebx: hvm_start_info), GRUB
# by Multiboot2 (eax: magic, ebx: tag list). A further CPU enters in real mode, at the start of a page below 1 MiB
# (Intel SDM volume 3, section 9.4.4). All leave in 64-bit mode with SSE on, the first 4 GiB mapped one to one.

.set PVH_MAGIC, 0x336ec578
.set CR0_ON, 0x80010033         # PG, WP, NE, ET, MP, PE; EM and TS are off, so SSE works
.set CR4_ON, 0x620              # PAE, OSFXSR, OSXMMEXCPT; no OSXSAVE, so AVX is off
.set EFER, 0xc0000080
.set EFER_ON, 0x900             # LME, NXE
.set CODE, 0x08
.set DATA, 0x10

# QEMU finds the entry by this ELF note, XEN_ELFNOTE_PHYS32_ENTRY.
.section .note.xen, "a", @note
    .balign 4
    .long 4, 8, 18
    .asciz "Xen"
    .quad pvh_entry

.section .multiboot2, "a"
    .balign 8
multiboot2_header:
    .long 0xe85250d6, 0, multiboot2_header_end - multiboot2_header
    .long -(0xe85250d6 + (multiboot2_header_end - multiboot2_header))
    # Modules on page boundaries (section 3.1.10).
    .balign 8
    .short 6, 0
    .long 8
    # End of tags.
    .balign 8
    .short 0, 0
    .long 8
multiboot2_header_end:

.section .rodata.entry, "a"
    .balign 8
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff    # CODE: 64 bit
    .quad 0x00cf93000000ffff    # DATA
boot_gdt_end:
boot_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt

no_long_mode: .asciz "coppice: this CPU has no 64-bit (long) mode, which the kernel requires\n"
no_nx:        .asciz "coppice: this CPU (or its firmware setting) lacks NX, without which data could be executed\n"
no_sse2:      .asciz "coppice: this CPU lacks SSE2 or FXSR, which compiled Rust uses\n"
no_apic:      .asciz "coppice: this CPU lacks a local APIC, MSRs or a time-stamp counter\n"

.section .bss.entry, "aw", @nobits
    .balign 4096
# Tables for the first 4 GiB in pages of 2 MiB, writable and executable, used until paging::init.
early_pml4: .skip 4096
early_pdpt: .skip 4096
early_pds:  .skip 4096 * 4
# The page below the stack is unmapped by paging::init.
.globl boot_stack_guard
boot_stack_guard: .skip 4096
    .skip 65536
boot_stack_top:

.section .text.entry, "ax"
.code32
pvh_entry:
    mov $PVH_MAGIC, %eax
.globl multiboot2_entry
multiboot2_entry:
    cli
    cld
    mov $boot_stack_top, %esp
    mov %eax, %edi
    mov %ebx, %esi

    # cpuid overwrites ebx, which is saved by now.
    mov $0x80000000, %eax
    cpuid
    mov $no_long_mode, %ebp
    cmp $0x80000001, %eax
    jb refuse
    mov $0x80000001, %eax
    cpuid
    bt $29, %edx
    jnc refuse
    mov $no_nx, %ebp
    bt $20, %edx
    jnc refuse
    mov $1, %eax
    cpuid
    mov $no_sse2, %ebp
    and $0x07000000, %edx       # FXSR, SSE, SSE2
    cmp $0x07000000, %edx
    jne refuse
    mov $1, %eax
    cpuid
    mov $no_apic, %ebp
    and $0x230, %edx            # TSC, MSR, APIC
    cmp $0x230, %edx
    jne refuse

    movl $early_pdpt + 3, early_pml4
    mov $early_pds + 3, %eax
    xor %ecx, %ecx
1:  mov %eax, early_pdpt(, %ecx, 8)
    add $4096, %eax
    inc %ecx
    cmp $4, %ecx
    jb 1b
    mov $0x83, %eax             # present, writable, 2 MiB
    xor %ecx, %ecx
1:  mov %eax, early_pds(, %ecx, 8)
    add $0x200000, %eax
    inc %ecx
    cmp $2048, %ecx
    jb 1b

    mov $early_pml4, %eax
    mov %eax, %cr3
    mov $CR4_ON, %eax
    mov %eax, %cr4
    mov $EFER, %ecx
    mov $EFER_ON, %eax
    xor %edx, %edx
    wrmsr
    mov $CR0_ON, %eax
    mov %eax, %cr0
    lgdt boot_gdt_pointer
    ljmp $CODE, $start64

# Prints the text at ebp on COM1 and stops: this CPU cannot even run the console's driver.
refuse:
    mov $0x3fd, %edx
1:  in %dx, %al
    test $0x20, %al             # transmitter empty
    jz 1b
    movb (%ebp), %al
    inc %ebp
    test %al, %al
    jz 2f
    mov $0x3f8, %edx
    out %al, %dx
    jmp refuse
2:  mov $0xf4, %edx             # isa-debug-exit: see exit.rs
    mov $0x11, %eax
    out %eax, %dx
3:  hlt
    jmp 3b

.code64
start64:
    lea boot_stack_top(%rip), %rsp
    call load_segments
    xor %ebp, %ebp              # backtraces end here
    mov %edi, %edi              # the upper halves were undefined
    mov %esi, %esi
    call start

load_segments:
    mov $DATA, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    fninit
    ldmxcsr default_mxcsr(%rip)
    ret

ap_start64:
    # The CPU that starts this one has put the address of a stack there (smp.rs).
    mov AP_STACK(%rip), %rsp
    call load_segments
    xor %ebp, %ebp
    call start_ap

.section .rodata.entry
    .balign 4
default_mxcsr: .long 0x1f80     # all exceptions masked, round to nearest

# The code at the start of the low page, which may be anywhere below 1 MiB: it only addresses memory relative to
# cs, which is the page, until it is in 64-bit mode.
.globl ap_trampoline
.globl ap_trampoline_end
    .balign 8
.code16
ap_trampoline:
    cli
    cld
    mov %cs, %ax
    mov %ax, %ds
    lgdtl ap_gdt_pointer - ap_trampoline
    mov $CR4_ON, %eax
    mov %eax, %cr4
    mov $KERNEL_PML4, %eax
    mov %eax, %cr3
    mov $EFER, %ecx
    mov $EFER_ON, %eax
    xor %edx, %edx
    wrmsr
    mov $CR0_ON, %eax
    mov %eax, %cr0
    ljmpl $CODE, $ap_start64
    .balign 4
ap_gdt_pointer:
    .short boot_gdt_end - boot_gdt - 1
    .long boot_gdt
ap_trampoline_end:
.code64
