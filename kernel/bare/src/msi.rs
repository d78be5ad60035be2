//! Message-signalled interrupts: a device's write to the address that makes the local APIC of one CPU raise a
//! vector (Intel SDM volume 3, section 10.11).

use core::fmt;

use coppice_bare::pci::Function;
use pci_types::capability::MultipleMessageSupport;
use pci_types::{Bar, CommandRegister, PciHeader};

use crate::config_space::ConfigSpace;
use crate::paging::{self, MapError};

/// Which vector on which CPU.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) apic_id: u8,
    pub(crate) vector: u8,
}

impl Target {
    /// Fixed delivery, edge-triggered, to one CPU.
    fn address(self) -> u64 {
        0xfee0_0000 | u64::from(self.apic_id) << 12
    }

    fn data(self) -> u32 {
        self.vector.into()
    }
}

/// Why a function cannot be told where to send its interrupts.
#[derive(Debug)]
pub(crate) enum MsiError {
    /// It lacks the capability.
    NotCapable,
    /// Its MSI-X table is in no memory BAR.
    NoTable { bar: u8 },
    /// Its MSI-X table has fewer entries.
    NoEntry { entry: u16, count: u16 },
    /// Its MSI-X table cannot be mapped.
    Map(MapError),
}

impl fmt::Display for MsiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCapable => f.write_str("the function lacks the capability"),
            Self::NoTable { bar } => {
                write!(f, "the MSI-X table is said to be in BAR{bar}, which is no memory")
            }
            Self::NoEntry { entry, count } => write!(f, "entry {entry} of an MSI-X table of {count}"),
            Self::Map(error) => error.fmt(f),
        }
    }
}

/// Makes the function send its one MSI to `target`.
pub(crate) fn enable_msi(config: &ConfigSpace, function: &Function, target: Target) -> Result<(), MsiError> {
    let msi = function.msi.ok_or(MsiError::NotCapable)?;
    msi.set_enabled(false, config);
    msi.set_message_info(target.address(), target.data(), config);
    msi.set_multiple_message_enable(MultipleMessageSupport::Int1, config);
    msi.set_enabled(true, config);
    let_it_write(config, function);
    Ok(())
}

/// Makes the function send interrupt `entry` of its MSI-X table to `target`.
pub(crate) fn enable_msix(
    config: &ConfigSpace,
    function: &Function,
    entry: u16,
    target: Target,
) -> Result<(), MsiError> {
    /// An entry: address, its upper half, data, control (PCI Local Bus Specification 3.0, section 6.8.2).
    const ENTRY_SIZE: u64 = 16;

    let mut msix = function.msix.ok_or(MsiError::NotCapable)?;
    if entry >= msix.table_size() {
        return Err(MsiError::NoEntry { entry, count: msix.table_size() });
    }
    let bar = msix.table_bar();
    let base = match function.bars.get(usize::from(bar)) {
        Some(Some(Bar::Memory32 { address, .. })) => u64::from(*address),
        Some(Some(Bar::Memory64 { address, .. })) => *address,
        _ => return Err(MsiError::NoTable { bar }),
    };
    let at = base + u64::from(msix.table_offset()) + u64::from(entry) * ENTRY_SIZE;
    let words = paging::map_device(at, ENTRY_SIZE).map_err(MsiError::Map)?.cast::<u32>();

    // The table answers only once the function decodes its BARs.
    let_it_write(config, function);
    msix.set_function_mask(true, config);
    msix.set_enabled(true, config);
    let address = target.address();
    for (i, word) in [address as u32, (address >> 32) as u32, target.data(), 0].into_iter().enumerate() {
        // SAFETY: the entry's four words were mapped just now; what the device then writes goes to a local APIC.
        unsafe { words.wrapping_add(i).write_volatile(word) };
    }
    msix.set_function_mask(false, config);
    Ok(())
}

/// A message is a write of the function's own, so it has to be a bus master.
fn let_it_write(config: &ConfigSpace, function: &Function) {
    PciHeader::new(function.address).update_command(config, |command| {
        command | CommandRegister::MEMORY_ENABLE | CommandRegister::BUS_MASTER_ENABLE
    });
}
