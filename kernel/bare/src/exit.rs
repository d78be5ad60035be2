//! The end of the machine: an exit status for QEMU, then power-off, then halt.

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

/// Sets the way in which [`exit`] switches the power off.
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
    // SAFETY: the port belongs to QEMU's device, and to none on a PC.
    unsafe { debug_exit.write(code) };
    if let Some(power_off) = POWER_OFF.get() {
        enter_s5(power_off);
    }
    loop {
        hlt();
    }
}

/// Enters S5 (ACPI specification 6.4, section 16.1.7; the registers: section 4.8.3).
fn enter_s5(power_off: &PowerOff) {
    const ACPI_IS_ON: u16 = 1;
    const SLEEP_ENABLE: u16 = 1 << 13;
    /// A read of a port takes about a microsecond, and firmware may need long to switch ACPI on.
    const POLL_LIMIT: usize = 1_000_000;

    let mut pm1a = Port::<u16>::new(power_off.pm1a);
    // SAFETY: the FADT describes the port as the PM1a control register; reading it changes nothing.
    let mut is_on = || unsafe { pm1a.read() } & ACPI_IS_ON != 0;
    if let Some((port, value)) = power_off.enable
        && !is_on()
    {
        let mut command = Port::new(port);
        // SAFETY: according to the FADT this value, written there, switches ACPI on.
        unsafe { command.write(value) };
        let _ = (0..POLL_LIMIT).any(|_| is_on());
    }
    for (port, sleep_type) in [Some(power_off.pm1a), power_off.pm1b].into_iter().zip(power_off.sleep_type) {
        if let Some(port) = port {
            let mut control = Port::new(port);
            // SAFETY: the FADT describes the port as a PM1 control register; the value ends all running code,
            // as the caller requests.
            unsafe { control.write(u16::from(sleep_type) << 10 | SLEEP_ENABLE) };
        }
    }
}

/// Ends a boot that cannot continue, with the reason.
pub(crate) fn refuse(reason: fmt::Arguments<'_>) -> ! {
    console::print_line(reason);
    exit(ExitStatus::Failure)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);
    interrupts::disable();
    // A panic during the output of another is not printed.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        coppice_kernel::last_words(&mut console::write_last);
        console::print_last_line(format_args!("kernel {info}"));
    }
    exit(ExitStatus::KernelPanic)
}
