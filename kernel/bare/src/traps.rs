//! Traps: the interrupt descriptor table, and the dispatch of vectors.
//!
//! Every gate is an interrupt gate with a stack of its own (`cpu::TrapStack`), so handlers run with
//! interrupts off and never nest; a fault with interrupts off can therefore only come from the machine's own
//! code, or from the kernel's before it has threads.

use core::arch::global_asm;
use core::fmt;

use coppice_kernel::InterruptsOff;
use coppice_kernel::trap::{self, Fault, Source, TrapFrame};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::instructions::tables::lidt;
use x86_64::registers::control::Cr2;
use x86_64::structures::DescriptorTablePointer;

use crate::cpu::{self, TrapStack};
use crate::{apic, clock, console, probe, tlb};

global_asm!(include_str!("trap_entry.s"), options(att_syntax));

/// Interrupt vectors. The CPU gives higher ones priority.
pub(crate) mod vector {
    /// First vector of the 16 inputs of the 8259s. They are masked, but may still signal a spurious
    /// interrupt.
    pub(crate) const LEGACY: u8 = 0x20;
    /// First vector of devices.
    pub(crate) const DEVICE: u8 = 0x30;
    /// Number of device vectors.
    pub(crate) const DEVICE_COUNT: u8 = CONSOLE - DEVICE;
    pub(crate) const CONSOLE: u8 = 0xe8;
    /// `probe=interrupts`.
    pub(crate) const PROBE: u8 = 0xe9;
    pub(crate) const TIMER: u8 = 0xea;
    pub(crate) const IPI: u8 = 0xeb;
    pub(crate) const SHOOT_DOWN: u8 = 0xec;
    /// Delivered by the local APIC when an interrupt is withdrawn before its delivery.
    pub(crate) const SPURIOUS: u8 = 0xff;
}

/// A 64-bit interrupt gate (Intel SDM volume 3, section 6.14.1).
#[derive(Clone, Copy)]
#[repr(C)]
struct Gate {
    offset_low: u16,
    selector: u16,
    stack: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

impl Gate {
    fn new(handler: u64, stack: TrapStack) -> Self {
        /// Present, privilege level 0, interrupt gate.
        const KIND: u8 = 0x8e;
        Self {
            offset_low: handler as u16,
            selector: cpu::CODE_SELECTOR,
            // 0 would mean the interrupted stack.
            stack: stack as u8 + 1,
            kind: KIND,
            offset_middle: (handler >> 16) as u16,
            offset_high: (handler >> 32) as u32,
            reserved: 0,
        }
    }
}

/// The interrupt descriptor table, shared by all CPUs: each CPU's TSS has its own stacks.
static GATES: Once<[Gate; 256]> = Once::new();

const STUB_SIZE: u64 = 16;

/// Makes the calling CPU deliver traps here. Its TSS must be loaded.
pub(crate) fn load() {
    let gates = GATES.call_once(|| {
        unsafe extern "C" {
            static trap_stubs: u8;
        }
        let stubs = (&raw const trap_stubs).expose_provenance() as u64;
        core::array::from_fn(|vector| {
            let stack = match vector {
                2 => TrapStack::Nmi,
                8 => TrapStack::DoubleFault,
                18 => TrapStack::MachineCheck,
                0..32 => TrapStack::Fault,
                _ => TrapStack::Interrupt,
            };
            Gate::new(stubs + vector as u64 * STUB_SIZE, stack)
        })
    });
    let pointer =
        DescriptorTablePointer { limit: (size_of_val(gates) - 1) as u16, base: VirtAddr::from_ptr(gates) };
    // SAFETY: each gate leads to a stub that saves and restores everything that it and its handler change;
    // the table is a static that does not change any more.
    unsafe { lidt(&pointer) };
}

/// The stack frame from trap_entry.s and the CPU.
#[repr(C)]
struct Interrupted {
    sse: [u8; 512],
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

impl Interrupted {
    fn had_interrupts(&self) -> bool {
        const INTERRUPT_FLAG: u64 = 1 << 9;
        self.rflags & INTERRUPT_FLAG != 0
    }

    /// Lets the kernel read and change the frame.
    fn edit(&mut self, handle: impl FnOnce(&mut TrapFrame)) {
        let mut frame =
            TrapFrame { rip: self.rip, rsp: self.rsp, rbp: self.rbp, rdi: self.rdi, r11: self.r11 };
        handle(&mut frame);
        (self.rip, self.rsp, self.rbp, self.rdi) = (frame.rip, frame.rsp, frame.rbp, frame.rdi);
    }
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "rip {:#018x}  rsp {:#018x}  rflags {:#x}  error {:#x}  cr2 {:#x}",
            self.rip,
            self.rsp,
            self.rflags,
            self.error,
            Cr2::read_raw()
        )?;
        for row in [
            [("rax", self.rax), ("rbx", self.rbx), ("rcx", self.rcx), ("rdx", self.rdx)],
            [("rsi", self.rsi), ("rdi", self.rdi), ("rbp", self.rbp), ("r8 ", self.r8)],
            [("r9 ", self.r9), ("r10", self.r10), ("r11", self.r11), ("r12", self.r12)],
            [("r13", self.r13), ("r14", self.r14), ("r15", self.r15), ("cs ", self.cs)],
        ] {
            for (name, value) in row {
                write!(f, "{name} {value:#018x}  ")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The entry from trap_entry.s, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn dispatch(interrupted: &mut Interrupted) {
    const LAST_LEGACY: u8 = vector::LEGACY + 15;
    const LAST_DEVICE: u8 = vector::DEVICE + vector::DEVICE_COUNT - 1;
    let _time = if interrupted.vector >= 32 && cpu::is_attached() {
        tlb::wake_up();
        Some(InterruptsOff::begin())
    } else {
        None
    };
    match interrupted.vector as u8 {
        exception @ 0..32 => fault(interrupted, exception),
        vector::SPURIOUS | vector::LEGACY..=LAST_LEGACY => return,
        device @ vector::DEVICE..=LAST_DEVICE => {
            interrupted.edit(|frame| trap::interrupt(frame, Source::Device(device - vector::DEVICE)));
        }
        vector::CONSOLE => {
            console::receive();
            interrupted.edit(|frame| trap::interrupt(frame, Source::Console));
        }
        vector::PROBE => probe::arrived(),
        vector::TIMER => timer(interrupted),
        vector::IPI => interrupted.edit(|frame| trap::interrupt(frame, Source::Ipi)),
        vector::SHOOT_DOWN => tlb::flush(),
        // No source uses this vector; but a faulty device can send any, which must not stop the system.
        _ => {}
    }
    // Exceptions leave no state in the local APIC, but `fault` returns through here too.
    if interrupted.vector >= 32 {
        apic::end_of_interrupt();
    }
}

fn timer(interrupted: &mut Interrupted) {
    if clock::deadline_has_passed() {
        interrupted.edit(|frame| trap::interrupt(frame, Source::Timer));
    }
}

fn fault(interrupted: &mut Interrupted, exception: u8) {
    const TRAP_FLAG: u64 = 1 << 8;
    let fault = match exception {
        2 => panic!("non-maskable interrupt: the hardware reports an error\n{interrupted}"),
        8 => panic!("double fault: a trap found its own stack or table broken\n{interrupted}"),
        18 => panic!("machine check: the hardware reports an error that it could not correct\n{interrupted}"),
        vector => Fault::of_vector(vector, Cr2::read_raw() as usize),
    };
    if !interrupted.had_interrupts() || !cpu::is_attached() {
        panic!("{fault:x?} outside any thread\n{interrupted}");
    }
    interrupted.edit(|frame| trap::fault(frame, fault));
    // Otherwise the crash path would trap at its first instruction.
    interrupted.rflags &= !TRAP_FLAG;
}
