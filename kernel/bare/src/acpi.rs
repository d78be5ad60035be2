//! ACPI tables (specification 6.4, chapter 5), as far as this machine uses them: CPUs and interrupt
//! controllers (MADT), PCI's configuration space (MCFG), the PM timer and power-off (FADT, and one object of
//! the DSDT).
//!
//! Rejected: the `acpi` crate. Version 7 requires two dozen functions of its host, and its walk over the MADT
//! neither ends at an entry of length 0 nor checks an entry's length against its type.

use core::fmt;

use arrayvec::ArrayVec;

use crate::physical::{Fields, PhysicalMemory};

/// Maximum number of CPUs in [`Platform::cpus`]; more than any x86 without x2APIC can have.
pub const CPU_TABLE_LIMIT: usize = 256;

/// Memory in which firmware without UEFI places the root pointer (section 5.2.5.1).
const BIOS_AREA: core::ops::Range<u64> = 0xe_0000..0x10_0000;

/// The contents of the tables.
#[derive(Default)]
pub struct Platform {
    /// The APIC ids of the CPUs that may be used, in the firmware's order.
    pub cpus: ArrayVec<u32, CPU_TABLE_LIMIT>,
    /// CPUs beyond [`CPU_TABLE_LIMIT`].
    pub cpus_left_out: usize,
    /// The I/O APICs.
    pub io_apics: ArrayVec<IoApic, 8>,
    /// ISA interrupts that do not reach the I/O APICs one to one.
    pub overrides: ArrayVec<Override, 16>,
    /// Windows onto PCI's configuration space.
    pub ecam: ArrayVec<Ecam, 4>,
    /// The way to switch the power off.
    pub power_off: Option<PowerOff>,
    /// I/O port of the PM timer.
    pub pm_timer: Option<u16>,
}

/// An I/O APIC (section 5.2.12.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u32,
    /// The global system interrupt of its first input.
    pub first_gsi: u32,
}

/// An ISA interrupt with an unusual route (section 5.2.12.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// ISA interrupt number.
    pub irq: u8,
    /// Global system interrupt.
    pub gsi: u32,
    /// Active low.
    pub active_low: bool,
    /// Level-triggered.
    pub level: bool,
}

/// Memory-mapped PCI configuration space (PCI Firmware Specification 3.3, section 4.1.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ecam {
    /// Physical address of bus 0, even if `first_bus` is another.
    pub address: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus that it covers.
    pub first_bus: u8,
    /// Last bus that it covers.
    pub last_bus: u8,
}

/// The registers and values that enter sleep state S5 (section 4.8.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PowerOff {
    /// I/O port of the PM1a control register.
    pub pm1a: u16,
    /// I/O port of the PM1b control register, if there is one.
    pub pm1b: Option<u16>,
    /// `SLP_TYP` for each of the two.
    pub sleep_type: [u8; 2],
    /// Port and value that switch ACPI on, if the firmware requires it.
    pub enable: Option<(u16, u8)>,
}

/// The reason why the tables cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AcpiError {
    /// There is no valid root pointer.
    NoRootPointer,
    /// A table is outside the readable memory, or is truncated.
    Truncated {
        /// Name of the table.
        signature: [u8; 4],
        /// Physical address of the table.
        address: u64,
    },
    /// A table's bytes don't add up to zero.
    Checksum {
        /// Name of the table.
        signature: [u8; 4],
        /// Physical address of the table.
        address: u64,
    },
    /// The table is not listed.
    Missing {
        /// Name of the table.
        signature: [u8; 4],
    },
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRootPointer => f.write_str("ACPI: no valid root pointer (RSDP) found"),
            Self::Truncated { signature, address } => {
                write!(f, "ACPI: table {} at {address:#x} is cut short", signature.escape_ascii())
            }
            Self::Checksum { signature, address } => {
                write!(f, "ACPI: table {} at {address:#x} has a wrong checksum", signature.escape_ascii())
            }
            Self::Missing { signature } => write!(f, "ACPI: there is no table {}", signature.escape_ascii()),
        }
    }
}

/// Finds the tables and reads them. `root` is the loader's address of the root pointer.
///
/// A missing or broken FADT only costs the functions that it describes; without a MADT the CPUs cannot be
/// found.
pub fn read(memory: &impl PhysicalMemory, root: Option<u64>) -> Result<Platform, AcpiError> {
    let tables = Tables::find(memory, root)?;
    let mut platform = Platform::default();
    read_madt(tables.get(*b"APIC")?, &mut platform);
    if let Ok(mcfg) = tables.get(*b"MCFG") {
        read_mcfg(mcfg, &mut platform);
    }
    if let Ok(fadt) = tables.get(*b"FACP") {
        platform.pm_timer = fadt.u32_at(76).and_then(port);
        platform.power_off = read_power_off(memory, fadt);
    }
    Ok(platform)
}

/// The list of tables.
struct Tables<'a, M> {
    memory: &'a M,
    entries: &'a [u8],
    /// Bytes of one entry: 4 in an RSDT, 8 in an XSDT.
    entry_size: usize,
}

impl<'a, M: PhysicalMemory> Tables<'a, M> {
    fn find(memory: &'a M, root: Option<u64>) -> Result<Self, AcpiError> {
        let mut candidates = root.into_iter().chain(BIOS_AREA.step_by(16));
        let root =
            candidates.find_map(|address| root_pointer(memory, address)).ok_or(AcpiError::NoRootPointer)?;
        // Revision 0 is ACPI 1.0, which has no XSDT.
        let xsdt = if root.u8_at(15) >= Some(2) { root.u64_at(24).filter(|&at| at != 0) } else { None };
        let (entries, entry_size) = match xsdt {
            Some(address) => (table(memory, address, *b"XSDT")?, 8),
            None => {
                let address = root.u32_at(16).expect("root_pointer gives at least 20 bytes");
                (table(memory, address.into(), *b"RSDT")?, 4)
            }
        };
        Ok(Self { memory, entries: &entries[HEADER..], entry_size })
    }

    /// Returns the first table of that name.
    fn get(&self, signature: [u8; 4]) -> Result<&'a [u8], AcpiError> {
        for entry in self.entries.chunks_exact(self.entry_size) {
            let address = match self.entry_size {
                8 => entry.u64_at(0),
                _ => entry.u32_at(0).map(u64::from),
            };
            let address = address.expect("each chunk is one entry");
            if self.memory.bytes(address, 4) == Some(&signature) {
                return table(self.memory, address, signature);
            }
        }
        Err(AcpiError::Missing { signature })
    }
}

/// Bytes of the header that all tables share (section 5.2.6).
const HEADER: usize = 36;

fn sums_to_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)) == 0
}

/// Returns the root pointer at `address` (section 5.2.5.3), if there is a valid one: 20 bytes, or 36 from
/// revision 2 on.
fn root_pointer(memory: &impl PhysicalMemory, address: u64) -> Option<&[u8]> {
    let old = memory.bytes(address, 20).filter(|old| old.starts_with(b"RSD PTR ") && sums_to_zero(old))?;
    if old[15] < 2 { Some(old) } else { memory.bytes(address, 36).filter(|new| sums_to_zero(new)) }
}

/// Returns the whole table at `address`, with its checksum verified.
fn table(memory: &impl PhysicalMemory, address: u64, signature: [u8; 4]) -> Result<&[u8], AcpiError> {
    let truncated = AcpiError::Truncated { signature, address };
    let header = memory.bytes(address, HEADER).ok_or(truncated)?;
    if !header.starts_with(&signature) {
        return Err(AcpiError::Missing { signature });
    }
    let len = header.u32_at(4).map(|len| len as usize).filter(|&len| len >= HEADER).ok_or(truncated)?;
    let bytes = memory.bytes(address, len).ok_or(truncated)?;
    if sums_to_zero(bytes) { Ok(bytes) } else { Err(AcpiError::Checksum { signature, address }) }
}

/// Reads the MADT (section 5.2.12).
fn read_madt(madt: &[u8], platform: &mut Platform) {
    const ENTRIES: usize = 44;
    const LOCAL_APIC: u8 = 0;
    const IO_APIC: u8 = 1;
    const OVERRIDE: u8 = 2;
    const LOCAL_X2APIC: u8 = 9;

    let mut rest = madt.get(ENTRIES..).unwrap_or_default();
    // An entry shorter than its own header would be read for ever.
    while let Some((kind, len)) = rest.u8_at(0).zip(rest.u8_at(1)).filter(|&(_, len)| len >= 2) {
        let Some((entry, behind)) = rest.split_at_checked(len.into()) else { return };
        rest = behind;
        match kind {
            LOCAL_APIC => add_cpu(platform, entry.u8_at(3).map(u32::from), entry.u32_at(4)),
            LOCAL_X2APIC => add_cpu(platform, entry.u32_at(4), entry.u32_at(8)),
            IO_APIC => {
                if let (Some(address), Some(first_gsi)) = (entry.u32_at(4), entry.u32_at(8)) {
                    // More I/O APICs than fit serve no ISA interrupt.
                    let _ = platform.io_apics.try_push(IoApic { address, first_gsi });
                }
            }
            OVERRIDE => {
                if let (Some(irq), Some(gsi), Some(flags)) =
                    (entry.u8_at(3), entry.u32_at(4), entry.u16_at(8))
                {
                    let (active_low, level) = (flags & 0b11 == 0b11, flags >> 2 & 0b11 == 0b11);
                    // There are 16 ISA interrupts.
                    let _ = platform.overrides.try_push(Override { irq, gsi, active_low, level });
                }
            }
            _ => {}
        }
    }
}

fn add_cpu(platform: &mut Platform, id: Option<u32>, flags: Option<u32>) {
    const ENABLED: u32 = 1;
    let Some((id, flags)) = id.zip(flags) else { return };
    // Firmware may list a CPU in both of its forms.
    if flags & ENABLED == 0 || platform.cpus.contains(&id) {
        return;
    }
    if platform.cpus.try_push(id).is_err() {
        platform.cpus_left_out += 1;
    }
}

fn read_mcfg(mcfg: &[u8], platform: &mut Platform) {
    const ENTRIES: usize = 44;
    for entry in mcfg.get(ENTRIES..).unwrap_or_default().chunks_exact(16) {
        let fields = (entry.u64_at(0), entry.u16_at(8), entry.u8_at(10), entry.u8_at(11));
        if let (Some(address), Some(segment), Some(first_bus), Some(last_bus)) = fields {
            // Segments that do not fit are ignored.
            let _ = platform.ecam.try_push(Ecam { address, segment, first_bus, last_bus });
        }
    }
}

/// Converts a port number of the FADT; 0 means that there is none.
fn port(value: u32) -> Option<u16> {
    u16::try_from(value).ok().filter(|&port| port != 0)
}

/// Reads the PM1 control registers from the FADT (section 5.2.9), and the values for them from the DSDT.
fn read_power_off(memory: &impl PhysicalMemory, fadt: &[u8]) -> Option<PowerOff> {
    let dsdt = fadt.u64_at(140).filter(|&at| at != 0).or(fadt.u32_at(40).map(u64::from))?;
    let enable = port(fadt.u32_at(48)?).zip(fadt.u8_at(52).filter(|&value| value != 0));
    Some(PowerOff {
        pm1a: fadt.u32_at(64).and_then(port)?,
        pm1b: fadt.u32_at(68).and_then(port),
        sleep_type: soft_off(table(memory, dsdt, *b"DSDT").ok()?)?,
        enable,
    })
}

/// Returns the first two elements of the package `\_S5` (section 7.4.2), which is a constant in every
/// firmware: so it can be read from the byte code (section 20.2) without an interpreter.
fn soft_off(aml: &[u8]) -> Option<[u8; 2]> {
    const NAME_OP: u8 = 0x08;
    const PACKAGE_OP: u8 = 0x12;
    const ZERO_OP: u8 = 0x00;
    const ONE_OP: u8 = 0x01;
    const BYTE_PREFIX: u8 = 0x0a;

    let at = aml.windows(5).position(|name| name == b"_S5_\x12")?;
    let named = aml[..at].ends_with(&[NAME_OP]) || aml[..at].ends_with(&[NAME_OP, b'\\']);
    debug_assert_eq!(aml[at + 4], PACKAGE_OP);
    if !named {
        return None;
    }
    // The package's length takes 1 to 4 bytes (section 20.2.4), the number of its elements one.
    let length_size = 1 + (aml.u8_at(at + 5)? >> 6) as usize;
    let mut elements = aml.get(at + 5 + length_size + 1..)?.iter().copied();
    let mut element = || match elements.next()? {
        value @ (ZERO_OP | ONE_OP) => Some(value),
        BYTE_PREFIX => elements.next(),
        _ => None,
    };
    Some([element()?, element()?])
}

#[cfg(test)]
mod tests;
