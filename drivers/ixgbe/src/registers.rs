//! Registers that the 82599, the X540 and the 82576 have at the same offsets, or in the same shape (82599 datasheet, section 8.2.3;
//! 82576 datasheet, section 8).

/// Device Control.
pub(crate) const CTRL: usize = 0x0000;
/// PCIe Master Disable.
pub(crate) const CTRL_MASTER_DISABLE: u32 = 1 << 2;
/// Reset of the device; clears itself.
pub(crate) const CTRL_RST: u32 = 1 << 26;
/// Device Status.
pub(crate) const STATUS: usize = 0x0008;
/// PCIe Master Enable Status: requests are under way, or may be.
pub(crate) const STATUS_MASTER: u32 = 1 << 19;
/// Extended Device Control.
pub(crate) const CTRL_EXT: usize = 0x0018;
/// The driver is there, for firmware.
pub(crate) const CTRL_EXT_DRV_LOAD: u32 = 1 << 28;
/// What a register of a device reads that is gone.
pub(crate) const GONE: u32 = u32::MAX;

/// The queue enable bit, of RXDCTL and TXDCTL.
pub(crate) const QUEUE_ENABLE: u32 = 1 << 25;

/// RAH: the address is valid.
pub(crate) const RAH_AV: u32 = 1 << 31;

/// SRRCTL.DESCTYPE: advanced descriptors, one buffer.
pub(crate) const SRRCTL_ADVANCED: u32 = 0b001 << 25;

/// IVAR: a vector is assigned.
pub(crate) const IVAR_VALID: u32 = 1 << 7;

/// GPIE.Multiple_MSIX, GPIE.EIAME (a message masks its cause), GPIE.PBA_support.
pub(crate) const GPIE_MSIX: u32 = 1 << 4 | 1 << 30 | 1 << 31;

// MRQC: what is hashed. The same bits in all of them.
pub(crate) const MRQC_TCP4: u32 = 1 << 16;
pub(crate) const MRQC_IPV4: u32 = 1 << 17;
pub(crate) const MRQC_IPV6: u32 = 1 << 20;
pub(crate) const MRQC_TCP6: u32 = 1 << 21;
pub(crate) const MRQC_UDP4: u32 = 1 << 22;
pub(crate) const MRQC_UDP6: u32 = 1 << 23;

/// RXCSUM.PCSD: the descriptor has the hash, and not a checksum of the fragment.
pub(crate) const RXCSUM_PCSD: u32 = 1 << 13;

/// Registers of a receive queue, from its first on; SRRCTL is elsewhere in each chip.
pub(crate) mod receive {
    pub(crate) const RDBAL: usize = 0x00;
    pub(crate) const RDBAH: usize = 0x04;
    pub(crate) const RDLEN: usize = 0x08;
    pub(crate) const RDH: usize = 0x10;
    pub(crate) const RDT: usize = 0x18;
    pub(crate) const RXDCTL: usize = 0x28;
}

/// Registers of a transmit queue, from its first on.
pub(crate) mod transmit {
    pub(crate) const TDBAL: usize = 0x00;
    pub(crate) const TDBAH: usize = 0x04;
    pub(crate) const TDLEN: usize = 0x08;
    pub(crate) const TDH: usize = 0x10;
    pub(crate) const TDT: usize = 0x18;
    pub(crate) const TXDCTL: usize = 0x28;
}
