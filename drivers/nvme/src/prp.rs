//! Physical Region Pages: how a command says where its memory is (Base 4.1.1).

use coppice_hardware::{DmaAddr, DmaMemory, DmaRange};

/// The controller's page, as CC.MPS is set.
pub(crate) const PAGE: usize = 4096;
/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 8;
/// So much a command can move at most: what one page of entries reaches when the memory begins at the end of a page.
pub(crate) const MOST_BYTES: usize = PAGE * (PAGE / ENTRY_BYTES);

/// Bytes of a list for `bytes` of data, rounded up so that lists lie in one page when they lie behind each other: a list that
/// reached a page's end would have to go on elsewhere by a pointer. Never less than a deallocation's range takes.
pub(crate) fn list_bytes(bytes: usize) -> usize {
    (bytes.div_ceil(PAGE) * ENTRY_BYTES).next_power_of_two().max(16)
}

/// PRP1 and PRP2 for `len` bytes at `offset` of `range`, which has them, aligned to 4 bytes. A list, if it takes one, is
/// written at `list_at` of `lists`, where there are [`list_bytes`] for it.
///
/// Only the first entry may begin inside a page. PRP2 is the second page, or, if there are more, the list's address.
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

/// Writes the pages from `start`, which is aligned to one, to `end`.
fn list(range: &DmaRange, start: usize, end: usize, lists: &mut DmaMemory, list_at: usize) -> DmaAddr {
    for (entry, page) in (start..end).step_by(PAGE).enumerate() {
        lists.write(list_at + entry * ENTRY_BYTES, range.addr(page).to_bits());
    }
    lists.addr(list_at)
}
