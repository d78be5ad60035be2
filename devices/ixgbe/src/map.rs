//! Offsets of registers and their bits (82599 datasheet, section 8.2.3).

/// The size of the modelled registers of BAR 0; the flash would follow.
pub(crate) const REGISTER_BYTES: u64 = 0x2_0000;

pub(crate) const CTRL: u64 = 0x0000;
pub(crate) const CTRL_MASTER_DISABLE: u32 = 1 << 2;
pub(crate) const CTRL_LRST: u32 = 1 << 3;
pub(crate) const CTRL_RST: u32 = 1 << 26;
/// The bits that start a reset, and clear themselves when it is complete.
pub(crate) const CTRL_RESETS: u32 = CTRL_RST | CTRL_LRST;
/// The second offset of CTRL.
pub(crate) const CTRL_ALIAS: u64 = 0x0004;
pub(crate) const STATUS: u64 = 0x0008;
pub(crate) const STATUS_MASTER_ENABLED: u32 = 1 << 19;
pub(crate) const STATUS_LINK_UP: u32 = 1 << 7;
pub(crate) const ESDP: u64 = 0x0020;
pub(crate) const I2CCTL: u64 = 0x0028;

pub(crate) const EICR: u64 = 0x0800;
pub(crate) const EICS: u64 = 0x0808;
pub(crate) const EIAC: u64 = 0x0810;
pub(crate) const EITR: u64 = 0x0820;
pub(crate) const EIMS: u64 = 0x0880;
pub(crate) const EIMC: u64 = 0x0888;
pub(crate) const EIAM: u64 = 0x0890;
pub(crate) const GPIE: u64 = 0x0898;
pub(crate) const GPIE_MSIX: u32 = 1 << 4;
pub(crate) const GPIE_OCD: u32 = 1 << 5;
pub(crate) const GPIE_EIAME: u32 = 1 << 30;
pub(crate) const IVAR: u64 = 0x0900;
pub(crate) const IVAR_MISC: u64 = 0x0a00;
pub(crate) const EICS_EX: u64 = 0x0a90;
pub(crate) const EIMS_EX: u64 = 0x0aa0;
pub(crate) const EIMC_EX: u64 = 0x0ab0;
pub(crate) const EIAM_EX: u64 = 0x0ad0;

/// Receive queues 0 to 63; 64 to 127 are at 0xd000.
pub(crate) const RX_QUEUES: u64 = 0x1000;
pub(crate) const RX_QUEUES_HIGH: u64 = 0xd000;
/// Transmit queues 0 to 127.
pub(crate) const TX_QUEUES: u64 = 0x6000;
/// The distance between the registers of two queues.
pub(crate) const QUEUE_STRIDE: u64 = 0x40;
/// The number of queues in each direction.
pub(crate) const QUEUES: usize = 128;
/// Registers of a queue, by their offset in its stride.
pub(crate) mod queue {
    pub(crate) const BAL: u64 = 0x00;
    pub(crate) const BAH: u64 = 0x04;
    pub(crate) const LEN: u64 = 0x08;
    pub(crate) const HEAD: u64 = 0x10;
    pub(crate) const SRRCTL: u64 = 0x14;
    pub(crate) const TAIL: u64 = 0x18;
    pub(crate) const DCTL: u64 = 0x28;
    pub(crate) const DCTL_ENABLE: u32 = 1 << 25;
    pub(crate) const RXDCTL_VME: u32 = 1 << 30;
    /// TXDCTL: Transmit Software Flush, which clears itself.
    pub(crate) const TXDCTL_SWFLSH: u32 = 1 << 26;
    pub(crate) const TDWBAL: u64 = 0x38;
    pub(crate) const TDWBAH: u64 = 0x3c;
}
pub(crate) const SRRCTL_DROP: u32 = 1 << 28;

pub(crate) const RXCTRL: u64 = 0x3000;
pub(crate) const RXCTRL_RXEN: u32 = 1;
pub(crate) const RDRXCTL: u64 = 0x2f00;
pub(crate) const RDRXCTL_CRCSTRIP: u32 = 1 << 1;
pub(crate) const RDRXCTL_DMAIDONE: u32 = 1 << 3;
pub(crate) const RXPBSIZE: u64 = 0x3c00;
pub(crate) const HLREG0: u64 = 0x4240;
pub(crate) const HLREG0_RXCRCSTRP: u32 = 1 << 1;
pub(crate) const HLREG0_JUMBOEN: u32 = 1 << 2;
pub(crate) const HLREG0_LPBK: u32 = 1 << 15;
pub(crate) const MSCA: u64 = 0x425c;
pub(crate) const MSCA_COMMAND: u32 = 1 << 30;
pub(crate) const MSRWD: u64 = 0x4260;
pub(crate) const MAXFRS: u64 = 0x4268;
pub(crate) const AUTOC: u64 = 0x42a0;
pub(crate) const AUTOC_RESTART: u32 = 1 << 12;
/// The upper bit of LMS: modes with autonegotiation over a backplane.
pub(crate) const AUTOC_LMS_BACKPLANE: u32 = 1 << 15;
/// Autonegotiation's state, in bits 19:16.
pub(crate) const ANLP1: u64 = 0x42b0;
pub(crate) const ANLP1_ABILITY_DETECT: u32 = 2 << 16;
pub(crate) const LINKS: u64 = 0x42a4;
pub(crate) const AUTOC2: u64 = 0x42a8;
pub(crate) const LINKS2: u64 = 0x4324;
pub(crate) const MACC: u64 = 0x4330;
pub(crate) const MBVFICR: u64 = 0x0710;
pub(crate) const RTTDCS: u64 = 0x4900;
pub(crate) const RTTDCS_ARBDIS: u32 = 1 << 6;
pub(crate) const DMATXCTL: u64 = 0x4a80;
pub(crate) const DMATXCTL_TE: u32 = 1;
pub(crate) const DTXMXSZRQ: u64 = 0x8100;
pub(crate) const TXPBSIZE: u64 = 0xcc00;

/// Ready bits of the security units, which never have work.
pub(crate) const SECTXSTAT: u64 = 0x8804;
pub(crate) const SECRXSTAT: u64 = 0x8d04;
pub(crate) const SEC_READY: u32 = 1;

pub(crate) const RXCSUM: u64 = 0x5000;
pub(crate) const RXCSUM_PCSD: u32 = 1 << 13;
pub(crate) const FCTRL: u64 = 0x5080;
pub(crate) const FCTRL_SBP: u32 = 1 << 1;
pub(crate) const FCTRL_MPE: u32 = 1 << 8;
pub(crate) const FCTRL_UPE: u32 = 1 << 9;
pub(crate) const FCTRL_BAM: u32 = 1 << 10;
pub(crate) const VLNCTRL: u64 = 0x5088;
pub(crate) const VLNCTRL_VFE: u32 = 1 << 30;
pub(crate) const MCSTCTRL: u64 = 0x5090;
pub(crate) const MCSTCTRL_MFE: u32 = 1 << 2;
pub(crate) const MTA: u64 = 0x5200;
pub(crate) const VFTA: u64 = 0xa000;
pub(crate) const RAL: u64 = 0xa200;
pub(crate) const RAH_VALID: u32 = 1 << 31;
/// Pairs of RAL and RAH.
pub(crate) const ADDRESSES: u64 = 128;
pub(crate) const PSRTYPE: u64 = 0xea00;
pub(crate) const RETA: u64 = 0xeb00;
pub(crate) const RSSRK: u64 = 0xeb80;
pub(crate) const MRQC: u64 = 0xec80;
pub(crate) const FDIRCTRL: u64 = 0xee00;
pub(crate) const FDIRCTRL_INIT_DONE: u32 = 1 << 3;
pub(crate) const FDIRCMD: u64 = 0xee2c;
pub(crate) const PFUTA: u64 = 0xf400;

pub(crate) const RQSMR: u64 = 0x2300;
pub(crate) const TQSM: u64 = 0x8600;

pub(crate) const EEC: u64 = 0x1_0010;
pub(crate) const EEC_REQUEST: u32 = 1 << 6;
pub(crate) const EEC_GRANT: u32 = 1 << 7;
pub(crate) const EERD: u64 = 0x1_0014;
pub(crate) const EEWR: u64 = 0x1_0018;
pub(crate) const EEMNGCTL: u64 = 0x1_0110;
pub(crate) const SWSM: u64 = 0x1_0140;
pub(crate) const FWSM: u64 = 0x1_0148;
/// The firmware marks the rest of the register as valid.
pub(crate) const FWSM_VALID: u32 = 1 << 15;
pub(crate) const SW_FW_SYNC: u64 = 0x1_0160;

/// Maps the offsets that the 82598 had for a register to the 82599's (section 8.2.2).
pub(crate) fn canonical(offset: u64) -> u64 {
    match offset {
        CTRL_ALIAS => CTRL,
        0x2100..0x2140 => RX_QUEUES + queue::SRRCTL + (offset - 0x2100) / 4 * QUEUE_STRIDE,
        0x2200..0x2240 => RX_QUEUES + 0x0c + (offset - 0x2200) / 4 * QUEUE_STRIDE,
        0x5400..0x5480 => RAL + offset - 0x5400,
        0x5480..0x54c0 => PSRTYPE + offset - 0x5480,
        0x5818 => MRQC,
        0x5c00..0x5c80 => RETA + offset - 0x5c00,
        0x5c80..0x5ca8 => RSSRK + offset - 0x5c80,
        _ => offset,
    }
}
