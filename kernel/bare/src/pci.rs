//! PCI functions: enumeration, BARs and capabilities.
//!
//! Independent of the access to configuration space, so that tests use a fake one. Nothing that a device
//! reports is trusted: capability lists may be circular, bridges may lead back.

use core::fmt;
use core::ops::RangeInclusive;

use arrayvec::ArrayVec;
use pci_types::capability::{MsiCapability, MsixCapability, PciCapability};
use pci_types::{
    Bar, CommandRegister, ConfigRegionAccess, EndpointHeader, MAX_BARS, PciAddress, PciHeader,
    PciPciBridgeHeader,
};

/// Maximum number of capabilities of 4 bytes between the header and the end of the conventional configuration
/// space.
const CAPABILITY_LIMIT: usize = 48;

/// One function of one device.
pub struct Function {
    /// Its address.
    pub address: PciAddress,
    /// Vendor and device id.
    pub id: (u16, u16),
    /// Base class, subclass and programming interface.
    pub class: (u8, u8, u8),
    /// Revision id.
    pub revision: u8,
    /// True if it is not a bridge between buses, and has BARs of its own.
    pub is_endpoint: bool,
    /// Its BARs; the upper half of a 64-bit one is `None`.
    pub bars: [Option<Bar>; MAX_BARS],
    /// The ids of its capabilities, in list order.
    pub capabilities: ArrayVec<u8, CAPABILITY_LIMIT>,
    /// Offset of its PCI Express capability in configuration space.
    pub express: Option<u16>,
    /// Its MSI capability.
    pub msi: Option<MsiCapability>,
    /// Its MSI-X capability.
    pub msix: Option<MsixCapability>,
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((vendor, device), (base, sub, interface)) = (self.id, self.class);
        write!(f, "{} {vendor:04x}:{device:04x} class {base:02x}{sub:02x}{interface:02x}", self.address)?;
        for (slot, bar) in self.bars.iter().enumerate() {
            match bar {
                Some(Bar::Memory32 { address, size, .. }) => {
                    write!(f, ", BAR{slot} memory {address:#x} size {size:#x}")?;
                }
                Some(Bar::Memory64 { address, size, .. }) => {
                    write!(f, ", BAR{slot} memory64 {address:#x} size {size:#x}")?;
                }
                Some(Bar::Io { port }) => write!(f, ", BAR{slot} ports {port:#x}")?,
                None => {}
            }
        }
        if !self.capabilities.is_empty() {
            write!(f, ", capabilities {:02x?}", &self.capabilities[..])?;
        }
        Ok(())
    }
}

/// Calls `visit` with each function on `buses` of `segment`, following bridges from the first bus.
pub fn enumerate(
    access: &impl ConfigRegionAccess,
    segment: u16,
    buses: RangeInclusive<u8>,
    visit: &mut impl FnMut(Function),
) {
    scan_bus(access, segment, *buses.start(), *buses.end(), visit);
}

/// Scans `bus` and the buses behind its bridges, up to bus `last`. Bus numbers increase on the way down, so
/// this ends.
fn scan_bus(
    access: &impl ConfigRegionAccess,
    segment: u16,
    bus: u8,
    last: u8,
    visit: &mut impl FnMut(Function),
) {
    for device in 0..32 {
        for function in 0..8 {
            let address = PciAddress::new(segment, bus, device, function);
            let header = PciHeader::new(address);
            if header.id(access).0 == 0xffff {
                if function == 0 {
                    break;
                }
                continue;
            }
            visit(read_function(access, address));
            if let Some(bridge) = PciPciBridgeHeader::from_header(PciHeader::new(address), access) {
                let secondary = bridge.secondary_bus_number(access);
                if secondary > bus && secondary <= last {
                    scan_bus(access, segment, secondary, last, visit);
                }
            }
            if function == 0 && !header.has_multiple_functions(access) {
                break;
            }
        }
    }
}

fn read_function(access: &impl ConfigRegionAccess, address: PciAddress) -> Function {
    let header = PciHeader::new(address);
    let (revision, base, sub, interface) = header.revision_and_class(access);
    let mut function = Function {
        address,
        id: header.id(access),
        class: (base, sub, interface),
        revision,
        is_endpoint: false,
        bars: [None; MAX_BARS],
        capabilities: ArrayVec::new(),
        express: None,
        msi: None,
        msix: None,
    };
    if let Some(endpoint) = EndpointHeader::from_header(header, access) {
        function.is_endpoint = true;
        read_bars(access, address, &mut function.bars);
        for capability in endpoint.capabilities(access).take(CAPABILITY_LIMIT) {
            let at = capability.address();
            // SAFETY: reading a capability's header changes nothing.
            let id = unsafe { access.read(at.address, at.offset & !3) } as u8;
            function.capabilities.push(id);
            match capability {
                PciCapability::PciExpress(express) => function.express = Some(express.offset),
                PciCapability::Msi(msi) => function.msi = Some(msi),
                PciCapability::MsiX(msix) => function.msix = Some(msix),
                _ => {}
            }
        }
    }
    function
}

/// Reads the BARs with their sizes. That takes writing to them, so the function must not decode during it
/// (PCI Local Bus Specification 3.0, section 6.2.5.1).
fn read_bars(access: &impl ConfigRegionAccess, address: PciAddress, bars: &mut [Option<Bar>; MAX_BARS]) {
    const DECODE: CommandRegister = CommandRegister::IO_ENABLE.union(CommandRegister::MEMORY_ENABLE);
    /// Memory BAR of a type other than 32 or 64 bits; `pci_types` would panic.
    const RESERVED: [u32; 2] = [0b010, 0b110];

    let mut header = PciHeader::new(address);
    let command = header.command(access);
    header.update_command(access, |command| command - DECODE);
    let Some(endpoint) = EndpointHeader::from_header(PciHeader::new(address), access) else { return };
    let mut slot = 0;
    while slot < MAX_BARS {
        // SAFETY: reading a BAR changes nothing.
        let raw = unsafe { access.read(address, 0x10 + 4 * slot as u16) };
        if !RESERVED.contains(&(raw & 0b111)) {
            bars[slot] = endpoint.bar(slot as u8, access);
        }
        slot += if matches!(bars[slot], Some(Bar::Memory64 { .. })) { 2 } else { 1 };
    }
    header.update_command(access, |_| command);
}

#[cfg(test)]
mod tests;
