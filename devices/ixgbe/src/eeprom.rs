//! The contents of the EEPROM (82599 datasheet, chapter 6).

/// The number of words of 16 bits: 8 KiB.
pub(crate) const WORDS: usize = 4096;
/// The value of EEC.EE_Size: 2^(this + 6) words.
pub(crate) const SIZE_CODE: u32 = 6;
/// The sum of the words from 0 to 0x3f and of the sections that they point to (section 6.3.4).
const CHECKSUM: u16 = 0xbaba;
const CHECKSUM_WORD: usize = 0x3f;
/// The pointers to the sections that are part of the sum.
const POINTERS: std::ops::Range<usize> = 0x03..0x0f;

/// Builds the words of a device with MAC address `mac`.
pub(crate) fn build(mac: [u8; 6], device: u16) -> Box<[u16]> {
    let mut words = vec![0xffff_u16; WORDS].into_boxed_slice();
    words[..=CHECKSUM_WORD].fill(0);
    // Signature "valid" in control word 1, bits 7:6 (section 6.3.1.1).
    words[0] = 0x0040;
    for pointer in POINTERS {
        words[pointer] = 0xffff;
    }
    // The firmware section points to the patch section, which holds the version: Linux's driver takes version
    // 5 and older for hardware that was never sold.
    words[0x0f] = FIRMWARE as u16;
    words[FIRMWARE + 4] = PATCH as u16;
    words[PATCH + 7] = 6;
    // The printed board assembly number, as hexadecimal digits of the words.
    words[0x15] = 0x0c0c;
    words[0x16] = 0x0100;
    // Alternate MAC addresses, SAN MAC address, thermal sensors, alternate SAN MAC: none.
    for pointer in [0x26, 0x27, 0x28, 0x37] {
        words[pointer] = 0xffff;
    }
    // The version that tools display.
    words[0x2d] = 0x0001;
    words[0x2e] = 0x8000;
    // Device capabilities: any SFP+ module is allowed, and there is no cross talk between a port without
    // module and its neighbour.
    words[0x2c] = 1 | 1 << 7;
    words[0x1a] = device;
    // The port setup for each kind of module: none is needed (section 6.5 leaves it to software).
    words[0x2b] = MODULES as u16;
    for kind in 0..MODULE_KINDS {
        words[MODULES + 1 + 2 * kind] = kind as u16;
        words[MODULES + 2 + 2 * kind] = (MODULES + 2 * MODULE_KINDS + 4) as u16;
    }
    // The MAC block, section 4.1: the source of the address. Drivers read RAL0 and RAH0, which hold it after
    // a reset.
    let at = 0x100;
    for (index, pair) in mac.as_chunks::<2>().0.iter().enumerate() {
        words[at + index] = u16::from_le_bytes(*pair);
    }
    let sum = words[..CHECKSUM_WORD].iter().fold(0_u16, |sum, word| sum.wrapping_add(*word));
    words[CHECKSUM_WORD] = CHECKSUM.wrapping_sub(sum);
    words
}

/// The sections of the firmware, which are not part of the sum.
const FIRMWARE: usize = 0x180;
const PATCH: usize = 0x190;
/// The list of module kinds, and its length.
const MODULES: usize = 0x80;
const MODULE_KINDS: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_valid() {
        let words = build([2, 0, 0, 0, 0, 1], 0x10fb);
        let sum = words[..=CHECKSUM_WORD].iter().fold(0_u16, |sum, word| sum.wrapping_add(*word));
        assert_eq!(sum, 0xbaba);
        // There is no section, whose words would be part of the sum.
        assert!(words[POINTERS].iter().all(|pointer| *pointer == 0xffff));
    }
}
