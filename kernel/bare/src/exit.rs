//! How the machine stops: an exit status for QEMU, then the power, then nothing.

use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_bare::acpi::PowerOff;
use coppice_kernel::machine::ExitStatus;
use spin::Once;
use x86_64::instructions::port::Port;
use x86_64::instructions::{hlt, interrupts};

use crate::console;

/// QEMU's `-device isa-debug-exit,iobase=0xf4,iosize=4`: a write of `n` ends QEMU with status `2n + 1`.
const DEBUG_EXIT: u16 = 0xf4;

static POWER_OFF: Once<PowerOff> = Once::new();

/// Says how [`exit`] can switch the power off.
pub(crate) fn set_power_off(power_off: PowerOff) {
    POWER_OFF.call_once(|| power_off);
}

/// Ends the system.
pub(crate) fn exit(status: ExitStatus) -> ! {
    interrupts::disable();
    console::drain();
    let code: u32 = match status {
        ExitStatus::Success => 0x10,
        ExitStatus::Failure => 0x11,
        ExitStatus::KernelPanic => 0x12,
    };
    let mut debug_exit = Port::new(DEBUG_EXIT);
    // SAFETY: the port is QEMU's, and on a PC without that device nobody's.
    unsafe { debug_exit.write(code) };
    if let Some(power_off) = POWER_OFF.get() {
        enter_s5(power_off);
    }
    loop {
        hlt();
    }
}

/// ACPI specification 6.4, section 16.1.7; the registers: section 4.8.3.
fn enter_s5(power_off: &PowerOff) {
    const ACPI_IS_ON: u16 = 1;
    const SLEEP_ENABLE: u16 = 1 << 13;
    /// Reads of a port take about a microsecond, and firmware may take its time to switch ACPI on.
    const PATIENCE: usize = 1_000_000;

    let mut pm1a = Port::<u16>::new(power_off.pm1a);
    // SAFETY: the FADT says that this is the PM1a control register; reading it changes nothing.
    let mut is_on = || unsafe { pm1a.read() } & ACPI_IS_ON != 0;
    if let Some((port, value)) = power_off.enable
        && !is_on()
    {
        let mut command = Port::new(port);
        // SAFETY: the FADT says that this value, written there, switches ACPI on.
        unsafe { command.write(value) };
        let _ = (0..PATIENCE).any(|_| is_on());
    }
    for (port, sleep_type) in [Some(power_off.pm1a), power_off.pm1b].into_iter().zip(power_off.sleep_type) {
        if let Some(port) = port {
            let mut control = Port::new(port);
            // SAFETY: the FADT says that this is a PM1 control register; the value ends all that runs, which is
            // what the caller wants.
            unsafe { control.write(u16::from(sleep_type) << 10 | SLEEP_ENABLE) };
        }
    }
}

/// Ends a boot that cannot go on, with the reason.
pub(crate) fn refuse(reason: fmt::Arguments<'_>) -> ! {
    console::print_line(reason);
    exit(ExitStatus::Failure)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    interrupts::disable();
    // A panic while one is being printed has nothing to add.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        coppice_kernel::last_records(&mut |record| {
            console::print_last_line(format_args!("kernel: {record}"))
        });
        console::print_last_line(format_args!("kernel {info}"));
    }
    exit(ExitStatus::KernelPanic)
}
