//! [`Log`]: the record of QEMU's `blklogwrites`.
//!
//! The format is that of Linux's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst): a
//! superblock in the first sector, then entries of one sector each with their data behind them; numbers are
//! little-endian.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// The superblock's first eight bytes.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;

/// An operation on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// Its start, in bytes.
    pub(crate) offset: u64,
    /// Its length, in bytes.
    pub(crate) len: u64,
    /// All earlier operations are on the medium.
    pub(crate) flushes: bool,
    /// The operation itself is on the medium.
    pub(crate) is_durable: bool,
    /// The written bytes; `None` for discarded ones.
    pub(crate) data: Option<Vec<u8>>,
}

/// The recorded operations, in order.
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
}

impl Log {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).context("reading the record of writes")?;
        Self::parse(&bytes).context("the record of writes")
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let word = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().expect("eight bytes")))
        };
        ensure!(word(0) == Some(MAGIC), "is not one: its magic number is {:#x}", word(0).unwrap_or(0));
        let sector = word(24).context("ends in its superblock")? as u32;
        ensure!(sector >= 512 && sector.is_power_of_two(), "has sectors of {sector} bytes");
        let sector = u64::from(sector);
        let mut entries = Vec::new();
        let mut at = sector as usize;
        // The superblock's count of entries is as old as the last flush; further entries, or zeroes, follow.
        while let (Some(first), Some(count), Some(flags)) = (word(at), word(at + 8), word(at + 16)) {
            if count == 0 && flags == 0 {
                break;
            }
            let len = count.checked_mul(sector).context("has an entry that is too long")?;
            at += sector as usize;
            let data = if flags & DISCARD != 0 || count == 0 {
                None
            } else {
                // The machine was killed before the entry was complete, so the operation did not complete
                // either.
                let Some(data) = bytes.get(at..).and_then(|rest| rest.get(..usize::try_from(len).ok()?))
                else {
                    break;
                };
                at += data.len();
                Some(data.to_vec())
            };
            let offset = first.checked_mul(sector).context("has an entry beyond the address range")?;
            let (flushes, is_durable) = (flags & FLUSH != 0, flags & FUA != 0);
            entries.push(Entry { offset, len, flushes, is_durable, data });
        }
        Ok(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(words: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    #[test]
    fn entries_are_read_in_their_order() {
        let mut bytes = sector(&[MAGIC, 1, 3, 512]);
        bytes.extend(sector(&[4, 2, FUA, 0]));
        bytes.extend([7; 1024]);
        bytes.extend(sector(&[0, 0, FLUSH, 0]));
        bytes.extend(sector(&[9, 8, DISCARD, 0]));
        // An incomplete entry.
        bytes.extend(sector(&[1, 4, 0, 0]));
        bytes.extend([7; 512]);
        let log = Log::parse(&bytes).expect("it is one");
        let entry = |offset, len, flushes, is_durable, data| Entry { offset, len, flushes, is_durable, data };
        assert_eq!(
            log.entries,
            [
                entry(2048, 1024, false, true, Some(vec![7; 1024])),
                entry(0, 0, true, false, None),
                entry(9 * 512, 8 * 512, false, false, None),
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_record_is_refused() {
        assert!(Log::parse(&[]).is_err());
        assert!(Log::parse(&sector(&[MAGIC, 1, 0, 7])).is_err());
        let endless = [sector(&[MAGIC, 1, 1, 512]), sector(&[0, u64::MAX, 0, 0])].concat();
        assert!(Log::parse(&endless).is_err());
    }
}
