//! Registers that the 82599, the X540 and the 82576 share, at the same offset or with the same layout (82599
//! datasheet, section 8.2.3; 82576 datasheet, section 8).

/// Device Control.
pub(crate) const CTRL: usize = 0x0000;
/// PCIe Master Disable.
pub(crate) const CTRL_MASTER_DISABLE: u32 = 1 << 2;
/// Device reset; clears itself.
pub(crate) const CTRL_RST: u32 = 1 << 26;
/// Device Status.
pub(crate) const STATUS: usize = 0x0008;
/// PCIe Master Enable Status: requests are pending, or may be.
pub(crate) const STATUS_MASTER: u32 = 1 << 19;
/// Extended Device Control.
pub(crate) const CTRL_EXT: usize = 0x0018;
/// CTRL_EXT.DRV_LOAD: tells the firmware that a driver is present.
pub(crate) const CTRL_EXT_DRV_LOAD: u32 = 1 << 28;
/// The value that every register of a device that is gone reads as.
pub(crate) const GONE: u32 = u32::MAX;

/// The queue enable bit of RXDCTL and TXDCTL.
pub(crate) const QUEUE_ENABLE: u32 = 1 << 25;

/// RAH: the address is valid.
pub(crate) const RAH_AV: u32 = 1 << 31;

/// SRRCTL.DESCTYPE: advanced descriptors, one buffer.
pub(crate) const SRRCTL_ADVANCED: u32 = 0b001 << 25;

/// IVAR: a vector is assigned.
pub(crate) const IVAR_VALID: u32 = 1 << 7;

/// GPIE.Multiple_MSIX, GPIE.EIAME (a message masks its cause), GPIE.PBA_support.
pub(crate) const GPIE_MSIX: u32 = 1 << 4 | 1 << 30 | 1 << 31;

// MRQC: the fields to hash. The bits are the same in all chips.
pub(crate) const MRQC_TCP4: u32 = 1 << 16;
pub(crate) const MRQC_IPV4: u32 = 1 << 17;
pub(crate) const MRQC_IPV6: u32 = 1 << 20;
pub(crate) const MRQC_TCP6: u32 = 1 << 21;
pub(crate) const MRQC_UDP4: u32 = 1 << 22;
pub(crate) const MRQC_UDP6: u32 = 1 << 23;

/// RXCSUM.PCSD: the descriptor contains the hash instead of a fragment checksum.
pub(crate) const RXCSUM_PCSD: u32 = 1 << 13;

/// Register offsets within a receive queue; SRRCTL's differs between the chips.
pub(crate) mod receive {
    pub(crate) const RDBAL: usize = 0x00;
    pub(crate) const RDBAH: usize = 0x04;
    pub(crate) const RDLEN: usize = 0x08;
    pub(crate) const RDH: usize = 0x10;
    pub(crate) const RDT: usize = 0x18;
    pub(crate) const RXDCTL: usize = 0x28;
}

/// Register offsets within a transmit queue.
pub(crate) mod transmit {
    pub(crate) const TDBAL: usize = 0x00;
    pub(crate) const TDBAH: usize = 0x04;
    pub(crate) const TDLEN: usize = 0x08;
    pub(crate) const TDH: usize = 0x10;
    pub(crate) const TDT: usize = 0x18;
    pub(crate) const TXDCTL: usize = 0x28;
}
