//! Physical Region Pages: the data pointer of a command (Base 4.1.1).

use coppice_hardware::{DmaAddr, DmaMemory, DmaRange};

/// The controller's page size, as set in CC.MPS.
pub(crate) const PAGE: usize = 4096;
/// The size of a PRP entry in bytes.
pub(crate) const ENTRY_BYTES: usize = 8;
/// The largest transfer of a command: the reach of one page of entries when the data begins at the end of a
/// page.
pub(crate) const MAX_TRANSFER_BYTES: usize = PAGE * (PAGE / ENTRY_BYTES);

/// Returns the size of a list for `bytes` of data. The size is a power of two, so that adjacent lists do not
/// cross a page boundary: a list that reached the end of its page would have to continue through a pointer.
/// It is at least the size of a deallocation's range.
pub(crate) fn list_bytes(bytes: usize) -> usize {
    (bytes.div_ceil(PAGE) * ENTRY_BYTES).next_power_of_two().max(16)
}

/// Returns PRP1 and PRP2 for `len` bytes at `offset` of `range`, which contains them, aligned to 4 bytes. A
/// list, if needed, is written at `list_at` of `lists`, where [`list_bytes`] are reserved for it.
///
/// Only the first entry may begin inside a page. PRP2 is the second page, or the address of a list if there
/// are more.
#[inline]
pub(crate) fn prps(
    range: &DmaRange,
    offset: usize,
    len: usize,
    lists: &mut DmaMemory,
    list_at: usize,
) -> (DmaAddr, Option<DmaAddr>) {
    let prp1 = range.addr(offset);
    let in_first = PAGE - (prp1.to_bits() as usize & (PAGE - 1));
    if len <= in_first {
        return (prp1, None);
    }
    if len <= in_first + PAGE {
        return (prp1, Some(range.addr(offset + in_first)));
    }
    (prp1, Some(list(range, offset + in_first, offset + len, lists, list_at)))
}

/// Writes entries for the pages from `start`, which is page-aligned, to `end`.
fn list(range: &DmaRange, start: usize, end: usize, lists: &mut DmaMemory, list_at: usize) -> DmaAddr {
    for (entry, page) in (start..end).step_by(PAGE).enumerate() {
        lists.write(list_at + entry * ENTRY_BYTES, range.addr(page).to_bits());
    }
    lists.addr(list_at)
}
