//! The 82599 and the X540. Sections are the 82599 datasheet's (331520); the X540 has the same registers here.

use crate::chip::{Chip, Layout};
use crate::config::Config;
use crate::port::Port;
use crate::registers::{CTRL_EXT, CTRL_EXT_DRV_LOAD, CTRL_RST, IVAR_VALID, RXCSUM_PCSD};
use crate::statistics::{Count, Counters};
use crate::{Fault, Link, Step};

/// The 82599 (Niantic).
pub(crate) static I82599: Ixgbe = Ixgbe { name: "Intel 82599", receive_kb: 512, has_lasers: true };
/// The X540 (Twinville): the MAC of the 82599 with less receive buffer and a copper PHY of its own.
pub(crate) static X540: Ixgbe = Ixgbe { name: "Intel X540", receive_kb: 384, has_lasers: false };

/// CTRL.LRST: link reset; with RST, all of the device but what belongs to management firmware (section 8.2.3.1.1).
const CTRL_LRST: u32 = 1 << 3;
/// CTRL_EXT.NS_DIS: no requests with the no-snoop attribute; this memory is cached (section 4.6.7).
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
/// RDRXCTL.RSCFRSTSIZE: to be cleared (section 4.6.7).
const RDRXCTL_RSCFRSTSIZE: u32 = 0x1F << 17;
/// RDRXCTL.RSCACKC and FCOE_WRFIX: to be set (section 4.6.7).
const RDRXCTL_FIXED: u32 = 1 << 25 | 1 << 26;
const RXCTRL: usize = 0x3000;
const RXCTRL_RXEN: u32 = 1;
const SECRXCTRL: usize = 0x8D00;
const SECRXCTRL_RX_DIS: u32 = 1 << 1;
const SECRXSTAT: usize = 0x8D04;
const SECRXSTAT_RDY: u32 = 1;
const RXPBSIZE: usize = 0x3C00;
const TXPBSIZE: usize = 0xCC00;
const TXPBTHRESH: usize = 0x4950;
/// Kilobytes of the transmit packet buffer.
const TRANSMIT_KB: u32 = 160;
const HLREG0: usize = 0x4240;
/// HLREG0: TXCRCEN, RXCRCSTRP, TXPADEN. Stripping the FCS is to be said here and in RDRXCTL, the same.
const HLREG0_WORKING: u32 = 1 | 1 << 1 | 1 << 10;
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
/// RXCSUM.IPPCSE with PCSD set has no meaning; the checks themselves are always on.
const RFCTL: usize = 0x5008;
const RFCTL_RSC_DIS: u32 = 1 << 5;
const RTTDCS: usize = 0x4900;
const RTTDCS_ARBDIS: u32 = 1 << 6;
const DTXMXSZRQ: usize = 0x8100;
/// Without DCB: as many bytes of requests as there can be (section 4.6.8.1).
const DTXMXSZRQ_MOST: u32 = 0xFFF;
const MTQC: usize = 0x8120;
const DMATXCTL: usize = 0x4A80;
const DMATXCTL_TE: u32 = 1;
const FCCFG: usize = 0x3D00;
const FCRTL: usize = 0x3220;
const FCRTH: usize = 0x3260;
const MFLCN: usize = 0x4294;
/// MFLCN.DPF: pause frames are dropped; RPFCE and RFCE, which obey them, are off.
const MFLCN_DPF: u32 = 1 << 1;
const AUTOC: usize = 0x42A0;
const AUTOC_RESTART: u32 = 1 << 12;
const LINKS: usize = 0x42A4;
const LINKS_UP: u32 = 1 << 30;
/// DCA_RXCTRL of the first 64 queues; bit 12 is to be cleared (section 4.6.7).
const DCA_RXCTRL: usize = 0x100C;
const DCA_RXCTRL_RESERVED: u32 = 1 << 12;

/// FCS and a VLAN tag, which MAXFRS counts.
const AROUND_FRAME: u32 = 8;
/// The longest frame with FCS of an Ethernet that has no jumbo frames.
const ETHERNET_FRAME: u32 = 1518;

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

/// Registers that count, and forget when they are read (section 8.2.3.23).
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
    has_lasers: bool,
}

impl Ixgbe {
    /// Section 4.6.7, but for queues and filters.
    fn start_receiver(&self, port: &Port) {
        port.write(RXCTRL, 0);
        // Frames of all VLANs are received: with the filter off, its table (VFTA) is nothing that need be cleared.
        port.update(VLNCTRL, VLNCTRL_VFE, 0);
        port.write(RXPBSIZE, self.receive_kb << 10);
        for buffer in 1..8 {
            port.write(RXPBSIZE + 4 * buffer, 0);
        }
        port.update(RDRXCTL, RDRXCTL_RSCFRSTSIZE, RDRXCTL_CRC_STRIP | RDRXCTL_FIXED);
        // Frames are not to be put together: their lengths would be nobody's.
        port.update(RFCTL, 0, RFCTL_RSC_DIS);
        port.write(RXCSUM, RXCSUM_PCSD);
        port.update(CTRL_EXT, 0, CTRL_EXT_NS_DIS);
        for queue in 0..usize::from(self.queues()) {
            port.update(DCA_RXCTRL + 0x40 * queue, DCA_RXCTRL_RESERVED, 0);
        }
        // Section 3.7.7.3: no flow control, in either direction.
        port.write(FCCFG, 0);
        port.write(MFLCN, MFLCN_DPF);
        for buffer in 0..8 {
            port.write(FCRTL + 4 * buffer, 0);
            port.write(FCRTH + 4 * buffer, 0);
        }
    }

    /// Section 4.6.8, but for queues.
    fn start_transmitter(&self, port: &Port) {
        // The arbiter stands still while what it goes by changes.
        port.update(RTTDCS, 0, RTTDCS_ARBDIS);
        port.write(DTXMXSZRQ, DTXMXSZRQ_MOST);
        port.write(TXPBSIZE, TRANSMIT_KB << 10);
        for buffer in 1..8 {
            port.write(TXPBSIZE + 4 * buffer, 0);
            port.write(TXPBTHRESH + 4 * buffer, 0);
        }
        // The longest frame has to fit behind the threshold.
        port.write(TXPBTHRESH, TRANSMIT_KB - (self.longest_frame() + AROUND_FRAME).div_ceil(1024));
        port.write(MTQC, 0);
        port.update(RTTDCS, RTTDCS_ARBDIS, 0);
        port.update(DMATXCTL, 0, DMATXCTL_TE);
    }

    /// Section 4.6.7, last: RXEN changes only while the path before it is empty.
    fn set_receiving(&self, port: &Port, on: bool) -> Result<(), Fault> {
        port.update(SECRXCTRL, 0, SECRXCTRL_RX_DIS);
        port.await_bits(Step::ReceivePath, SECRXSTAT, SECRXSTAT_RDY, SECRXSTAT_RDY)?;
        let (clear, set) = if on { (0, RXCTRL_RXEN) } else { (RXCTRL_RXEN, 0) };
        port.update(RXCTRL, clear, set);
        port.update(SECRXCTRL, SECRXCTRL_RX_DIS, 0);
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

    fn reset(&self, port: &Port) -> Result<(), Fault> {
        // Section 4.6.3.1: no interrupts during initialisation; and again, since the reset lets them through.
        let mask = || {
            port.write(LAYOUT.eimc, 0x7FFF_FFFF);
            port.write(EIMC_EX, u32::MAX);
            port.write(EIMC_EX + 4, u32::MAX);
        };
        port.alive()?;
        mask();
        // Nothing more is received while requests are stopped.
        port.write(RXCTRL, 0);
        port.reset(CTRL_RST | CTRL_LRST)?;
        mask();
        // Sections 4.6.3 and 4.6.7.
        port.await_bits(Step::Eeprom, EEC, EEC_AUTO_RD, EEC_AUTO_RD)?;
        port.await_bits(Step::DmaInit, RDRXCTL, RDRXCTL_DMAIDONE, RDRXCTL_DMAIDONE)?;
        port.update(CTRL_EXT, 0, CTRL_EXT_DRV_LOAD);
        Ok(())
    }

    fn start(&self, port: &Port) -> Result<(), Fault> {
        // Section 4.6.4: what the EEPROM says of the link is right; it only has to begin.
        if self.has_lasers {
            port.update(ESDP, ESDP_SDP3, 0);
            port.update(AUTOC, 0, AUTOC_RESTART);
        }
        self.start_receiver(port);
        self.start_transmitter(port);
        Ok(())
    }

    fn configure(&self, port: &Port, config: &Config) -> Result<(), Fault> {
        self.set_receiving(port, false)?;
        let with_fcs = config.frame_bytes + 4;
        let jumbo = if with_fcs > ETHERNET_FRAME { HLREG0_JUMBOEN } else { 0 };
        port.update(HLREG0, HLREG0_JUMBOEN | HLREG0_LPBK, HLREG0_WORKING | jumbo);
        port.write(MAXFRS, (config.frame_bytes + AROUND_FRAME) << 16);
        let bit = |on, bit| if on { bit } else { 0 };
        let filters =
            FCTRL_BAM | bit(config.promiscuous, FCTRL_UPE | FCTRL_MPE) | bit(config.all_multicast, FCTRL_MPE);
        port.write(FCTRL, filters);
        port.write(MCSTCTRL, MCSTCTRL_MFE);
        self.set_receiving(port, true)
    }

    fn route(&self, port: &Port, queue: u16, vector: u16) {
        // Section 8.2.3.5.10: a register has two queues, of each receive and transmit.
        let register = IVAR + 4 * usize::from(queue / 2);
        let shift = 16 * u32::from(queue % 2);
        let both = u32::from(vector) | IVAR_VALID;
        port.update(register, 0xFFFF << shift, (both << 8 | both) << shift);
    }

    fn route_link(&self, port: &Port) {
        port.write(IVAR_MISC, IVAR_VALID << 8);
        // A look at the link reads EICR, and would take the causes of all queues with it.
        port.update(LAYOUT.gpie, 0, GPIE_OCD);
        port.write(LAYOUT.eims, EICR_LSC);
        // Vectors above 15 have their bits here only; none of them is used.
        port.write(EIMS_EX + 4, 0);
    }

    fn link(&self, port: &Port) -> (Link, bool) {
        let changed = port.read(LAYOUT.eicr) & EICR_LSC != 0;
        if changed {
            port.write(LAYOUT.eicr, EICR_LSC);
        }
        let links = port.read(LINKS);
        let is_up = links & LINKS_UP != 0;
        let megabits = match links >> 28 & 0b11 {
            0b11 => 10_000,
            0b10 => 1_000,
            0b01 => 100,
            _ => 0,
        };
        (Link { is_up, megabits: if is_up { megabits } else { 0 }, changes: 0 }, changed)
    }

    fn count(&self, port: &Port, counters: &mut Counters) {
        counters.read(COUNTERS, |register| port.read(register));
    }

    fn throttle(&self, gap_us: u32) -> u32 {
        // Section 8.2.3.5.12: steps of 2 us from bit 3 on; CNT_WDIS keeps the counter as it is.
        (gap_us.div_ceil(2).min(0x1FF) << 3) | 1 << 31
    }
}
