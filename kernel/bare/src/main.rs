//! The bare machine: an x86_64 PC, emulated by QEMU or real, as the kernel's
//! [`coppice_kernel::machine::Machine`].
//!
//! [`start`] takes the machine from the loader's state to the kernel's entry; read it first. Each of its
//! parts has a file: firmware tables (the library beside this binary), memory ([`boot_memory`], [`paging`],
//! [`tlb`]), traps ([`traps`], [`cpu`]), interrupts ([`apic`], [`io_apic`], [`msi`]), time ([`clock`]),
//! further CPUs ([`smp`]), PCI ([`config_space`], [`functions`]), the console and the end ([`console`],
//! [`mod@exit`]).

#![no_std]
#![no_main]

mod apic;
mod boot_memory;
mod clock;
mod config_space;
mod console;
mod cpu;
mod exit;
mod functions;
mod interfaces;
mod io_apic;
mod lock;
mod machine;
mod msi;
mod paging;
mod probe;
mod remote;
mod smp;
mod tlb;
mod traps;

use core::arch::global_asm;

use arrayvec::ArrayVec;
use coppice_bare::acpi::{self, Platform};
use coppice_bare::boot_info::{self, BootInfo, COMMAND_LINE_LIMIT};
use coppice_kernel::heap::KernelHeap;
use coppice_kernel::machine::CPU_LIMIT;
use spin::Once;

use crate::boot_memory::{EarlyMemory, MemoryPlan};
use crate::console::say;
use crate::exit::refuse;
use crate::machine::BareMachine;

coppice_abi::freestanding!();

global_asm!(include_str!("entry.s"), options(att_syntax));

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

static MACHINE: Once<BareMachine> = Once::new();
static COMMAND_LINE: Once<ArrayVec<u8, COMMAND_LINE_LIMIT>> = Once::new();

/// The entry from entry.s, on the boot stack, with interrupts off and the first 4 GiB mapped one to one.
#[unsafe(no_mangle)]
extern "C" fn start(magic: u32, info: u32) -> ! {
    console::init();
    cpu::attach(core::ptr::null_mut());
    io_apic::disable_8259();

    let info = boot_info::read(&EarlyMemory, magic, info.into())
        .unwrap_or_else(|error| refuse(format_args!("{error}")));
    let platform =
        acpi::read(&EarlyMemory, info.rsdp).unwrap_or_else(|error| refuse(format_args!("{error}")));
    if let Some(power_off) = platform.power_off {
        exit::set_power_off(power_off);
    }
    let BootInfo { memory, command_line, archive, .. } = info;
    let command_line = command_line_text(command_line);
    let Some(archive) = archive.filter(|archive| !archive.is_empty()) else {
        refuse(format_args!("there is no boot archive: pass it as QEMU's -initrd or as GRUB's first module2"))
    };

    let cpus = usable_cpus(&platform);
    let plan =
        MemoryPlan::new(memory, &archive, cpus.len()).unwrap_or_else(|error| refuse(format_args!("{error}")));
    plan.enter_address_space(&archive);
    apic::map().unwrap_or_else(|error| refuse(format_args!("local APIC: {error}")));
    apic::enable();
    plan.prepare_cpus(&cpus);
    // SAFETY: `prepare_cpus` gave number 0 to this CPU.
    unsafe { cpu::load_tables(0) };
    traps::load();
    clock::init(platform.pm_timer);
    route_console(&platform);

    if command_line.split_ascii_whitespace().any(|word| word == "probe=interrupts") {
        probe::run(&platform);
    }
    functions::discover(&platform);
    let machine = MACHINE.call_once(|| BareMachine {
        memory: plan.into_memory(),
        archive: boot_memory::archive_bytes(archive),
        command_line,
    });
    coppice_kernel::boot(machine, interfaces::REGISTRY)
}

/// Returns the command line, kept for good; up to the first byte that is not UTF-8.
fn command_line_text(bytes: ArrayVec<u8, COMMAND_LINE_LIMIT>) -> &'static str {
    if bytes.is_full() {
        say!("the command line is cut at {COMMAND_LINE_LIMIT} bytes");
    }
    let bytes = COMMAND_LINE.call_once(|| bytes);
    match core::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = error.valid_up_to();
            say!("the command line is cut at byte {valid}, which is not UTF-8");
            core::str::from_utf8(&bytes[..valid]).expect("valid up to there")
        }
    }
}

/// Returns the APIC ids of the CPUs to use, the booting one first.
fn usable_cpus(platform: &Platform) -> ArrayVec<u32, CPU_LIMIT> {
    let own = boot_memory::boot_apic_id();
    let mut cpus: ArrayVec<u32, CPU_LIMIT> = [own].into_iter().collect();
    let mut left_out = platform.cpus_left_out;
    let reachable = |id: u32| apic::features().x2apic || id < 0xff;
    for &id in platform.cpus.iter().filter(|&&id| id != own) {
        if !reachable(id) || cpus.try_push(id).is_err() {
            left_out += 1;
        }
    }
    if left_out > 0 {
        say!("{left_out} CPUs are left alone: the kernel is built for {CPU_LIMIT}");
    }
    cpus
}

fn route_console(platform: &Platform) {
    let vector = traps::vector::CONSOLE;
    let routed = u8::try_from(apic::id()).map(|id| io_apic::route_only(platform, console::IRQ, vector, id));
    match routed {
        Ok(Ok(true)) => {}
        Ok(Err(error)) => say!("no console input: I/O APIC: {error}"),
        Ok(Ok(false)) | Err(_) => say!("no console input: no I/O APIC takes ISA interrupt {}", console::IRQ),
    }
}
