//! The frame check sequence (IEEE 802.3, section 3.2.9), for drivers that turn its stripping off.

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// Returns the FCS of a frame; it is stored little-endian at the end.
pub(crate) fn fcs(frame: &[u8]) -> u32 {
    !frame.iter().fold(!0, |value, byte| value >> 8 ^ TABLE[((value ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_is_that_of_the_standard() {
        assert_eq!(super::fcs(b"123456789"), 0xcbf4_3926);
    }
}
