//! `probe=interrupts` on the command line: lists all PCI functions and checks that MSI and MSI-X arrive, on
//! each CPU in turn, before the kernel is entered.
//!
//! It requires a device that interrupts on command: QEMU's `-device edu` for MSI, `-device e1000e` for MSI-X.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::mem::offset_of;
use core::ptr;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use coppice_abi::crossing::CpuBlock;
use coppice_bare::acpi::Platform;
use coppice_bare::pci::Function;
use coppice_kernel::machine::CpuStart;
use pci_types::{Bar, CommandRegister, PciHeader};
use x86_64::instructions::{hlt, interrupts};

use crate::config_space::ConfigSpace;
use crate::console::say;
use crate::msi::{self, MsiError, MsiTarget};
use crate::traps::vector;
use crate::{apic, clock, cpu, paging, smp};

/// An interrupt to test.
struct Case {
    name: &'static str,
    /// Vendor and device id.
    id: (u16, u16),
    route: fn(&ConfigSpace, &Function, MsiTarget) -> Result<(), MsiError>,
    /// Registers in BAR 0 to read (`None`) or write, in order, to raise one interrupt.
    raise: &'static [(usize, Option<u32>)],
    /// Registers to read or write, as in `raise`, to make the device ready for the next interrupt.
    acknowledge: &'static [(usize, Option<u32>)],
}

const CASES: [Case; 2] = [
    // QEMU, docs/specs/edu.txt: 0x60 raises, 0x64 acknowledges.
    Case {
        name: "MSI from edu",
        id: (0x1234, 0x11e8),
        route: msi::enable_msi,
        raise: &[(0x60, Some(1))],
        acknowledge: &[(0x64, Some(1))],
    },
    // Intel 82574 datasheet, section 10.2.4: IVAR maps cause RxQ0 to entry 0, IMS enables it, ICS raises it;
    // ICR (section 10.2.4.1) is cleared by reading it.
    Case {
        name: "MSI-X from e1000e",
        id: (0x8086, 0x10d3),
        route: |config, function, target| msi::enable_msix(config, function, 0, target),
        raise: &[(0xe4, Some(0x8)), (0xd0, Some(1 << 20)), (0xc8, Some(1 << 20))],
        acknowledge: &[(0xd8, Some(u32::MAX)), (0xc0, None)],
    },
];

const REGISTERS_SIZE: u64 = 0x1000;

/// Time for timers of devices to expire.
const SETTLE_NS: u64 = 100_000_000;

static ARRIVALS: AtomicUsize = AtomicUsize::new(0);
static ARRIVED_AT: AtomicU32 = AtomicU32::new(0);

/// The handler of [`vector::PROBE`].
pub(crate) fn arrived() {
    ARRIVED_AT.store(apic::id(), Ordering::Relaxed);
    ARRIVALS.fetch_add(1, Ordering::Release);
}

/// Runs the probe. Interrupts are off before and after.
pub(crate) fn run(platform: &Platform) {
    let config = match ConfigSpace::new(platform) {
        Ok(config) => config,
        Err(error) => return say!("probe: FAILED, PCI configuration space: {error}"),
    };
    say!("probe: PCI through {}", if platform.ecam.is_empty() { "ports" } else { "ECAM" });
    config.functions(&mut |function| {
        say!("probe: {function}");
        for case in CASES.iter().filter(|case| case.id == function.id) {
            for cpu in 0..cpu::count() {
                match interrupt(case, &config, &function, cpu) {
                    Ok(()) => say!("probe: ok, {} arrives at CPU {cpu}", case.name),
                    Err(problem) => say!("probe: FAILED, {} at CPU {cpu}: {problem}", case.name),
                }
            }
        }
    });
    // The next code turns MSI-X off, and QEMU's e1000e fails an assertion (`msix_enabled`, 7.2) if that is
    // before the end of its timer that spaces interrupts by 128 us. The host may be late with timers.
    clock::wait_ns(SETTLE_NS);
}

/// Raises the interrupt once and checks that it arrives at `cpu` only.
fn interrupt(case: &Case, config: &ConfigSpace, function: &Function, cpu: usize) -> Result<(), Problem> {
    const TIMEOUT_NS: u64 = 500_000_000;

    let apic_id = u8::try_from(cpu::apic_id(cpu)).map_err(|_| Problem::ApicIdTooLarge)?;
    let registers = match function.bars[0] {
        Some(Bar::Memory32 { address, .. }) => paging::map_device(address.into(), REGISTERS_SIZE),
        Some(Bar::Memory64 { address, .. }) => paging::map_device(address, REGISTERS_SIZE),
        _ => return Err(Problem::NoRegisters),
    };
    let registers = registers.map_err(|error| Problem::Msi(MsiError::Map(error)))?;
    enable_bus_master(config, function);
    (case.route)(config, function, MsiTarget { apic_id, vector: vector::PROBE }).map_err(Problem::Msi)?;

    if cpu != 0 {
        start_waiting(cpu);
    }
    let before = ARRIVALS.load(Ordering::Acquire);
    access(registers, case.raise);
    let end = clock::now_ns() + TIMEOUT_NS;
    while ARRIVALS.load(Ordering::Acquire) == before && clock::now_ns() < end {
        if cpu == 0 {
            interrupts::enable();
        }
        spin_loop();
        interrupts::disable();
    }
    let count = ARRIVALS.load(Ordering::Acquire) - before;
    access(registers, case.acknowledge);
    if cpu != 0 {
        smp::stop(cpu);
    }
    match (count, ARRIVED_AT.load(Ordering::Relaxed)) {
        (0, _) => Err(Problem::NothingArrived),
        (1, at) if at == u32::from(apic_id) => Ok(()),
        (count, at) => Err(Problem::Misrouted { count, at }),
    }
}

/// Enables bus mastering, because a message is a write of the function.
fn enable_bus_master(config: &ConfigSpace, function: &Function) {
    PciHeader::new(function.address).update_command(config, |command| {
        command | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE
    });
}

fn access(registers: *mut u8, steps: &[(usize, Option<u32>)]) {
    for &(offset, value) in steps {
        let register = registers.wrapping_add(offset).cast::<u32>();
        match value {
            // SAFETY: a register of the device under test, mapped by the caller; it only affects interrupts.
            Some(value) => unsafe { register.write_volatile(value) },
            None => {
                // SAFETY: as above.
                let _ = unsafe { register.read_volatile() };
            }
        }
    }
}

#[derive(Debug)]
enum Problem {
    NoRegisters,
    ApicIdTooLarge,
    NothingArrived,
    Misrouted { count: usize, at: u32 },
    Msi(MsiError),
}

impl core::fmt::Display for Problem {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NoRegisters => f.write_str("BAR0 is no memory"),
            Self::ApicIdTooLarge => f.write_str("its APIC id is too large for a message"),
            Self::NothingArrived => f.write_str("nothing arrived within 0.5 s"),
            Self::Misrouted { count, at } => write!(f, "{count} arrived, the last at APIC id {at}"),
            Self::Msi(error) => error.fmt(f),
        }
    }
}

/// Starts another CPU, which waits for interrupts until [`smp::stop`].
fn start_waiting(cpu: usize) {
    let area = AREA.0.get();
    // SAFETY: H1: the CPU that used it before has been stopped.
    unsafe { area.write(CpuArea::new(cpu)) };
    smp::start(CpuStart {
        cpu,
        // The stack is directly below the block.
        stack_top: area.addr() + offset_of!(CpuArea, block),
        block: area.cast::<u8>().wrapping_add(offset_of!(CpuArea, block)),
        enter: wait,
    });
}

extern "C" fn wait() -> ! {
    loop {
        hlt();
    }
}

/// The memory of a CPU that runs before the kernel.
#[repr(C, align(64))]
struct CpuArea {
    stack: [u64; 2048],
    block: CpuBlock,
}

impl CpuArea {
    const fn new(cpu: usize) -> Self {
        Self {
            stack: [0; 2048],
            // SAFETY: the probe makes no crossing.
            block: unsafe { CpuBlock::new(ptr::null_mut(), 0, cpu as u32) },
        }
    }
}

/// # Invariants
/// - **H1** It is used only by the CPU that [`start_waiting`] has started and [`smp::stop`] has not stopped
///   yet.
struct Shared(UnsafeCell<CpuArea>);

static AREA: Shared = Shared(UnsafeCell::new(CpuArea::new(0)));

// SAFETY: H1.
unsafe impl Sync for Shared {}
