//! The 82576. Section numbers are the 82576 datasheet's (revision 2.87).

use crate::chip::{Chip, Layout};
use crate::config::Config;
use crate::register_block::RegisterBlock;
use crate::registers::{
    CTRL, CTRL_EXT, CTRL_EXT_DRV_LOAD, CTRL_RST, IVAR_VALID, RAH_AV, RXCSUM_PCSD, STATUS,
};
use crate::statistics::{Count, Counters};
use crate::{Fault, Link, Step};

/// The 82576 (Kawela).
pub(crate) static I82576: Igb = Igb;

/// CTRL.SLU: set link up; the PHY negotiates by itself (section 4.5.7).
const CTRL_SLU: u32 = 1 << 6;
/// Cleared in CTRL: FRCSPD and FRCDPLX (nothing is forced), RFCE and TFCE (no flow control).
const CTRL_CLEARED: u32 = 1 << 11 | 1 << 12 | 1 << 27 | 1 << 28;
const STATUS_LINK_UP: u32 = 1 << 1;
const EECD: usize = 0x0010;
const EECD_AUTO_RD: u32 = 1 << 9;
/// MDIC accesses the PHY (section 8.2.4): data, register (20:16), PHY (25:21), operation (27:26), ready.
const MDIC: usize = 0x0020;
const MDIC_INTERNAL_PHY: u32 = 1 << 21;
const MDIC_WRITE: u32 = 0b01 << 26;
const MDIC_READY: u32 = 1 << 28;
/// Register 0 of each PHY (IEEE 802.3, 22.2.4.1): enable and restart auto-negotiation.
const PHY_NEGOTIATE: u32 = 1 << 12 | 1 << 9;
/// The time after a reset within which an existing link is reported again.
const LINK_WAIT_NS: u64 = 1_000_000;
const ICR: usize = 0x1500;
const IMS: usize = 0x1508;
const IMC: usize = 0x150C;
/// ICR.LSC, IMS.LSC.
const LSC: u32 = 1 << 2;
const IVAR: usize = 0x1700;
const IVAR_MISC: usize = 0x1740;
const RCTL: usize = 0x0100;
const RCTL_RXEN: u32 = 1 << 1;
const RCTL_UPE: u32 = 1 << 3;
const RCTL_MPE: u32 = 1 << 4;
const RCTL_LPE: u32 = 1 << 5;
const RCTL_BAM: u32 = 1 << 15;
const RCTL_SECRC: u32 = 1 << 26;
const TCTL: usize = 0x0400;
/// TCTL: EN, PSP, and the collision threshold for half duplex (section 8.12.1).
const TCTL_BASE: u32 = 1 << 1 | 1 << 3 | 0xF << 4 | 0x40 << 12;
const RLPML: usize = 0x5004;
const RXCSUM: usize = 0x5000;
/// RXCSUM.IPOFLD, TUOFLD: checks of both kinds of checksums.
const RXCSUM_CHECKS: u32 = 1 << 8 | 1 << 9;
const VFTA: usize = 0x5600;
const FCRTL: usize = 0x2160;
const FCRTH: usize = 0x2168;
const MAX_STANDARD_FRAME: u32 = 1518;
const FRAME_OVERHEAD: u32 = 8;
/// RQDPC of queue 0: frames dropped for lack of a descriptor.
const RQDPC: usize = 0xC030;

static LAYOUT: Layout = Layout {
    receive: (0xC000, 0x40),
    srrctl: 0x0C,
    srrctl_drop: 1 << 31,
    transmit: (0xE000, 0x40),
    mta: 0x5200,
    ral: 0x5400,
    mrqc: 0x5818,
    mrqc_rss: 0b010,
    reta: 0x5C00,
    rssrk: 0x5C80,
    eicr: 0x1580,
    eims: 0x1524,
    eimc: 0x1528,
    eiac: 0x152C,
    eiam: 0x1530,
    gpie: 0x1514,
    eitr: 0x1680,
};

/// Clear-on-read counters (section 8.18).
const COUNTERS: [(usize, Count); 15] = [
    (0x4000, Count::Damaged),       // CRCERRS
    (0x4004, Count::Damaged),       // ALGNERRC
    (0x400C, Count::Damaged),       // RXERRC
    (0x4010, Count::Missed),        // MPC
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
];

pub(crate) struct Igb;

impl Chip for Igb {
    fn name(&self) -> &'static str {
        "Intel 82576"
    }

    fn layout(&self) -> &'static Layout {
        &LAYOUT
    }

    fn reset(&self, regs: &RegisterBlock) -> Result<(), Fault> {
        // Section 4.5.3: interrupts are masked during initialisation; and once more, because the reset
        // unmasks them.
        let mask = || {
            regs.write(IMC, u32::MAX);
            regs.write(LAYOUT.eimc, u32::MAX);
        };
        regs.check_alive()?;
        mask();
        regs.write(RCTL, 0);
        regs.reset(CTRL_RST)?;
        mask();
        // Section 4.5.4. QEMU's igb never sets the bit, but has the address from the EEPROM at once.
        let read = || {
            let done = regs.read(EECD) & EECD_AUTO_RD != 0 || regs.read(LAYOUT.ral + 4) & RAH_AV != 0;
            done.then_some(())
        };
        if driver_polling::until(&regs.device, regs.options.step_timeout_ns, read).is_none() {
            let register = EECD as u32;
            return Err(Fault::Stuck { step: Step::Eeprom, register, value: regs.read(EECD) });
        }
        regs.check_alive()?;
        regs.update(CTRL_EXT, 0, CTRL_EXT_DRV_LOAD);
        Ok(())
    }

    fn start(&self, regs: &RegisterBlock) -> Result<(), Fault> {
        // Section 4.5.7: the PHY negotiates, and the MAC uses the result.
        regs.update(CTRL, CTRL_CLEARED, CTRL_SLU);
        let link = || (regs.read(STATUS) & STATUS_LINK_UP != 0).then_some(());
        if driver_polling::until(&regs.device, LINK_WAIT_NS, link).is_none() {
            // A reset of the MAC does not affect the PHY. So there is no link, or one that has to be
            // negotiated again, as on QEMU.
            regs.write(MDIC, PHY_NEGOTIATE | MDIC_INTERNAL_PHY | MDIC_WRITE);
            regs.await_bits(Step::Phy, MDIC, MDIC_READY, MDIC_READY)?;
        }
        regs.write(FCRTL, 0);
        regs.write(FCRTH, 0);
        for index in 0..128 {
            regs.write(VFTA + 4 * index, 0);
        }
        regs.write(RXCSUM, RXCSUM_PCSD | RXCSUM_CHECKS);
        // Section 4.5.10.
        regs.write(TCTL, TCTL_BASE);
        Ok(())
    }

    fn configure(&self, regs: &RegisterBlock, config: &Config) -> Result<(), Fault> {
        let bit = |on, bit| if on { bit } else { 0 };
        regs.write(RLPML, config.frame_bytes + FRAME_OVERHEAD);
        let control = RCTL_RXEN
            | RCTL_BAM
            | RCTL_SECRC
            | bit(config.frame_bytes + 4 > MAX_STANDARD_FRAME, RCTL_LPE)
            | bit(config.promiscuous, RCTL_UPE | RCTL_MPE)
            | bit(config.all_multicast, RCTL_MPE);
        regs.write(RCTL, control);
        Ok(())
    }

    fn route(&self, regs: &RegisterBlock, queue: u16, vector: u16) {
        // Section 8.8.15: register n has queue n in its lower half and queue n + 8 in the upper.
        let register = IVAR + 4 * usize::from(queue % 8);
        let shift = 16 * u32::from(queue / 8);
        let both = u32::from(vector) | IVAR_VALID;
        regs.update(register, 0xFFFF << shift, (both << 8 | both) << shift);
    }

    fn route_link(&self, regs: &RegisterBlock) {
        regs.write(IVAR_MISC, IVAR_VALID << 8);
        regs.write(IMS, LSC);
        regs.write(LAYOUT.eims, 1);
    }

    fn link(&self, regs: &RegisterBlock) -> (Link, bool) {
        // Reading ICR clears it (section 8.8.9).
        let changed = regs.read(ICR) & LSC != 0;
        let status = regs.read(STATUS);
        let is_up = status & STATUS_LINK_UP != 0;
        let megabits = match status >> 6 & 0b11 {
            0b00 => 10,
            0b01 => 100,
            _ => 1_000,
        };
        (Link { is_up, megabits: if is_up { megabits } else { 0 }, changes: 0 }, changed)
    }

    fn count(&self, regs: &RegisterBlock, counters: &mut Counters) {
        let dropped = (0..usize::from(self.queues())).map(|queue| (RQDPC + 0x40 * queue, Count::Missed));
        counters.read(COUNTERS.into_iter().chain(dropped), |register| regs.read(register));
    }

    fn throttle(&self, gap_us: u32) -> u32 {
        // Section 8.8.14: microseconds from bit 2 on; CNT_INGR leaves the counter unchanged.
        (gap_us.min(0xFFF) << 2) | 1 << 31
    }
}
