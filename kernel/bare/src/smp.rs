//! Further CPUs: how they come into the kernel.

use core::ptr;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use coppice_kernel::machine::CpuStart;
use coppice_kernel::machine::PAGE_SIZE;
use spin::Mutex;
use x86_64::instructions::interrupts;

use crate::{apic, clock, cpu, tlb, traps};

/// Where entry.s finds a stack for the CPU that starts.
#[unsafe(no_mangle)]
static AP_STACK: AtomicUsize = AtomicUsize::new(0);

/// What the CPU that starts shall do; it takes it.
static NEXT: Mutex<Option<CpuStart>> = Mutex::new(None);

/// The page below 1 MiB where CPUs start.
static TRAMPOLINE: AtomicU64 = AtomicU64::new(0);

/// Copies the code that a CPU starts with to `page`.
///
/// # Safety
/// `page` is a writable page of memory below 1 MiB, and the caller gives it away for good.
pub(crate) unsafe fn place_trampoline(page: u64) {
    unsafe extern "C" {
        static ap_trampoline: u8;
        static ap_trampoline_end: u8;
    }
    let code = &raw const ap_trampoline;
    let len = (&raw const ap_trampoline_end).addr() - code.addr();
    assert!(len <= PAGE_SIZE, "the trampoline has to fit a page");
    // SAFETY: the code lies between the two symbols of entry.s; the page is the caller's gift.
    unsafe { ptr::copy_nonoverlapping(code, ptr::with_exposed_provenance_mut(page as usize), len) };
    TRAMPOLINE.store(page, Ordering::Relaxed);
}

/// [`coppice_kernel::machine::Machine::start_cpu`]; comes back when the CPU has taken over its stack.
///
/// # Panics
/// If the CPU does not answer within a second: the kernel counts on it.
pub(crate) fn start(start: CpuStart) {
    // A reset CPU is ready at once since the P6; only its forerunners needed the 10 ms of the MultiProcessor
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
        // A further one does no harm: a CPU that runs ignores it.
        apic::send_startup(apic_id, TRAMPOLINE.load(Ordering::Relaxed));
        let end = clock::now_ns() + ATTEMPT_NS;
        while clock::now_ns() < end {
            if NEXT.lock().is_none() {
                return;
            }
            core::hint::spin_loop();
        }
    }
    panic!("CPU {} (APIC id {apic_id}) does not start", start.cpu);
}

/// Puts a CPU that [`start`] started back to where it was before.
pub(crate) fn stop(cpu: usize) {
    apic::send_init(cpu::apic_id(cpu));
    tlb::part(cpu);
}

/// Called by entry.s on a CPU that starts, on the stack that [`start`] gave it, with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn start_ap() -> ! {
    let start = NEXT.lock().take().expect("only `start` starts CPUs, one at a time");
    // SAFETY: `start` has sent the CPU of that number here, and no other.
    unsafe { cpu::load_tables(start.cpu) };
    traps::load();
    apic::enable();
    cpu::attach(start.block);
    tlb::join();
    interrupts::enable();
    (start.enter)()
}
