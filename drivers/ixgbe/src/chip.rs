//! [`Chip`]: what differs between the chips. The ring engine knows nothing of it but [`Layout`].

use coppice_hardware::DeviceInfo;

use crate::port::Port;
use crate::statistics::Counters;
use crate::{Config, Fault, IxgbeError, Link, igb, ixgbe};

/// Where each chip has what they have in common.
pub(crate) struct Layout {
    /// The first register of receive queue 0, and how far the next is.
    pub(crate) receive: (usize, usize),
    /// SRRCTL, from a receive queue's first register on.
    pub(crate) srrctl: usize,
    /// SRRCTL.Drop_En: without a descriptor a frame is dropped, and does not hold up those of other queues.
    pub(crate) srrctl_drop: u32,
    pub(crate) transmit: (usize, usize),
    /// MTA, 128 words.
    pub(crate) mta: usize,
    /// RAL of the first address; RAH is behind it.
    pub(crate) ral: usize,
    pub(crate) mrqc: usize,
    /// MRQC with RSS on.
    pub(crate) mrqc_rss: u32,
    /// RETA, 32 words.
    pub(crate) reta: usize,
    /// RSSRK, 10 words.
    pub(crate) rssrk: usize,
    /// EICR, whose bits are cleared by writing them.
    pub(crate) eicr: usize,
    /// EIMS: a bit that is written has the vector's messages sent.
    pub(crate) eims: usize,
    /// EIMC: no longer.
    pub(crate) eimc: usize,
    /// EIAC: a cause is cleared when its message is sent.
    pub(crate) eiac: usize,
    /// EIAM: with GPIE.EIAME, a vector is masked when its message is sent.
    pub(crate) eiam: usize,
    pub(crate) gpie: usize,
    /// EITR of vector 0; the others follow.
    pub(crate) eitr: usize,
}

/// What only one kind of chip does.
pub(crate) trait Chip: Sync {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Where things are.
    fn layout(&self) -> &'static Layout;

    /// How many queues take part in RSS.
    fn queues(&self) -> u16 {
        16
    }

    /// The longest frame, without VLAN tag and FCS.
    fn longest_frame(&self) -> u32 {
        // 9.5 KiB (82599 datasheet, section 1.3; 82576 datasheet, section 1.5), with both.
        9728 - 8
    }

    /// Resets it, and waits until it has read its EEPROM and can be set up.
    fn reset(&self, port: &Port) -> Result<(), Fault>;

    /// Sets up all that no configuration changes, with the receiver off.
    fn start(&self, port: &Port) -> Result<(), Fault>;

    /// Sets up filters and sizes, and switches receiver and transmitter on.
    fn configure(&self, port: &Port, config: &Config) -> Result<(), Fault>;

    /// Has queue `queue` send messages of `vector`.
    fn route(&self, port: &Port, queue: u16, vector: u16);

    /// Has a changed link send messages of vector 0.
    fn route_link(&self, port: &Port);

    /// How it is connected, `changes` left to the caller; and whether it has changed since this was last asked.
    fn link(&self, port: &Port) -> (Link, bool);

    /// Adds what its registers have counted, and empties them.
    fn count(&self, port: &Port, counters: &mut Counters);

    /// What interrupts may be throttled to: EITR for a gap of so many microseconds.
    fn throttle(&self, gap_us: u32) -> u32;
}

const INTEL: u16 = 0x8086;

/// The chip that a device is (82599 datasheet, section 9.3.2 and the specification update; X540 and 82576 likewise).
pub(crate) fn identify(info: &DeviceInfo) -> Result<&'static dyn Chip, IxgbeError> {
    let unknown = IxgbeError::UnknownDevice { vendor: info.vendor, device: info.device };
    if info.vendor != INTEL {
        return Err(unknown);
    }
    match info.device {
        // KX4, KX4 mezzanine, combined backplane, CX4, SFI (SFP, its variants and the dual and quad port ones), XAUI, T3.
        0x10F7 | 0x1514 | 0x10F8 | 0x10F9 | 0x10FB | 0x1507 | 0x151C | 0x1529 | 0x152A | 0x154A | 0x154D
        | 0x1557 | 0x1558 | 0x10FC | 0x1517 => Ok(&ixgbe::I82599),
        0x1528 | 0x1560 => Ok(&ixgbe::X540),
        // Copper, fibre, SerDes, the quad port ones, and without an EEPROM.
        0x10C9 | 0x10E6 | 0x10E7 | 0x10E8 | 0x1526 | 0x150A | 0x1518 | 0x150D => Ok(&igb::I82576),
        _ => Err(unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_are_known_by_their_ids_and_others_are_refused_with_theirs() {
        let info = |vendor, device| DeviceInfo { vendor, device, ..DeviceInfo::default() };
        let name = |device| identify(&info(INTEL, device)).map(Chip::name);
        assert_eq!(name(0x10FB), Ok("Intel 82599"));
        assert_eq!(name(0x1528), Ok("Intel X540"));
        assert_eq!(name(0x10C9), Ok("Intel 82576"));
        for (vendor, device) in [(INTEL, 0x100E), (0x1AF4, 0x10FB), (0, 0)] {
            let error = identify(&info(vendor, device)).err();
            assert_eq!(error, Some(IxgbeError::UnknownDevice { vendor, device }));
        }
    }
}
