//! [`Serial`]: the devices behind serial interfaces: the EEPROM, the PHY's registers, the module in the port.

use std::sync::{Mutex, PoisonError};

use crate::eeprom;
use crate::i2c::Module;
use crate::map::{EEC, EEC_GRANT, EEC_REQUEST, EERD, EEWR, I2CCTL, MSCA, MSCA_COMMAND, MSRWD};
use crate::registers::Image;

/// EEC after a reset: EEPROM present (8), read automatically (9), and its size (14:11).
pub(crate) const EEC_VALUE: u32 = 1 << 8 | 1 << 9 | eeprom::SIZE_CODE << 11;
/// Bits of EERD and EEWR: start, done; the address is from bit 2 on, data from bit 16 on (section 8.2.3.2.2).
const START: u32 = 1;
const DONE: u32 = 1 << 1;

/// The EEPROM, and either a module or a PHY.
pub(crate) struct Serial {
    words: Mutex<Box<[u16]>>,
    module: Mutex<Module>,
    has_phy: bool,
}

impl Serial {
    /// Serial devices with a copper PHY if `has_phy`, else with a module.
    pub(crate) fn new(mac: [u8; 6], device: u16, has_phy: bool) -> Self {
        Self { words: Mutex::new(eeprom::build(mac, device)), module: Mutex::new(Module::new()), has_phy }
    }

    pub(crate) fn write(&self, offset: u64, value: u32, image: &Image) {
        match offset {
            EERD => {
                let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
                let word = words.get((value >> 2 & 0x3fff) as usize).copied().unwrap_or(0xffff);
                image.set(EERD, value & 0xfffc | DONE | u32::from(word) << 16);
            }
            EEWR if value & START != 0 => {
                let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(word) = words.get_mut((value >> 2 & 0x3fff) as usize) {
                    *word = (value >> 16) as u16;
                }
                image.set(EEWR, value & 0xffff_fffc | DONE);
            }
            // Direct access is granted at once. Its pins are not connected, since EERD reads the whole
            // EEPROM.
            EEC => {
                let grant = if value & EEC_REQUEST != 0 { EEC_GRANT } else { 0 };
                image.set(EEC, value & (EEC_REQUEST | 0xf) | EEC_VALUE | grant);
            }
            MSCA => {
                image.set(MSCA, value & !MSCA_COMMAND);
                if value & MSCA_COMMAND != 0 {
                    // A read leaves its data in the upper half (section 8.2.3.22.12).
                    let read = self.phy_register(value);
                    image.change(MSRWD, 0xffff_0000, u32::from(read) << 16);
                }
            }
            I2CCTL => {
                image.set(I2CCTL, value);
                if !self.has_phy {
                    self.module.lock().unwrap_or_else(PoisonError::into_inner).drive(value);
                }
            }
            _ => {}
        }
    }

    /// Reads I2CCTL: the state of both lines.
    pub(crate) fn i2c_lines(&self, written: u32) -> u32 {
        self.module.lock().unwrap_or_else(PoisonError::into_inner).lines(written)
    }

    /// Reads a PHY register (IEEE 802.3, clause 45). Only those that identify an X540's PHY and its state
    /// have a value.
    fn phy_register(&self, command: u32) -> u16 {
        // The device identifiers of an X540's PHY, in PMA/PMD (device 1).
        match (self.has_phy, command >> 16 & 0x1f, command & 0xffff) {
            (true, 1, 2) => 0x0154,
            (true, 1, 3) => 0x0200,
            // PMA/PMD speed ability: 10G and 1G.
            (true, 1, 4) => 0x0011,
            // Auto-negotiation (device 7) status: complete, link up, able.
            (true, 7, 1) => 0x002c,
            (true, _, _) => 0,
            // No PHY drives the line.
            (false, _, _) => 0xffff,
        }
    }
}
