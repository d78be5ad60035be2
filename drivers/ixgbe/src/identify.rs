//! [`identify`]: selects the chip of a device by its PCI ids.

use coppice_hardware::DeviceInfo;

use crate::chip::Chip;
use crate::{IxgbeError, igb, ixgbe};

const INTEL: u16 = 0x8086;

/// Returns the chip of a device by its PCI ids (82599 datasheet, section 9.3.2, and the specification update;
/// the same for X540 and 82576).
pub(crate) fn identify(info: &DeviceInfo) -> Result<&'static dyn Chip, IxgbeError> {
    let unknown = IxgbeError::UnknownDevice { vendor: info.vendor, device: info.device };
    if info.vendor != INTEL {
        return Err(unknown);
    }
    match info.device {
        // KX4, KX4 mezzanine, combined backplane, CX4, SFI (SFP, its variants and the dual and quad port
        // ones), XAUI, T3.
        0x10F7 | 0x1514 | 0x10F8 | 0x10F9 | 0x10FB | 0x1507 | 0x151C | 0x1529 | 0x152A | 0x154A | 0x154D
        | 0x1557 | 0x1558 | 0x10FC | 0x1517 => Ok(&ixgbe::I82599),
        0x1528 | 0x1560 => Ok(&ixgbe::X540),
        // Copper, fibre, SerDes, the quad port ones, and those without an EEPROM.
        0x10C9 | 0x10E6 | 0x10E7 | 0x10E8 | 0x1526 | 0x150A | 0x1518 | 0x150D => Ok(&igb::I82576),
        _ => Err(unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chips_are_identified_by_their_ids_and_others_are_refused() {
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
