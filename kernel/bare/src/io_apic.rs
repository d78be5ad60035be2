//! Wired interrupts: the I/O APIC (Intel 82093AA datasheet), and its predecessor, the 8259, which is
//! disabled.

use coppice_bare::acpi::{Override, Platform};
use x86_64::instructions::port::Port;

use crate::paging::{self, MapError};
use crate::traps::vector;

/// Masks the two 8259, after moving them away from the vectors of exceptions: even masked inputs can raise a
/// spurious interrupt (Intel 8259A datasheet, "initialization command words").
pub(crate) fn disable_8259() {
    let write = |port, value: u8| {
        let mut port = Port::new(port);
        // SAFETY: these four ports are the 8259s' on every PC, and the sequence leaves all inputs masked.
        unsafe { port.write(value) };
    };
    for (command, data, first_vector, wiring) in
        [(0x20, 0x21, vector::LEGACY, 4), (0xa0, 0xa1, vector::LEGACY + 8, 2)]
    {
        for (port, value) in [(command, 0x11), (data, first_vector), (data, wiring), (data, 1), (data, 0xff)]
        {
            write(port, value);
        }
    }
}

/// The registers of one I/O APIC: one selects a register, the other accesses it.
///
/// # Invariants
/// - **A1** Both are mapped.
struct IoApic {
    registers: *mut u8,
}

impl IoApic {
    const SELECT: usize = 0;
    const WINDOW: usize = 0x10;
    const VERSION: u32 = 1;
    /// Two registers for each input; the lower half comes first.
    const ENTRIES: u32 = 0x10;
    const MASKED: u32 = 1 << 16;

    fn map(address: u32) -> Result<Self, MapError> {
        Ok(Self { registers: paging::map_device(address.into(), 0x20)? })
    }

    fn window(&self, index: u32) -> *mut u32 {
        // SAFETY: A1; the register only selects another one.
        unsafe { self.registers.wrapping_add(Self::SELECT).cast::<u32>().write_volatile(index) };
        self.registers.wrapping_add(Self::WINDOW).cast()
    }

    fn last_input(&self) -> u32 {
        // SAFETY: A1; reading the version changes nothing.
        let version = unsafe { self.window(Self::VERSION).read_volatile() };
        version >> 16 & 0xff
    }

    fn set(&self, input: u32, low: u32, high: u32) {
        // Masked while the halves do not match.
        for (half, value) in [(0, Self::MASKED), (1, high), (0, low)] {
            let register = self.window(Self::ENTRIES + 2 * input + half);
            // SAFETY: A1; the only effect of an entry is to raise an interrupt.
            unsafe { register.write_volatile(value) };
        }
    }
}

/// Masks all inputs, including those that the firmware used, except ISA interrupt `irq`, which is routed to
/// `vector` of the CPU with that APIC id. Returns true if an I/O APIC has `irq` as an input.
pub(crate) fn route_only(platform: &Platform, irq: u8, vector: u8, apic_id: u8) -> Result<bool, MapError> {
    let one_to_one = Override { irq, gsi: irq.into(), active_low: false, level: false };
    let wire = platform.overrides.iter().find(|wire| wire.irq == irq).copied().unwrap_or(one_to_one);
    let entry = u32::from(vector) | u32::from(wire.active_low) << 13 | u32::from(wire.level) << 15;
    let mut routed = false;
    for found in &platform.io_apics {
        let io_apic = IoApic::map(found.address)?;
        for input in 0..=io_apic.last_input() {
            if found.first_gsi + input == wire.gsi {
                io_apic.set(input, entry, u32::from(apic_id) << 24);
                routed = true;
            } else {
                io_apic.set(input, IoApic::MASKED, 0);
            }
        }
    }
    Ok(routed)
}
