//! Access to structures in physical memory, for the parsers.

/// Readable physical memory.
pub trait PhysicalMemory {
    /// Returns the `len` bytes at `address`, or `None` if they cannot be reached.
    fn bytes(&self, address: u64, len: usize) -> Option<&[u8]>;
}

/// Little-endian fields of a byte slice; `None` past its end.
pub(crate) trait Fields {
    fn u8_at(&self, offset: usize) -> Option<u8>;
    fn u16_at(&self, offset: usize) -> Option<u16>;
    fn u32_at(&self, offset: usize) -> Option<u32>;
    fn u64_at(&self, offset: usize) -> Option<u64>;
}

impl Fields for [u8] {
    fn u8_at(&self, offset: usize) -> Option<u8> {
        self.get(offset).copied()
    }

    fn u16_at(&self, offset: usize) -> Option<u16> {
        self.get(offset..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32_at(&self, offset: usize) -> Option<u32> {
        self.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64_at(&self, offset: usize) -> Option<u64> {
        self.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
    }
}

/// Returns the bytes of a NUL-terminated string, without the NUL; at most `limit` of them.
pub(crate) fn c_string(memory: &impl PhysicalMemory, address: u64, limit: usize) -> Option<&[u8]> {
    let mut len = 0;
    while len < limit && memory.bytes(address.checked_add(len as u64)?, 1)? != [0] {
        len += 1;
    }
    memory.bytes(address, len)
}

#[cfg(test)]
pub(crate) mod fake {
    use super::PhysicalMemory;

    /// Memory of a few separate ranges.
    #[derive(Default)]
    pub(crate) struct FakeMemory(pub(crate) Vec<(u64, Vec<u8>)>);

    impl PhysicalMemory for FakeMemory {
        fn bytes(&self, address: u64, len: usize) -> Option<&[u8]> {
            self.0.iter().find_map(|(start, bytes)| {
                let offset = usize::try_from(address.checked_sub(*start)?).ok()?;
                bytes.get(offset..offset.checked_add(len)?)
            })
        }
    }
}
