//! The 82599 and the X540. Section numbers are the 82599 datasheet's (331520); the X540 has the same
//! registers here.

use crate::chip::{Chip, Layout};
use crate::config::Config;
use crate::register_block::RegisterBlock;
use crate::registers::{CTRL_EXT, CTRL_EXT_DRV_LOAD, CTRL_RST, IVAR_VALID, RXCSUM_PCSD};
use crate::statistics::{Count, Counters};
use crate::{Fault, Link, Step};

/// The 82599 (Niantic).
pub(crate) static I82599: Ixgbe = Ixgbe { name: "Intel 82599", receive_kb: 512, has_sfp_lasers: true };
/// The X540 (Twinville): the MAC of the 82599 with a smaller receive packet buffer and a copper PHY of its
/// own.
pub(crate) static X540: Ixgbe = Ixgbe { name: "Intel X540", receive_kb: 384, has_sfp_lasers: false };

/// CTRL.LRST: link reset. Together with RST it resets everything but the management firmware (section
/// 8.2.3.1.1).
const CTRL_LRST: u32 = 1 << 3;
/// CTRL_EXT.NS_DIS: no requests with the no-snoop attribute, because the memory is cached (section 4.6.7).
const CTRL_EXT_NS_DIS: u32 = 1 << 16;
/// Extended SDP Control: SDP3 is the TX_DISABLE of an SFP module.
const ESDP: usize = 0x0020;
const ESDP_SDP3: u32 = 1 << 3;
const EICR_LSC: u32 = 1 << 20;
/// GPIE.OCD: a read of EICR clears bits 16 to 29 only (section 7.3.4.3).
const GPIE_OCD: u32 = 1 << 5;
const EIMS_EX: usize = 0x0AA0;
const EIMC_EX: usize = 0x0AB0;
const IVAR: usize = 0x0900;
const IVAR_MISC: usize = 0x0A00;
const EEC: usize = 0x10010;
/// EEC.Auto_RD: the EEPROM has been read.
const EEC_AUTO_RD: u32 = 1 << 9;
const RDRXCTL: usize = 0x2F00;
const RDRXCTL_CRC_STRIP: u32 = 1 << 1;
const RDRXCTL_DMAIDONE: u32 = 1 << 3;
/// RDRXCTL.RSCFRSTSIZE: has to be cleared (section 4.6.7).
const RDRXCTL_RSCFRSTSIZE: u32 = 0x1F << 17;
/// RDRXCTL.RSCACKC and FCOE_WRFIX: have to be set (section 4.6.7).
const RDRXCTL_REQUIRED: u32 = 1 << 25 | 1 << 26;
const RXCTRL: usize = 0x3000;
const RXCTRL_RXEN: u32 = 1;
const SECRXCTRL: usize = 0x8D00;
const SECRXCTRL_RX_DIS: u32 = 1 << 1;
const SECRXSTAT: usize = 0x8D04;
const SECRXSTAT_RDY: u32 = 1;
const RXPBSIZE: usize = 0x3C00;
const TXPBSIZE: usize = 0xCC00;
const TXPBTHRESH: usize = 0x4950;
/// The size of the transmit packet buffer in KiB.
const TRANSMIT_KB: u32 = 160;
const HLREG0: usize = 0x4240;
/// HLREG0: TXCRCEN, RXCRCSTRP, TXPADEN. FCS stripping has to be set the same here and in RDRXCTL.
const HLREG0_BASE: u32 = 1 | 1 << 1 | 1 << 10;
const HLREG0_JUMBOEN: u32 = 1 << 2;
const HLREG0_LPBK: u32 = 1 << 15;
const MAXFRS: usize = 0x4268;
const FCTRL: usize = 0x5080;
const FCTRL_MPE: u32 = 1 << 8;
const FCTRL_UPE: u32 = 1 << 9;
const FCTRL_BAM: u32 = 1 << 10;
const MCSTCTRL: usize = 0x5090;
const MCSTCTRL_MFE: u32 = 1 << 2;
const VLNCTRL: usize = 0x5088;
const VLNCTRL_VFE: u32 = 1 << 30;
const RXCSUM: usize = 0x5000;
/// RXCSUM.IPPCSE has no effect with PCSD; the checksum checks themselves are always on.
const RFCTL: usize = 0x5008;
const RFCTL_RSC_DIS: u32 = 1 << 5;
const RTTDCS: usize = 0x4900;
const RTTDCS_ARBDIS: u32 = 1 << 6;
const DTXMXSZRQ: usize = 0x8100;
/// Without DCB: the largest number of outstanding bytes (section 4.6.8.1).
const DTXMXSZRQ_MAX: u32 = 0xFFF;
const MTQC: usize = 0x8120;
const DMATXCTL: usize = 0x4A80;
const DMATXCTL_TE: u32 = 1;
const FCCFG: usize = 0x3D00;
const FCRTL: usize = 0x3220;
const FCRTH: usize = 0x3260;
const MFLCN: usize = 0x4294;
/// MFLCN.DPF: pause frames are dropped; RPFCE and RFCE, which obey them, stay clear.
const MFLCN_DPF: u32 = 1 << 1;
const AUTOC: usize = 0x42A0;
const AUTOC_RESTART: u32 = 1 << 12;
const LINKS: usize = 0x42A4;
const LINKS_UP: u32 = 1 << 30;
/// DCA_RXCTRL of the first 64 queues; bit 12 has to be cleared (section 4.6.7).
const DCA_RXCTRL: usize = 0x100C;
const DCA_RXCTRL_RESERVED: u32 = 1 << 12;

/// FCS and a VLAN tag, which MAXFRS includes.
const FRAME_OVERHEAD: u32 = 8;
/// The longest standard Ethernet frame, with FCS.
const MAX_STANDARD_FRAME: u32 = 1518;

static LAYOUT: Layout = Layout {
    receive: (0x1000, 0x40),
    srrctl: 0x14,
    srrctl_drop: 1 << 28,
    transmit: (0x6000, 0x40),
    mta: 0x5200,
    ral: 0xA200,
    mrqc: 0xEC80,
    mrqc_rss: 0b0001,
    reta: 0xEB00,
    rssrk: 0xEB80,
    eicr: 0x0800,
    eims: 0x0880,
    eimc: 0x0888,
    eiac: 0x0810,
    eiam: 0x0890,
    gpie: 0x0898,
    eitr: 0x0820,
};

/// Clear-on-read counters (section 8.2.3.23).
const COUNTERS: [(usize, Count); 38] = [
    (0x4000, Count::Damaged),       // CRCERRS
    (0x4004, Count::Damaged),       // ILLERRC
    (0x4008, Count::Damaged),       // ERRBC
    (0x4034, Count::Other),         // MLFC
    (0x4038, Count::Other),         // MRFC
    (0x4040, Count::Misshapen),     // RLEC
    (0x4074, Count::Received),      // GPRC
    (0x4088, Count::ReceivedBytes), // GORCL, GORCH
    (0x4078, Count::Broadcast),     // BPRC
    (0x407C, Count::Multicast),     // MPRC
    (0x4080, Count::Sent),          // GPTC
    (0x4090, Count::SentBytes),     // GOTCL, GOTCH
    (0x40A4, Count::Misshapen),     // RUC
    (0x40A8, Count::Misshapen),     // RFC
    (0x40AC, Count::Misshapen),     // ROC
    (0x40B0, Count::Misshapen),     // RJC
    (0x4120, Count::BadChecksum),   // XEC
    (0x3FA0, Count::Missed),        // RXMPC, of each packet buffer
    (0x3FA4, Count::Missed),
    (0x3FA8, Count::Missed),
    (0x3FAC, Count::Missed),
    (0x3FB0, Count::Missed),
    (0x1430, Count::Missed), // QPRDC, of each counter
    (0x1470, Count::Missed),
    (0x14B0, Count::Missed),
    (0x14F0, Count::Missed),
    (0x1530, Count::Missed),
    (0x1570, Count::Missed),
    (0x15B0, Count::Missed),
    (0x15F0, Count::Missed),
    (0x1630, Count::Missed),
    (0x1670, Count::Missed),
    (0x16B0, Count::Missed),
    (0x16F0, Count::Missed),
    (0x1730, Count::Missed),
    (0x1770, Count::Missed),
    (0x17B0, Count::Missed),
    (0x17F0, Count::Missed),
];

pub(crate) struct Ixgbe {
    name: &'static str,
    receive_kb: u32,
    has_sfp_lasers: bool,
}

impl Ixgbe {
    /// Section 4.6.7, except for queues and filters.
    fn start_receiver(&self, regs: &RegisterBlock) {
        regs.write(RXCTRL, 0);
        // Frames of all VLANs are received. With the filter off, its table (VFTA) is not used and need not be
        // cleared.
        regs.update(VLNCTRL, VLNCTRL_VFE, 0);
        regs.write(RXPBSIZE, self.receive_kb << 10);
        for buffer in 1..8 {
            regs.write(RXPBSIZE + 4 * buffer, 0);
        }
        regs.update(RDRXCTL, RDRXCTL_RSCFRSTSIZE, RDRXCTL_CRC_STRIP | RDRXCTL_REQUIRED);
        // Receive side coalescing is off: it would merge frames of different lengths.
        regs.update(RFCTL, 0, RFCTL_RSC_DIS);
        regs.write(RXCSUM, RXCSUM_PCSD);
        regs.update(CTRL_EXT, 0, CTRL_EXT_NS_DIS);
        for queue in 0..usize::from(self.queues()) {
            regs.update(DCA_RXCTRL + 0x40 * queue, DCA_RXCTRL_RESERVED, 0);
        }
        // Section 3.7.7.3: no flow control, in either direction.
        regs.write(FCCFG, 0);
        regs.write(MFLCN, MFLCN_DPF);
        for buffer in 0..8 {
            regs.write(FCRTL + 4 * buffer, 0);
            regs.write(FCRTH + 4 * buffer, 0);
        }
    }

    /// Section 4.6.8, except for queues.
    fn start_transmitter(&self, regs: &RegisterBlock) {
        // The arbiter is disabled while its parameters change.
        regs.update(RTTDCS, 0, RTTDCS_ARBDIS);
        regs.write(DTXMXSZRQ, DTXMXSZRQ_MAX);
        regs.write(TXPBSIZE, TRANSMIT_KB << 10);
        for buffer in 1..8 {
            regs.write(TXPBSIZE + 4 * buffer, 0);
            regs.write(TXPBTHRESH + 4 * buffer, 0);
        }
        // The longest frame has to fit behind the threshold.
        regs.write(TXPBTHRESH, TRANSMIT_KB - (self.longest_frame() + FRAME_OVERHEAD).div_ceil(1024));
        regs.write(MTQC, 0);
        regs.update(RTTDCS, RTTDCS_ARBDIS, 0);
        regs.update(DMATXCTL, 0, DMATXCTL_TE);
    }

    /// Section 4.6.7, at its end: RXEN changes only while the receive path is empty.
    fn set_receiving(&self, regs: &RegisterBlock, on: bool) -> Result<(), Fault> {
        regs.update(SECRXCTRL, 0, SECRXCTRL_RX_DIS);
        regs.await_bits(Step::ReceivePath, SECRXSTAT, SECRXSTAT_RDY, SECRXSTAT_RDY)?;
        let (clear, set) = if on { (0, RXCTRL_RXEN) } else { (RXCTRL_RXEN, 0) };
        regs.update(RXCTRL, clear, set);
        regs.update(SECRXCTRL, SECRXCTRL_RX_DIS, 0);
        Ok(())
    }
}

impl Chip for Ixgbe {
    fn name(&self) -> &'static str {
        self.name
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn reset(&self, regs: &RegisterBlock) -> Result<(), Fault> {
        // Section 4.6.3.1: interrupts are masked during initialisation; and once more, because the reset
        // unmasks them.
        let mask = || {
            regs.write(LAYOUT.eimc, 0x7FFF_FFFF);
            regs.write(EIMC_EX, u32::MAX);
            regs.write(EIMC_EX + 4, u32::MAX);
        };
        regs.check_alive()?;
        mask();
        // Stops reception before the reset stops DMA requests.
        regs.write(RXCTRL, 0);
        regs.reset(CTRL_RST | CTRL_LRST)?;
        mask();
        // Sections 4.6.3 and 4.6.7.
        regs.await_bits(Step::Eeprom, EEC, EEC_AUTO_RD, EEC_AUTO_RD)?;
        regs.await_bits(Step::DmaInit, RDRXCTL, RDRXCTL_DMAIDONE, RDRXCTL_DMAIDONE)?;
        regs.update(CTRL_EXT, 0, CTRL_EXT_DRV_LOAD);
        Ok(())
    }

    fn start(&self, regs: &RegisterBlock) -> Result<(), Fault> {
        // Section 4.6.4: the link configuration comes from the EEPROM and is correct; it only has to be
        // started.
        if self.has_sfp_lasers {
            regs.update(ESDP, ESDP_SDP3, 0);
            regs.update(AUTOC, 0, AUTOC_RESTART);
        }
        self.start_receiver(regs);
        self.start_transmitter(regs);
        Ok(())
    }

    fn configure(&self, regs: &RegisterBlock, config: &Config) -> Result<(), Fault> {
        self.set_receiving(regs, false)?;
        let with_fcs = config.frame_bytes + 4;
        let jumbo = if with_fcs > MAX_STANDARD_FRAME { HLREG0_JUMBOEN } else { 0 };
        regs.update(HLREG0, HLREG0_JUMBOEN | HLREG0_LPBK, HLREG0_BASE | jumbo);
        regs.write(MAXFRS, (config.frame_bytes + FRAME_OVERHEAD) << 16);
        let bit = |on, bit| if on { bit } else { 0 };
        let filters =
            FCTRL_BAM | bit(config.promiscuous, FCTRL_UPE | FCTRL_MPE) | bit(config.all_multicast, FCTRL_MPE);
        regs.write(FCTRL, filters);
        regs.write(MCSTCTRL, MCSTCTRL_MFE);
        self.set_receiving(regs, true)
    }

    fn route(&self, regs: &RegisterBlock, queue: u16, vector: u16) {
        // Section 8.2.3.5.10: a register serves two queues, with a receive and a transmit entry each.
        let register = IVAR + 4 * usize::from(queue / 2);
        let shift = 16 * u32::from(queue % 2);
        let both = u32::from(vector) | IVAR_VALID;
        regs.update(register, 0xFFFF << shift, (both << 8 | both) << shift);
    }

    fn route_link(&self, regs: &RegisterBlock) {
        regs.write(IVAR_MISC, IVAR_VALID << 8);
        // Reading the link state reads EICR. Without OCD that would clear the causes of all queues.
        regs.update(LAYOUT.gpie, 0, GPIE_OCD);
        regs.write(LAYOUT.eims, EICR_LSC);
        // Vectors above 15 are enabled only here; none of them is used.
        regs.write(EIMS_EX + 4, 0);
    }

    fn link(&self, regs: &RegisterBlock) -> (Link, bool) {
        let changed = regs.read(LAYOUT.eicr) & EICR_LSC != 0;
        if changed {
            regs.write(LAYOUT.eicr, EICR_LSC);
        }
        let links = regs.read(LINKS);
        let is_up = links & LINKS_UP != 0;
        let megabits = match links >> 28 & 0b11 {
            0b11 => 10_000,
            0b10 => 1_000,
            0b01 => 100,
            _ => 0,
        };
        (Link { is_up, megabits: if is_up { megabits } else { 0 }, changes: 0 }, changed)
    }

    fn count(&self, regs: &RegisterBlock, counters: &mut Counters) {
        counters.read(COUNTERS, |register| regs.read(register));
    }

    fn throttle(&self, gap_us: u32) -> u32 {
        // Section 8.2.3.5.12: units of 2 us from bit 3 on; CNT_WDIS leaves the counter unchanged.
        (gap_us.div_ceil(2).min(0x1FF) << 3) | 1 << 31
    }
}
