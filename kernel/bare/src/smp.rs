//! The start of further CPUs.

use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use coppice_kernel::machine::CpuStart;
use coppice_kernel::machine::PAGE_SIZE;
use crossbeam_utils::Backoff;
use spin::Mutex;
use x86_64::instructions::interrupts;

use crate::{apic, clock, cpu, tlb, traps};

/// The stack of the starting CPU, for entry.s.
#[unsafe(no_mangle)]
static AP_STACK: AtomicUsize = AtomicUsize::new(0);

/// The order for the starting CPU, which takes it.
static NEXT: Mutex<Option<CpuStart>> = Mutex::new(None);

/// The start page of CPUs, below 1 MiB.
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);

/// Copies the start code of CPUs to `page`.
///
/// # Safety
/// `page` is a writable page of memory below 1 MiB, which the caller gives away for good.
pub(crate) unsafe fn place_trampoline(page: u64) {
    unsafe extern "C" {
        static ap_trampoline: u8;
        static ap_trampoline_end: u8;
    }
    let code = &raw const ap_trampoline;
    let len = (&raw const ap_trampoline_end).addr() - code.addr();
    assert!(len <= PAGE_SIZE, "the trampoline has to fit a page");
    // SAFETY: the code lies between the two symbols of entry.s; the page was given away by the caller.
    unsafe { ptr::copy_nonoverlapping(code, ptr::with_exposed_provenance_mut(page as usize), len) };
    TRAMPOLINE.store(page, Ordering::Relaxed);
}

/// Implements [`coppice_kernel::machine::Machine::start_cpu`]; returns when the CPU runs on its stack.
///
/// # Panics
/// If the CPU does not start within a second: the kernel depends on it.
pub(crate) fn start(start: CpuStart) {
    // A reset CPU is ready at once since the P6; only earlier ones needed the 10 ms of the MultiProcessor
    // Specification (section B.4).
    const RESET_NS: u64 = 100_000;
    const ATTEMPT_NS: u64 = 1_000_000;
    const ATTEMPTS: usize = 1000;

    let apic_id = cpu::apic_id(start.cpu);
    AP_STACK.store(start.stack_top, Ordering::SeqCst);
    *NEXT.lock() = Some(start);
    apic::send_init(apic_id);
    clock::wait_ns(RESET_NS);
    for _ in 0..ATTEMPTS {
        // A repeated message is harmless: a running CPU ignores it.
        apic::send_startup(apic_id, TRAMPOLINE.load(Ordering::Relaxed));
        let end = clock::now_ns() + ATTEMPT_NS;
        let backoff = Backoff::new();
        while clock::now_ns() < end {
            if NEXT.lock().is_none() {
                return;
            }
            backoff.spin();
        }
    }
    panic!("CPU {} (APIC id {apic_id}) does not start", start.cpu);
}

/// Resets a CPU that [`start`] started.
pub(crate) fn stop(cpu: usize) {
    apic::send_init(cpu::apic_id(cpu));
    tlb::leave(cpu);
}

/// The entry from entry.s on a starting CPU, on the stack from [`start`], with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn start_ap() -> ! {
    let start = NEXT.lock().take().expect("only `start` starts CPUs, one at a time");
    // SAFETY: `start` has sent this CPU here, whose number it is, and no other.
    unsafe { cpu::load_tables(start.cpu) };
    traps::load();
    apic::enable();
    cpu::attach(start.block);
    tlb::join();
    interrupts::enable();
    (start.enter)()
}
