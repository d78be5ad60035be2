//! Per-CPU state: trap stacks, GDT and TSS, and the CPU's number.

use core::arch::asm;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

use coppice_abi::crossing::CpuBlock;
use coppice_kernel::machine::{CPU_LIMIT, PAGE_SIZE, Protection};
use x86_64::VirtAddr;
use x86_64::instructions::tables::load_tss;
use x86_64::registers::model_specific::GsBase;
use x86_64::registers::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;

use crate::paging;

/// The kernel's code segment, in the GDT of entry.s as in all others.
pub(crate) const CODE_SELECTOR: u16 = 0x08;

/// The stack of a trap: an index into the TSS's interrupt stack table. Compiled code keeps live data below
/// its stack pointer (the red zone), so no trap may run on the stack that it interrupts.
#[derive(Clone, Copy)]
pub(crate) enum TrapStack {
    /// Interrupts. Their handlers run with interrupts off, so one stack suffices.
    Interrupt,
    /// Exceptions. A separate stack, because a bug in an interrupt handler raises them too.
    Fault,
    /// #NMI, which can come at any time.
    Nmi,
    /// #DF, which reports a broken stack.
    DoubleFault,
    /// #MC, which can come at any time.
    MachineCheck,
}

const STACK_SIZES: [usize; 5] = [0x4000, 0x4000, 0x2000, 0x2000, 0x2000];

/// Descriptor tables of one CPU, in a page in front of its stacks.
struct Tables {
    gdt: GlobalDescriptorTable,
    tss: TaskStateSegment,
}

/// Bytes that [`prepare`] requires for each CPU: its tables, and the trap stacks, each above a guard page.
pub(crate) const AREA_SIZE: usize = {
    assert!(size_of::<Tables>() <= PAGE_SIZE);
    let mut size = PAGE_SIZE;
    let mut i = 0;
    while i < STACK_SIZES.len() {
        size += PAGE_SIZE + STACK_SIZES[i];
        i += 1;
    }
    size
};

static COUNT: AtomicUsize = AtomicUsize::new(0);
static APIC_IDS: [AtomicU32; CPU_LIMIT] = [const { AtomicU32::new(0) }; CPU_LIMIT];
static TABLES: [AtomicPtr<Tables>; CPU_LIMIT] = [const { AtomicPtr::new(ptr::null_mut()) }; CPU_LIMIT];

/// Adds the CPU with that APIC id, which gets the next number.
///
/// # Safety
/// `area` is [`AREA_SIZE`] bytes of mapped memory, page-aligned, which the caller gives away for good.
pub(crate) unsafe fn prepare(apic_id: u32, area: u64) {
    let mut at = area as usize + PAGE_SIZE;
    let mut tss = TaskStateSegment::new();
    let mut stacks = tss.interrupt_stack_table;
    for (stack, size) in stacks.iter_mut().zip(STACK_SIZES) {
        paging::protect(at, PAGE_SIZE, Protection::None);
        at += PAGE_SIZE + size;
        *stack = VirtAddr::new(at as u64);
    }
    tss.interrupt_stack_table = stacks;
    let tables = ptr::with_exposed_provenance_mut::<Tables>(area as usize);
    // SAFETY: the area starts with a page for the tables and belongs to this function, by the caller's
    // promise.
    unsafe { tables.write(Tables { gdt: GlobalDescriptorTable::new(), tss }) };

    let cpu = COUNT.load(Ordering::Relaxed);
    APIC_IDS[cpu].store(apic_id, Ordering::Relaxed);
    TABLES[cpu].store(tables, Ordering::Release);
    COUNT.store(cpu + 1, Ordering::Release);
}

/// Loads the GDT and TSS of CPU `cpu` on the calling CPU.
///
/// # Safety
/// The caller is CPU `cpu`, which does not use its tables yet.
pub(crate) unsafe fn load_tables(cpu: usize) {
    let tables = TABLES[cpu].load(Ordering::Acquire);
    // SAFETY: `prepare` wrote it, in memory that is never taken back, and only this CPU changes it.
    let Tables { gdt, tss } = unsafe { &mut *tables };
    // Made again each time: a CPU that is restarted would find its TSS marked as busy.
    *gdt = GlobalDescriptorTable::new();
    gdt.append(Descriptor::kernel_code_segment());
    gdt.append(Descriptor::kernel_data_segment());
    gdt.append(Descriptor::tss_segment(tss));
    gdt.load();
    let data = SegmentSelector(0x10);
    // SAFETY: selector 0x08 is the kernel's code in this GDT as in the one before.
    unsafe { CS::set_reg(SegmentSelector(CODE_SELECTOR)) };
    // SAFETY: selector 0x10 is the kernel's data in this GDT as in the one before.
    unsafe { SS::set_reg(data) };
    // SAFETY: as above.
    unsafe { DS::set_reg(data) };
    // SAFETY: as above.
    unsafe { ES::set_reg(data) };
    // SAFETY: `prepare` put the TSS's descriptor there, and no other CPU loads it.
    unsafe { load_tss(SegmentSelector(0x18)) };
}

/// Returns the number of CPUs.
pub(crate) fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// Returns the APIC id of CPU `cpu`.
pub(crate) fn apic_id(cpu: usize) -> u32 {
    APIC_IDS[cpu].load(Ordering::Relaxed)
}

/// Gives the calling CPU its block, which holds its number.
pub(crate) fn attach(block: *mut u8) {
    GsBase::write(VirtAddr::from_ptr(block));
}

/// Returns true if this CPU has a block. Without one the kernel cannot handle its traps.
pub(crate) fn is_attached() -> bool {
    !GsBase::read().is_null()
}

/// Returns the number of the calling CPU, which must have a block. With interrupts on, the caller may move
/// before it uses the number.
pub(crate) fn this() -> usize {
    let cpu: u32;
    // SAFETY: `gs` is this CPU's block, which starts with a `CpuBlock` (contract of
    // `Machine::set_cpu_block`).
    unsafe {
        asm!("mov {:e}, gs:[{offset}]", out(reg) cpu, offset = const CpuBlock::CPU,
            options(nostack, preserves_flags, readonly));
    }
    cpu as usize
}
