//! Access to PCI configuration space: through memory windows (ECAM) if the firmware lists them in the MCFG,
//! else through the legacy ports, which reach less of it.

use core::ops::RangeInclusive;
use core::ptr;

use arrayvec::ArrayVec;
use coppice_bare::acpi::{Ecam, Platform};
use coppice_bare::pci::{self, Function};
use pci_types::{ConfigRegionAccess, PciAddress};
use x86_64::instructions::port::Port;

use crate::lock::IrqLock;
use crate::paging::{self, MapError};

/// Bytes of configuration space per bus in ECAM.
const BUS_SIZE: u64 = 1 << 20;

/// The address port and the data port. Their shared state is the address that the data port refers to.
static PORTS: IrqLock<(Port<u32>, Port<u32>)> = IrqLock::new((Port::new(0xcf8), Port::new(0xcfc)));

/// Configuration space of all functions.
///
/// # Invariants
/// - **E1** Each window is mapped for all of its buses.
pub(crate) struct ConfigSpace {
    windows: ArrayVec<Ecam, 4>,
}

impl ConfigSpace {
    /// Maps the windows that the firmware lists.
    pub(crate) fn new(platform: &Platform) -> Result<Self, MapError> {
        for window in &platform.ecam {
            let buses = u64::from(window.last_bus) + 1 - u64::from(window.first_bus);
            paging::map_device(window.address + u64::from(window.first_bus) * BUS_SIZE, buses * BUS_SIZE)?;
        }
        Ok(Self { windows: platform.ecam.clone() })
    }

    /// Calls `visit` with each function that exists.
    pub(crate) fn functions(&self, visit: &mut impl FnMut(Function)) {
        if self.windows.is_empty() {
            pci::enumerate(self, 0, 0..=255, visit);
        }
        for window in &self.windows {
            pci::enumerate(self, window.segment, buses(window), visit);
        }
    }

    /// Returns the address of a register in a window, if one covers it.
    fn mapped(&self, address: PciAddress, offset: u16) -> Option<*mut u32> {
        let covers =
            |window: &&Ecam| window.segment == address.segment() && buses(window).contains(&address.bus());
        let window = self.windows.iter().find(covers)?;
        let function = u64::from(address.device()) << 3 | u64::from(address.function());
        let at = window.address
            + u64::from(address.bus()) * BUS_SIZE
            + function * 0x1000
            + u64::from(offset & 0xffc);
        Some(ptr::with_exposed_provenance_mut(at as usize))
    }
}

fn buses(window: &Ecam) -> RangeInclusive<u8> {
    window.first_bus..=window.last_bus
}

/// Returns the address port's value for a register (PCI Local Bus Specification 3.0, section 3.2.2.3.2); the
/// ports reach one segment and 256 bytes of each function.
fn port_address(address: PciAddress, offset: u16) -> Option<u32> {
    const ENABLE: u32 = 1 << 31;
    let function = u32::from(address.bus()) << 16
        | u32::from(address.device()) << 11
        | u32::from(address.function()) << 8;
    (address.segment() == 0 && offset < 0x100).then_some(ENABLE | function | u32::from(offset & 0xfc))
}

impl ConfigRegionAccess for ConfigSpace {
    unsafe fn read(&self, address: PciAddress, offset: u16) -> u32 {
        if let Some(register) = self.mapped(address, offset) {
            // SAFETY: E1; reading configuration space has no effect beyond the function, for which the caller
            // is responsible.
            return unsafe { register.read_volatile() };
        }
        let Some(select) = port_address(address, offset) else { return u32::MAX };
        PORTS.with(|(selector, data)| {
            // SAFETY: only selects the target of the other port; the lock keeps other CPUs from selecting
            // another.
            unsafe { selector.write(select) };
            // SAFETY: as for a window.
            unsafe { data.read() }
        })
    }

    unsafe fn write(&self, address: PciAddress, offset: u16, value: u32) {
        if let Some(register) = self.mapped(address, offset) {
            // SAFETY: E1; the caller is responsible for the effect of the write.
            return unsafe { register.write_volatile(value) };
        }
        let Some(select) = port_address(address, offset) else { return };
        PORTS.with(|(selector, data)| {
            // SAFETY: only selects the target of the other port; the lock keeps other CPUs from selecting
            // another.
            unsafe { selector.write(select) };
            // SAFETY: the caller is responsible for the effect of the write.
            unsafe { data.write(value) };
        });
    }
}
