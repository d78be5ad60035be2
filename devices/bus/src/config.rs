//! A function's configuration space: type 0 header and capability list (PCI Local Bus Specification 3.0,
//! chapter 6; PCI Express Base Specification, section 7.5).

use crate::model::{BarKind, PciIdentity};
use crate::msix::MsixTable;

/// Size of the conventional configuration space, in bytes.
pub const CONFIG_BYTES: usize = 256;
/// Size of a PCI Express function's configuration space, in bytes. Beyond [`CONFIG_BYTES`] it reads as zero:
/// there are no extended capabilities.
pub const CONFIG_EXTENDED_BYTES: usize = 4096;

pub(crate) const COMMAND: usize = 0x04;
pub(crate) const COMMAND_MEMORY: u16 = 1 << 1;
pub(crate) const COMMAND_BUS_MASTER: u16 = 1 << 2;
const STATUS_CAPABILITIES: u16 = 1 << 4;
const BARS: usize = 0x10;
const CAPABILITIES: usize = 0x34;

// The offsets of Intel's network controllers (82599 datasheet, section 9.3): their Linux driver reads the
// size of the MSI-X table and the state of the link there without walking the capability list. Any offset
// suits all other devices.
const MSIX: usize = 0x70;
pub(crate) const MSIX_CONTROL: usize = MSIX + 2;
pub(crate) const MSIX_ENABLE: u16 = 1 << 15;
pub(crate) const MSIX_FUNCTION_MASK: u16 = 1 << 14;

const EXPRESS: usize = 0xa0;
pub(crate) const DEVICE_CONTROL: usize = EXPRESS + 8;
/// Initiate Function Level Reset; reads as zero.
pub(crate) const DEVICE_CONTROL_RESET: u16 = 1 << 15;
pub(crate) const DEVICE_STATUS: usize = EXPRESS + 10;
pub(crate) const DEVICE_STATUS_PENDING: u16 = 1 << 5;
/// Device Capabilities: Role-Based Error Reporting, and Function Level Reset Capability.
const DEVICE_CAPABILITIES: u32 = 1 << 15 | 1 << 28;

/// The bytes of a configuration space, with a mask of writable bits.
pub(crate) struct ConfigSpace {
    bytes: [u8; CONFIG_BYTES],
    writable: [u8; CONFIG_BYTES],
    /// The values after a reset.
    initial: [u8; CONFIG_BYTES],
}

impl ConfigSpace {
    pub(crate) fn new(identity: &PciIdentity) -> Self {
        let mut space =
            Self { bytes: [0; CONFIG_BYTES], writable: [0; CONFIG_BYTES], initial: [0; CONFIG_BYTES] };
        space.put16(0x00, identity.vendor);
        space.put16(0x02, identity.device);
        space.put16(0x06, STATUS_CAPABILITIES);
        space.bytes[0x08] = identity.revision;
        space.bytes[0x09] = identity.class.interface;
        space.bytes[0x0a] = identity.class.sub;
        space.bytes[0x0b] = identity.class.base;
        space.put16(0x2c, identity.subsystem_vendor);
        space.put16(0x2e, identity.subsystem);
        space.bytes[CAPABILITIES] = MSIX as u8;
        // Memory space, bus master, parity and SERR response, INTx disable: stored, because drivers read them
        // back.
        space.allow16(COMMAND, COMMAND_MEMORY | COMMAND_BUS_MASTER | 1 << 6 | 1 << 8 | 1 << 10);
        // Cache line size and interrupt line are scratch registers of software.
        space.writable[0x0c] = 0xff;
        space.writable[0x3c] = 0xff;
        for bar in &identity.bars {
            space.put_bar(bar.index, bar.bytes, bar.kind);
        }
        let msix = identity.msix;
        space.put_bar(msix.bar, MsixTable::bar_bytes(msix.vectors), BarKind::Memory64);

        space.bytes[MSIX] = 0x11;
        space.bytes[MSIX + 1] = EXPRESS as u8;
        space.put16(MSIX_CONTROL, msix.vectors - 1);
        space.allow16(MSIX_CONTROL, MSIX_ENABLE | MSIX_FUNCTION_MASK);
        space.put32(MSIX + 4, u32::from(msix.bar));
        space.put32(MSIX + 8, MsixTable::pending_offset(msix.vectors) as u32 | u32::from(msix.bar));

        space.bytes[EXPRESS] = 0x10;
        // Version 2, an endpoint.
        space.put16(EXPRESS + 2, 2);
        space.put32(EXPRESS + 4, DEVICE_CAPABILITIES);
        // Relaxed ordering and no snoop are on by default; software sets sizes and error reporting.
        space.put16(DEVICE_CONTROL, 1 << 4 | 1 << 11);
        space.allow16(DEVICE_CONTROL, 0x7fff);
        // A link of 5 GT/s and eight lanes, which suffices for 10 Gb/s in both directions.
        space.put32(EXPRESS + 0x0c, 0x82);
        space.put16(EXPRESS + 0x12, 0x82);
        space.initial = space.bytes;
        space
    }

    /// Reads `size` bytes: 1, 2 or 4. Bytes beyond the space read as zero.
    pub(crate) fn read(&self, offset: usize, size: usize) -> u32 {
        let bytes = self.bytes.iter().skip(offset).take(size.min(4)).enumerate();
        bytes.fold(0, |value, (index, byte)| value | u32::from(*byte) << (8 * index))
    }

    pub(crate) fn write(&mut self, offset: usize, size: usize, value: u32) {
        for (index, new) in value.to_le_bytes().into_iter().take(size).enumerate() {
            let at = offset + index;
            if at < CONFIG_BYTES {
                self.bytes[at] = self.bytes[at] & !self.writable[at] | new & self.writable[at];
            }
        }
    }

    pub(crate) fn read16(&self, offset: usize) -> u16 {
        self.read(offset, 2) as u16
    }

    pub(crate) fn reset(&mut self) {
        self.bytes = self.initial;
    }

    /// Makes the address bits above the size writable, by which software finds out the size.
    fn put_bar(&mut self, index: u8, bytes: u64, kind: BarKind) {
        let at = BARS + 4 * usize::from(index);
        let address_bits = !(bytes - 1);
        self.allow32(at, address_bits as u32);
        if kind == BarKind::Memory64 {
            self.bytes[at] = 0b100;
            self.allow32(at + 4, (address_bits >> 32) as u32);
        }
    }

    fn put16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow16(&mut self, at: usize, bits: u16) {
        self.writable[at..at + 2].copy_from_slice(&bits.to_le_bytes());
    }

    fn allow32(&mut self, at: usize, bits: u32) {
        self.writable[at..at + 4].copy_from_slice(&bits.to_le_bytes());
    }
}
