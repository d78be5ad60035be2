//! Message-signalled interrupts: a device's write to an address at which the local APIC of a CPU raises a
//! vector (Intel SDM volume 3, section 10.11).

use core::fmt;

use coppice_bare::pci::Function;
use pci_types::Bar;
use pci_types::capability::MultipleMessageSupport;

use crate::config_space::ConfigSpace;
use crate::paging::{self, MapError};

/// The destination of an interrupt message: a vector on a CPU.
#[derive(Clone, Copy)]
pub(crate) struct MsiTarget {
    pub(crate) apic_id: u8,
    pub(crate) vector: u8,
}

impl MsiTarget {
    /// Returns the message address: fixed delivery, edge-triggered, to one CPU.
    fn address(self) -> u64 {
        0xfee0_0000 | u64::from(self.apic_id) << 12
    }

    fn data(self) -> u32 {
        self.vector.into()
    }
}

/// The reason why the messages of a function cannot be routed.
#[derive(Debug)]
pub(crate) enum MsiError {
    /// It lacks the capability.
    NotCapable,
    /// Its MSI-X table is not in a memory BAR.
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

/// Routes the function's one MSI to `target`.
pub(crate) fn enable_msi(
    config: &ConfigSpace,
    function: &Function,
    target: MsiTarget,
) -> Result<(), MsiError> {
    let msi = function.msi.ok_or(MsiError::NotCapable)?;
    msi.set_enabled(false, config);
    msi.set_message_info(target.address(), target.data(), config);
    msi.set_multiple_message_enable(MultipleMessageSupport::Int1, config);
    msi.set_enabled(true, config);
    Ok(())
}

/// Disables the function's MSI.
pub(crate) fn disable_msi(config: &ConfigSpace, function: &Function) {
    if let Some(msi) = function.msi {
        msi.set_enabled(false, config);
    }
}

/// Bytes of an entry of an MSI-X table: address, its upper half, data, control (PCI Local Bus Specification
/// 3.0, section 6.8.2).
const ENTRY_SIZE: u64 = 16;
/// Index of the control word of an entry; bit 0 masks the entry.
const CONTROL: usize = 3;
const MASKED: u32 = 1;

/// Routes interrupt `entry` of the function's MSI-X table to `target`. The function must decode its memory
/// BARs.
pub(crate) fn enable_msix(
    config: &ConfigSpace,
    function: &Function,
    entry: u16,
    target: MsiTarget,
) -> Result<(), MsiError> {
    let mut msix = function.msix.ok_or(MsiError::NotCapable)?;
    let words = msix_entry(function, entry)?;
    if !msix.enabled(config) {
        // An earlier driver of the function may have left entries open.
        msix.set_function_mask(true, config);
        msix.set_enabled(true, config);
        for other in 0..msix.table_size() {
            write_entry(msix_entry(function, other)?, CONTROL, MASKED);
        }
    }
    let address = target.address();
    write_entry(words, CONTROL, MASKED);
    for (word, value) in [address as u32, (address >> 32) as u32, target.data(), 0].into_iter().enumerate() {
        write_entry(words, word, value);
    }
    msix.set_function_mask(false, config);
    Ok(())
}

/// Masks an entry of the function's MSI-X table.
pub(crate) fn mask_msix(function: &Function, entry: u16) {
    if let Ok(words) = msix_entry(function, entry) {
        write_entry(words, CONTROL, MASKED);
    }
}

/// Disables the function's MSI-X.
pub(crate) fn disable_msix(config: &ConfigSpace, function: &Function) {
    if let Some(mut msix) = function.msix {
        msix.set_enabled(false, config);
    }
}

/// Returns the four words of an entry.
fn msix_entry(function: &Function, entry: u16) -> Result<*mut u32, MsiError> {
    let msix = function.msix.ok_or(MsiError::NotCapable)?;
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
    Ok(paging::map_device(at, ENTRY_SIZE).map_err(MsiError::Map)?.cast())
}

fn write_entry(words: *mut u32, word: usize, value: u32) {
    // SAFETY: `msix_entry` has mapped the entry's four words; the device's message then goes to a local APIC.
    unsafe { words.wrapping_add(word).write_volatile(value) };
}
