//! Frames: physical memory and its owners.
//!
//! A buddy allocator over all ranges that the machine reports. Each block in use has an owner, so the audit
//! can attribute every frame of the machine at any time. Blocks are exact: the part by which a power of two
//! exceeds the request is freed at once. We keep our own allocator because `buddy_system_allocator` searches
//! its free lists on every free and knows no owners.

mod audit;

use core::ops::Range;
use core::ptr::NonNull;

use crate::platform::machine::{Machine, PAGE_SIZE, PhysAddr};
use crate::platform::sync::Lock;
pub(crate) use audit::{Tally, audit};

/// Number of orders. The largest block has 2^14 frames, 64 MiB.
const ORDERS: usize = 15;

/// The divisor of the kernel's reserve: this part of the machine's memory is kept for the kernel, because
/// quotas may add up to more than there is, and a kernel that gets no memory can only panic.
const RESERVE_DIVISOR: usize = 64;

/// The owner of a block: a slot, or one of the constants below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub(crate) struct FrameOwner(u16);

impl FrameOwner {
    /// The kernel's own tables and heap.
    pub(crate) const KERNEL: Self = Self(1);
    /// The shared heap.
    pub(crate) const SHARED: Self = Self(0x8000);
    /// Stacks of threads.
    pub(crate) const STACKS: Self = Self(0x8001);

    /// The domain in `slot`.
    pub(crate) const fn domain(slot: usize) -> Self {
        Self(slot as u16)
    }
}

/// The table entry of a frame; only the entry of a block's first frame counts.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct FrameInfo {
    /// Frames in the block in use that starts here; 0 otherwise.
    used: u32,
    /// 1 + order of the free block that starts here; 0 otherwise.
    free: u8,
    reserved: u8,
    owner: u16,
}

/// Links of a free block, stored in the block.
#[derive(Clone, Copy)]
struct FreeLinks {
    next: Option<NonNull<FreeLinks>>,
    previous: Option<NonNull<FreeLinks>>,
}

/// The allocator's state.
struct Frames {
    /// Frame number of `info[0]`.
    first: usize,
    info: &'static mut [FrameInfo],
    free: [Option<NonNull<FreeLinks>>; ORDERS],
    total: usize,
    available: usize,
    /// Address of frame 0.
    offset: usize,
    /// Frames that belong to the kernel from the beginning: this table, and page 0.
    own: usize,
}

// SAFETY: the links point into free frames, which are the allocator's own.
unsafe impl Send for Frames {}

static FRAMES: Lock<Frames> = Lock::new(Frames {
    first: 0,
    info: &mut [],
    free: [None; ORDERS],
    total: 0,
    available: 0,
    offset: 0,
    own: 0,
});

/// The total and the free frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Count {
    pub(crate) total: usize,
    pub(crate) available: usize,
}

/// Takes over the machine's memory. Called once, before any other function here.
///
/// # Panics
/// If no range is large enough for the frame table.
pub(crate) fn init(machine: &dyn Machine) {
    let offset = machine.phys_offset();
    let (mut first, mut end) = (usize::MAX, 0);
    machine.memory(&mut |range| {
        first = first.min(frame_number(range.start));
        end = end.max(frame_number(range.end));
    });
    assert!(first < end, "the machine reports no memory that the kernel could use");
    let info_bytes = ((end - first) * size_of::<FrameInfo>()).next_multiple_of(PAGE_SIZE);
    let mut table_start = None;
    machine.memory(&mut |range| {
        if table_start.is_none() && range.end.0 - range.start.0 >= info_bytes as u64 {
            table_start = Some(range.start);
        }
    });
    let table_start = table_start.expect("some memory range holds the frame table: 8 bytes per frame");
    let table = (offset + table_start.0 as usize) as *mut FrameInfo;
    // SAFETY: the range is usable memory without an owner, page-aligned and long enough.
    unsafe { table.write_bytes(0, end - first) };
    // SAFETY: just initialised; all-zero is a valid value. The table is never given back.
    let info = unsafe { core::slice::from_raw_parts_mut(table, end - first) };
    let mut frames = FRAMES.lock();
    frames.first = first;
    frames.info = info;
    frames.offset = offset;
    let table_frames = frame_number(table_start)..frame_number(table_start) + info_bytes / PAGE_SIZE;
    machine.memory(&mut |range| {
        let range = frame_number(range.start)..frame_number(range.end);
        frames.total += range.len();
        // Page 0 of the address space stays unmapped, so null is never a valid address.
        let start = if offset == 0 { range.start.max(1) } else { range.start };
        if start > range.start {
            *frames.info(0) = FrameInfo { used: 1, owner: FrameOwner::KERNEL.0, ..FrameInfo::default() };
            frames.own += 1;
        }
        if range.contains(&table_frames.start) {
            frames.give_range(start..table_frames.start);
            frames.give_range(table_frames.end..range.end);
        } else {
            frames.give_range(start..range.end);
        }
    });
    frames.own += table_frames.len();
    let table_index = table_frames.start - first;
    frames.info[table_index] =
        FrameInfo { used: table_frames.len() as u32, owner: FrameOwner::KERNEL.0, ..FrameInfo::default() };
}

/// Returns `count` adjacent frames for `owner`, aligned to the next power of two of their size, not cleared.
/// Only the kernel gets frames of the kernel's reserve.
pub(crate) fn take(count: usize, owner: FrameOwner) -> Option<NonNull<u8>> {
    FRAMES.lock().take(count, owner)
}

/// As [`take`], but cleared.
pub(crate) fn take_zeroed(count: usize, owner: FrameOwner) -> Option<NonNull<u8>> {
    let memory = take(count, owner)?;
    // SAFETY: the block is ours, `count` pages long.
    unsafe { memory.write_bytes(0, count * PAGE_SIZE) };
    Some(memory)
}

/// Gives a block back.
///
/// # Panics
/// If no block in use starts there.
pub(crate) fn give(memory: NonNull<u8>) {
    FRAMES.lock().give(memory);
}

/// Returns the total and the free frames.
pub(crate) fn count() -> Count {
    let frames = FRAMES.lock();
    Count { total: frames.total, available: frames.available }
}

/// Returns true while `count` frames are free beside the kernel's reserve.
pub(crate) fn has_beside_reserve(count: usize) -> bool {
    let frames = FRAMES.lock();
    frames.available >= (frames.total / RESERVE_DIVISOR).saturating_add(count)
}

/// Returns the number of frames of each of `owners`, by one walk over the table.
pub(crate) fn owned_by<const N: usize>(owners: [FrameOwner; N]) -> [usize; N] {
    let mut owned = [0; N];
    for info in FRAMES.lock().info.iter() {
        if let Some(index) = owners.iter().position(|owner| owner.0 == info.owner) {
            owned[index] += info.used as usize;
        }
    }
    owned
}

fn frame_number(address: PhysAddr) -> usize {
    address.0 as usize / PAGE_SIZE
}

impl Frames {
    fn block(&self, frame: usize) -> NonNull<FreeLinks> {
        NonNull::new((self.offset + frame * PAGE_SIZE) as *mut FreeLinks).expect("frame 0 is never ours")
    }

    fn info(&mut self, frame: usize) -> &mut FrameInfo {
        &mut self.info[frame - self.first]
    }

    fn take(&mut self, count: usize, owner: FrameOwner) -> Option<NonNull<u8>> {
        let reserve = if owner == FrameOwner::KERNEL { 0 } else { self.total / RESERVE_DIVISOR };
        if self.available < count.saturating_add(reserve) {
            return None;
        }
        let order = count.next_power_of_two().trailing_zeros() as usize;
        let found = (order..ORDERS).find(|&order| self.free[order].is_some())?;
        let block = self.free[found]?;
        let frame = (block.as_ptr() as usize - self.offset) / PAGE_SIZE;
        self.unlink(frame, found);
        *self.info(frame) = FrameInfo { used: count as u32, owner: owner.0, ..FrameInfo::default() };
        self.available -= 1 << found;
        self.give_range(frame + count..frame + (1 << found));
        Some(block.cast())
    }

    fn give(&mut self, memory: NonNull<u8>) {
        let frame = (memory.as_ptr() as usize - self.offset) / PAGE_SIZE;
        let info = core::mem::take(self.info(frame));
        assert!(info.used > 0, "frame {frame:#x} is given back but starts no block in use");
        self.give_range(frame..frame + info.used as usize);
    }

    /// Frees `range` in the largest aligned blocks that it divides into.
    fn give_range(&mut self, mut range: Range<usize>) {
        while range.start < range.end {
            let aligned = (range.start.trailing_zeros() as usize).min(ORDERS - 1);
            let fits = (range.end - range.start).ilog2() as usize;
            let order = aligned.min(fits);
            self.available += 1 << order;
            self.merge(range.start, order);
            range.start += 1 << order;
        }
    }

    /// Frees a block, merged with its free buddies.
    fn merge(&mut self, mut frame: usize, mut order: usize) {
        while order + 1 < ORDERS {
            let buddy = frame ^ (1 << order);
            let known = buddy >= self.first && buddy - self.first < self.info.len();
            if !known || self.info(buddy).free as usize != order + 1 {
                break;
            }
            self.unlink(buddy, order);
            frame &= !(1 << order);
            order += 1;
        }
        self.link(frame, order);
    }

    fn link(&mut self, frame: usize, order: usize) {
        self.info(frame).free = order as u8 + 1;
        let block = self.block(frame);
        let next = self.free[order].replace(block);
        // SAFETY: a free block is the allocator's, and at least a page long.
        unsafe { block.write(FreeLinks { next, previous: None }) };
        if let Some(mut next) = next {
            // SAFETY: as above.
            unsafe { next.as_mut() }.previous = Some(block);
        }
    }

    fn unlink(&mut self, frame: usize, order: usize) {
        self.info(frame).free = 0;
        // SAFETY: a free block is the allocator's, and `link` wrote its links.
        let links = unsafe { self.block(frame).read() };
        match links.previous {
            // SAFETY: as above.
            Some(mut previous) => unsafe { previous.as_mut() }.next = links.next,
            None => self.free[order] = links.next,
        }
        if let Some(mut next) = links.next {
            // SAFETY: as above.
            unsafe { next.as_mut() }.previous = links.previous;
        }
    }
}
