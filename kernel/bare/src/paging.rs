//! The address space: all memory at its physical address, with W^X permissions.
//!
//! Memory is mapped in pages of 2 MiB, which are split into pages of 4 KiB on request of [`protect`]. The
//! tables come from two reserves that are set aside at boot: one large enough to split every 2 MiB of memory,
//! so that `protect` cannot fail, and a small one for device registers. Tables are never merged or freed.
//! [`tlb`] invalidates the CPUs' cached entries.

use core::cell::UnsafeCell;
use core::fmt;
use core::ops::Range;
use core::ptr;

use coppice_bare::memory_map::MemoryMap;
use coppice_kernel::machine::{PAGE_SIZE, Protection};
use spin::Once;
use x86_64::PhysAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::page_table::PageTableEntry;
use x86_64::structures::paging::{PageTable, PageTableFlags, PhysFrame};

use crate::lock::IrqLock;
use crate::tlb;

const PAGE: u64 = PAGE_SIZE as u64;
const LARGE_PAGE: u64 = 2 << 20;
const GIB: u64 = 1 << 30;
/// The upper end of the lower half of the address space; only this half is mapped, one to one.
const ADDRESS_END: u64 = 1 << 47;

/// Number of tables for device registers: each serves 2 MiB of them in small pages, or 1 GiB in large ones.
const DEVICE_TABLES: u64 = 64;

/// The top-level table, in the kernel's image: it has to lie below 4 GiB, as a starting CPU loads it in
/// 32-bit code (entry.s).
#[unsafe(no_mangle)]
static KERNEL_PML4: Root = Root(UnsafeCell::new(PageTable::new()));

struct Root(UnsafeCell<PageTable>);

// SAFETY: only `AddressSpace` accesses it, under its lock.
unsafe impl Sync for Root {}

static SPACE: IrqLock<AddressSpace> = IrqLock::new(AddressSpace {
    memory_tables: Reserve { next: 0, end: 0 },
    device_tables: Reserve { next: 0, end: 0 },
});

/// All memory, to distinguish it from device registers.
static MEMORY: Once<MemoryMap> = Once::new();

/// The reason why device registers cannot be mapped.
#[derive(Debug)]
pub(crate) enum MapError {
    /// The range overlaps memory, or exceeds the address space.
    NotRegisters(Range<u64>),
    /// There are no page tables left.
    OutOfTables(OutOfTables),
}

/// The reserve of page tables is exhausted.
#[derive(Debug)]
pub(crate) struct OutOfTables {
    at: u64,
}

impl From<OutOfTables> for MapError {
    fn from(error: OutOfTables) -> Self {
        Self::OutOfTables(error)
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRegisters(range) => write!(f, "{range:#x?} cannot hold device registers"),
            Self::OutOfTables(OutOfTables { at }) => {
                write!(f, "no page tables left to map device registers at {at:#x}")
            }
        }
    }
}

/// Frames for page tables.
///
/// # Invariants
/// - **F1** The frames of `next..end` are mapped, and belong to the reserve alone.
struct Reserve {
    next: u64,
    end: u64,
}

impl Reserve {
    /// Takes an empty table; `None` if the reserve is exhausted.
    fn take(&mut self) -> Option<u64> {
        let frame = self.next;
        if frame == self.end {
            return None;
        }
        self.next += PAGE;
        // SAFETY: F1: the frame is mapped and belongs to this reserve, and from here on to the caller.
        unsafe { ptr::with_exposed_provenance_mut::<PageTable>(frame as usize).write(PageTable::new()) };
        Some(frame)
    }
}

/// The page tables.
///
/// # Invariants
/// - **P1** Every table is the root or a frame that came from a reserve; all are mapped one to one, and only
///   reached through this struct, which exists once, behind a lock.
struct AddressSpace {
    memory_tables: Reserve,
    device_tables: Reserve,
}

/// The reserve from which tables are taken.
#[derive(Clone, Copy)]
enum ReserveKind {
    Memory,
    Device,
}

impl AddressSpace {
    /// Sets the flags of the pages of `range`; empty flags unmap them. Returns true if a page changed that
    /// was mapped before, so that CPUs may have cached it.
    fn set(
        &mut self,
        range: Range<u64>,
        flags: PageTableFlags,
        kind: ReserveKind,
    ) -> Result<bool, OutOfTables> {
        let mut was_mapped = false;
        let mut at = range.start;
        while at < range.end {
            let directory = self.directory(at, kind)?;
            let entry = &mut directory[index(at, 21)];
            let is_table = !entry.is_unused() && !entry.flags().contains(PageTableFlags::HUGE_PAGE);
            if !is_table && at.is_multiple_of(LARGE_PAGE) && range.end - at >= LARGE_PAGE {
                was_mapped |= replace(entry, at, flags, PageTableFlags::HUGE_PAGE);
                at += LARGE_PAGE;
            } else {
                if !is_table {
                    self.split(entry, at, kind)?;
                }
                was_mapped |=
                    replace(&mut self.table(entry)[index(at, 12)], at, flags, PageTableFlags::empty());
                at += PAGE;
            }
        }
        Ok(was_mapped)
    }

    /// Returns the table with entries of 2 MiB for address `at`.
    fn directory(&mut self, at: u64, kind: ReserveKind) -> Result<&'static mut PageTable, OutOfTables> {
        // SAFETY: P1: the lock admits one borrower at a time to the tables.
        let mut table = unsafe { &mut *KERNEL_PML4.0.get() };
        for shift in [39, 30] {
            let entry = &mut table[index(at, shift)];
            if entry.is_unused() {
                let frame = self.reserve(kind).take().ok_or(OutOfTables { at })?;
                entry.set_addr(PhysAddr::new(frame), PageTableFlags::PRESENT | PageTableFlags::WRITABLE);
            }
            table = self.table(entry);
        }
        Ok(table)
    }

    /// Replaces a 2 MiB entry by a table with the same meaning.
    fn split(&mut self, entry: &mut PageTableEntry, at: u64, kind: ReserveKind) -> Result<(), OutOfTables> {
        let frame = self.reserve(kind).take().ok_or(OutOfTables { at })?;
        let (start, flags) = (entry.addr(), entry.flags() - PageTableFlags::HUGE_PAGE);
        let was_mapped = !entry.is_unused();
        let mut table = PageTableEntry::new();
        table.set_addr(PhysAddr::new(frame), PageTableFlags::PRESENT | PageTableFlags::WRITABLE);
        if was_mapped {
            for (i, page) in self.table(&table).iter_mut().enumerate() {
                page.set_addr(start + i as u64 * PAGE, flags);
            }
        }
        *entry = table;
        Ok(())
    }

    fn table(&mut self, entry: &PageTableEntry) -> &'static mut PageTable {
        let address = entry.addr().as_u64() as usize;
        // SAFETY: P1: a table that this struct made, mapped one to one; the lock admits one borrower at a
        // time, and no borrow outlives the method of this struct that made it.
        unsafe { &mut *ptr::with_exposed_provenance_mut(address) }
    }

    fn reserve(&mut self, kind: ReserveKind) -> &mut Reserve {
        match kind {
            ReserveKind::Memory => &mut self.memory_tables,
            ReserveKind::Device => &mut self.device_tables,
        }
    }
}

fn index(address: u64, shift: u32) -> usize {
    (address >> shift & 0x1ff) as usize
}

/// Writes a last-level entry. Returns true if it was mapped and has changed.
fn replace(entry: &mut PageTableEntry, at: u64, flags: PageTableFlags, size: PageTableFlags) -> bool {
    let status = PageTableFlags::ACCESSED | PageTableFlags::DIRTY;
    let changed = !entry.is_unused() && entry.flags() - status - size != flags;
    if flags.is_empty() {
        entry.set_unused();
    } else {
        entry.set_addr(PhysAddr::new(at), flags | size);
    }
    changed
}

fn flags_of(protection: Protection) -> PageTableFlags {
    match protection {
        Protection::None => PageTableFlags::empty(),
        Protection::Read => PageTableFlags::PRESENT | PageTableFlags::NO_EXECUTE,
        Protection::ReadWrite => {
            PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE
        }
        Protection::ReadExecute => PageTableFlags::PRESENT,
    }
}

/// Returns the bytes that [`init`] needs for the tables of that much memory.
pub(crate) fn reserve_size(memory: &MemoryMap) -> u64 {
    let spans = |range: &Range<u64>, unit| range.end.div_ceil(unit) - range.start / unit;
    let tables: u64 =
        memory.ranges().iter().map(|range| spans(range, LARGE_PAGE) + spans(range, GIB) + 1).sum();
    (tables + DEVICE_TABLES) * PAGE
}

/// Builds the address space and switches to it: `memory` read-write, then the segments of the kernel's image,
/// `read_only` and `executable` with their permissions.
///
/// # Safety
/// `reserve` is [`reserve_size`] bytes below 4 GiB, page-aligned, and the caller gives it away for good.
/// `memory` is memory, and holds the kernel's image.
pub(crate) unsafe fn init(memory: &MemoryMap, reserve: u64, read_only: Range<u64>, executable: Range<u64>) {
    MEMORY.call_once(|| memory.clone());
    SPACE.with(|space| {
        let split = reserve + DEVICE_TABLES * PAGE;
        space.device_tables = Reserve { next: reserve, end: split };
        space.memory_tables = Reserve { next: split, end: reserve + reserve_size(memory) };
        let image = image();
        let ranges = memory.ranges().iter().map(|range| (range.clone(), Protection::ReadWrite));
        let special = [
            (image.read_only, Protection::Read),
            (image.executable, Protection::ReadExecute),
            (image.stack_guard, Protection::None),
            (whole_pages(&read_only), Protection::Read),
            (whole_pages(&executable), Protection::ReadExecute),
        ];
        for (range, protection) in ranges.chain(special) {
            space
                .set(range, flags_of(protection), ReserveKind::Memory)
                .expect("reserve_size counts a table for each 2 MiB and for each GiB");
        }
    });
    let root =
        PhysFrame::containing_address(PhysAddr::new(ptr::from_ref(&KERNEL_PML4).expose_provenance() as u64));
    // SAFETY: the new tables map all memory, including this code and this stack, at the same addresses as the
    // old ones.
    unsafe { Cr3::write(root, Cr3Flags::empty()) };
}

/// The memory of the kernel's image.
pub(crate) struct Image {
    /// The whole image.
    pub(crate) whole: Range<u64>,
    read_only: Range<u64>,
    executable: Range<u64>,
    stack_guard: Range<u64>,
}

/// Returns the ranges of the kernel's image, from the symbols of kernel.ld and entry.s.
pub(crate) fn image() -> Image {
    unsafe extern "C" {
        static image_start: u8;
        static text_start: u8;
        static data_start: u8;
        static image_end: u8;
        static boot_stack_guard: u8;
    }
    let at = |symbol: *const u8| symbol.expose_provenance() as u64;
    let [start, text, data, end] =
        [&raw const image_start, &raw const text_start, &raw const data_start, &raw const image_end].map(at);
    let guard = at(&raw const boot_stack_guard);
    Image {
        whole: start..end,
        read_only: start..text,
        executable: text..data,
        stack_guard: guard..guard + PAGE,
    }
}

fn whole_pages(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE * PAGE..range.end.next_multiple_of(PAGE)
}

/// Implements [`coppice_kernel::machine::Machine::protect`].
pub(crate) fn protect(start: usize, len: usize, protection: Protection) {
    let range = start as u64..(start + len) as u64;
    let must_flush = SPACE
        .with(|space| space.set(range, flags_of(protection), ReserveKind::Memory))
        .expect("the reserve has a table for each 2 MiB of memory, and by the contract this is memory");
    if must_flush {
        tlb::shoot_down();
    }
}

/// Maps device registers, uncached, and returns their address, which is the physical one.
pub(crate) fn map_device(address: u64, len: u64) -> Result<*mut u8, MapError> {
    let end = address.checked_add(len).filter(|&end| end <= ADDRESS_END);
    let range = whole_pages(&(address..end.ok_or(MapError::NotRegisters(address..u64::MAX))?));
    // The device itself reports the length of its range, so it is not trusted.
    let is_memory = |memory: &MemoryMap| {
        memory.ranges().iter().any(|memory| memory.start < range.end && range.start < memory.end)
    };
    if range.start == 0 || MEMORY.get().is_none_or(is_memory) {
        return Err(MapError::NotRegisters(range));
    }
    let flags = flags_of(Protection::ReadWrite) | PageTableFlags::NO_CACHE | PageTableFlags::WRITE_THROUGH;
    if SPACE.with(|space| space.set(range, flags, ReserveKind::Device))? {
        tlb::shoot_down();
    }
    Ok(ptr::with_exposed_provenance_mut(address as usize))
}
