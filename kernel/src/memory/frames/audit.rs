//! The frame allocator's part of the audit: compares its table, its free lists and its counters.

use core::fmt;

use coppice_abi::SLOT_LIMIT;

use super::{FRAMES, FrameInfo, FrameOwner, Frames, ORDERS};

/// Frame counts by owner.
pub(crate) struct Tally {
    pub(crate) total: usize,
    pub(crate) free: usize,
    pub(crate) shared: usize,
    pub(crate) stacks: usize,
    /// Frames of the allocator's own table, and page 0.
    pub(crate) own: usize,
    /// Frames by slot. Slot 1 is the kernel's, and includes `own`.
    pub(crate) slots: [usize; SLOT_LIMIT],
}

/// Walks every block, and reports each inconsistency.
pub(crate) fn audit(report: &mut dyn FnMut(fmt::Arguments<'_>)) -> Tally {
    FRAMES.lock().audit(report)
}

impl Frames {
    pub(super) fn audit(&self, report: &mut dyn FnMut(fmt::Arguments<'_>)) -> Tally {
        let mut tally =
            Tally { total: self.total, free: 0, shared: 0, stacks: 0, own: self.own, slots: [0; SLOT_LIMIT] };
        let mut blocks = [0_usize; ORDERS];
        let mut unowned = 0;
        let mut index = 0;
        while let Some(info) = self.info.get(index) {
            let frame = self.first + index;
            let len = match (info.used as usize, info.free as usize) {
                (0, 0) => {
                    unowned += 1;
                    1
                }
                (used, 0) => {
                    self.add_used(&mut tally, frame, *info, report);
                    used
                }
                (0, free @ 1..=ORDERS) => {
                    blocks[free - 1] += 1;
                    tally.free += 1 << (free - 1);
                    if frame.trailing_zeros() < free as u32 - 1 {
                        report(format_args!("frame {frame:#x} starts a free block of order {}", free - 1));
                    }
                    1 << (free - 1)
                }
                (used, free) => {
                    report(format_args!("frame {frame:#x} is in use ({used}) and free ({free})"));
                    1
                }
            };
            let inside = self.info.get(index + 1..index + len);
            match inside.map(|inside| inside.iter().position(|info| info.used != 0 || info.free != 0)) {
                None => report(format_args!("the block at frame {frame:#x} is {len} frames long")),
                Some(Some(other)) => {
                    let other = frame + 1 + other;
                    report(format_args!("the block at frame {frame:#x} overlaps the block at {other:#x}"));
                }
                Some(None) => {}
            }
            index += len;
        }
        // Gaps between the ranges that the machine reported.
        let gaps = self.info.len() - self.total;
        if unowned != gaps {
            report(format_args!("{unowned} frames are in no block, and {gaps} are not the machine's"));
        }
        if tally.free != self.available {
            report(format_args!(
                "{} frames are free, and {} are counted as such",
                tally.free, self.available
            ));
        }
        for (order, &count) in blocks.iter().enumerate() {
            self.check_list(order, count, report);
        }
        tally
    }

    fn add_used(
        &self,
        tally: &mut Tally,
        frame: usize,
        info: FrameInfo,
        report: &mut dyn FnMut(fmt::Arguments<'_>),
    ) {
        let count = match FrameOwner(info.owner) {
            FrameOwner::SHARED => &mut tally.shared,
            FrameOwner::STACKS => &mut tally.stacks,
            FrameOwner(slot) if (1..SLOT_LIMIT).contains(&slot.into()) => &mut tally.slots[usize::from(slot)],
            FrameOwner(owner) => {
                return report(format_args!("the block at frame {frame:#x} is owned by {owner:#x}"));
            }
        };
        *count += info.used as usize;
    }

    /// Checks that the free list of an order holds exactly the free blocks of the table, with correct links.
    fn check_list(&self, order: usize, count: usize, report: &mut dyn FnMut(fmt::Arguments<'_>)) {
        let (mut at, mut previous, mut found) = (self.free[order], None, 0);
        while let Some(block) = at {
            let frame =
                (block.as_ptr() as usize).wrapping_sub(self.offset) / crate::platform::machine::PAGE_SIZE;
            let info = frame.checked_sub(self.first).and_then(|index| self.info.get(index));
            if info.is_none_or(|info| info.free as usize != order + 1) || found == count {
                // The links of such a block mean nothing, so the walk ends.
                return report(format_args!(
                    "the list of order {order} has frame {frame:#x}, which is not a free block of that order"
                ));
            }
            // SAFETY: the table says that the block is free, so it is the allocator's and `link` wrote its
            // links.
            let links = unsafe { block.read() };
            if links.previous != previous {
                report(format_args!("frame {frame:#x} in the list of order {order} has a wrong back link"));
            }
            (at, previous, found) = (links.next, Some(block), found + 1);
        }
        if found != count {
            report(format_args!("the list of order {order} has {found} blocks, and the table has {count}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{Layout, alloc_zeroed};

    use super::*;
    use crate::platform::machine::PAGE_SIZE;

    const PAGES: usize = 300;

    /// An allocator over host memory, with blocks of each kind of owner, and free ones. The memory is never
    /// freed.
    fn fixture() -> Frames {
        let layout = Layout::from_size_align(PAGES * PAGE_SIZE, 64 << 20).expect("a layout");
        // SAFETY: the layout is not empty.
        let memory = unsafe { alloc_zeroed(layout) };
        let first = memory.expose_provenance() / PAGE_SIZE;
        let info = vec![FrameInfo::default(); PAGES].leak();
        let mut frames =
            Frames { first, info, free: [None; ORDERS], total: PAGES, available: 0, offset: 0, own: 0 };
        frames.give_range(first..first + PAGES);
        for (count, owner) in [
            (5, FrameOwner::KERNEL),
            (16, FrameOwner::SHARED),
            (33, FrameOwner::STACKS),
            (7, FrameOwner::domain(9)),
        ] {
            frames.take(count, owner).expect("there is room");
        }
        let hole = frames.take(3, FrameOwner::domain(2)).expect("there is room");
        frames.take(1, FrameOwner::domain(2)).expect("there is room");
        frames.give(hole.cast());
        frames
    }

    fn findings(frames: &Frames) -> Vec<String> {
        let mut findings = Vec::new();
        frames.audit(&mut |finding| findings.push(finding.to_string()));
        findings
    }

    /// The index of the first table entry that `is_wanted` selects.
    fn block(frames: &Frames, is_wanted: impl Fn(&FrameInfo) -> bool) -> usize {
        frames.info.iter().position(is_wanted).expect("the fixture has one")
    }

    #[test]
    fn consistent_table_gives_no_finding_and_every_frame_has_an_owner() {
        let frames = fixture();
        assert_eq!(findings(&frames), [""; 0]);
        let tally = frames.audit(&mut |_| {});
        let slots: usize = tally.slots.iter().sum();
        assert_eq!(
            (tally.shared, tally.stacks, tally.slots[1], tally.slots[2], tally.slots[9]),
            (16, 33, 5, 1, 7)
        );
        assert_eq!(tally.free + tally.shared + tally.stacks + slots, PAGES);
    }

    #[test]
    fn each_inconsistency_is_found() {
        type Break = fn(&mut Frames);
        let breaks: [(&str, Break); 9] = [
            ("counted as such", |frames| frames.available += 1),
            ("not the machine's", |frames| frames.total -= 1),
            ("owned by 0x0", |frames| {
                let at = block(frames, |info| info.used == 5);
                frames.info[at].owner = 0;
            }),
            ("in no block", |frames| {
                let at = block(frames, |info| info.used == 7);
                frames.info[at] = FrameInfo::default();
            }),
            ("overlaps", |frames| {
                let at = block(frames, |info| info.used == 16);
                frames.info[at + 3] = FrameInfo { used: 1, owner: 2, ..FrameInfo::default() };
            }),
            ("is in use (33) and free (2)", |frames| {
                let at = block(frames, |info| info.used == 33);
                frames.info[at].free = 2;
            }),
            ("frames long", |frames| {
                let at = frames.info.len() - 1;
                let last = (0..=at).rev().find(|&at| frames.info[at].free != 0).expect("something is free");
                frames.info[last] = FrameInfo { used: 1000, owner: 2, ..FrameInfo::default() };
            }),
            ("which is not a free block of that order", |frames| {
                let order =
                    (0..ORDERS).find(|&order| frames.free[order].is_some()).expect("something is free");
                frames.free[order + 1] = frames.free[order];
            }),
            ("has a wrong back link", |frames| {
                let mut block = frames.free.iter().flatten().copied().next().expect("something is free");
                // SAFETY: a free block is the allocator's.
                unsafe { block.as_mut() }.previous = Some(block);
            }),
        ];
        for (expected, break_it) in breaks {
            let mut frames = fixture();
            break_it(&mut frames);
            let found = findings(&frames);
            assert!(found.iter().any(|finding| finding.contains(expected)), "{expected}: {found:?}");
        }
    }
}
