//! [`BareMachine`]: the [`Machine`] contract, implemented by the modules beside this one.

use core::ops::Range;

use coppice_abi::crossing::CpuBlock;
use coppice_bare::memory_map::MemoryMap;
use coppice_kernel::machine::CpuStart;
use coppice_kernel::machine::{ExitStatus, Machine, PhysAddr, Protection};
use coppice_kernel::pci::PciFunction;
use x86_64::instructions::interrupts;

use crate::{apic, clock, console, cpu, exit, functions, paging, smp, tlb, traps};

/// An x86_64 PC. The only instance.
pub(crate) struct BareMachine {
    /// Memory that is left for the kernel.
    pub(crate) memory: MemoryMap,
    /// The boot archive.
    pub(crate) archive: &'static [u8],
    /// The command line, as far as it is UTF-8.
    pub(crate) command_line: &'static str,
}

impl Machine for BareMachine {
    fn name(&self) -> &'static str {
        "bare"
    }

    fn cpu_count(&self) -> usize {
        cpu::count()
    }

    fn memory(&self, visit: &mut dyn FnMut(Range<PhysAddr>)) {
        for range in self.memory.ranges() {
            visit(PhysAddr(range.start)..PhysAddr(range.end));
        }
    }

    fn phys_offset(&self) -> usize {
        0
    }

    fn archive(&self) -> &'static [u8] {
        self.archive
    }

    fn command_line(&self) -> &str {
        self.command_line
    }

    fn protect(&self, start: usize, len: usize, protection: Protection) {
        paging::protect(start, len, protection);
    }

    fn start_cpu(&self, start: CpuStart) {
        smp::start(start);
    }

    fn set_cpu_block(&self, block: *mut u8) {
        cpu::attach(block);
        tlb::join();
        // SAFETY: by the contract the block starts with a `CpuBlock`.
        let thread = unsafe { CpuBlock::thread_word(block.cast()) };
        // SAFETY: as above.
        let thread = unsafe { thread.read() };
        // The other CPUs get their block when they start, so this is the booting CPU. Its first block only
        // counts sections; the kernel can take an interrupt once there is a thread to interrupt.
        if !thread.is_null() {
            console::enable_input();
            interrupts::enable();
        }
    }

    fn send_ipi(&self, cpu: usize) {
        apic::send_interrupt(cpu::apic_id(cpu), traps::vector::IPI);
    }

    fn idle(&self, may_sleep: &dyn Fn() -> bool) {
        interrupts::disable();
        if may_sleep() {
            tlb::fall_asleep();
            // Interrupts come on one instruction late, so none can arrive before the CPU halts.
            interrupts::enable_and_hlt();
            // A CPU may continue without an interrupt whose handler would have done this (seen on QEMU 7.2).
            interrupts::without_interrupts(tlb::wake_up);
        } else {
            interrupts::enable();
        }
    }

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn set_timer(&self, deadline_ns: u64) {
        clock::set_deadline(deadline_ns);
    }

    fn now_ns(&self) -> u64 {
        clock::now_ns()
    }

    fn tsc_hz(&self) -> u64 {
        clock::tsc_hz()
    }

    fn pci_functions(&self, visit: &mut dyn FnMut(&'static dyn PciFunction)) {
        functions::all().for_each(visit);
    }

    fn console_write(&self, bytes: &[u8]) -> usize {
        console::try_write(bytes)
    }

    fn console_echo(&self) -> bool {
        true
    }

    fn console_read(&self) -> Option<u8> {
        console::read()
    }

    fn exit(&self, status: ExitStatus) -> ! {
        exit::exit(status)
    }
}
