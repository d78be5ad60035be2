//! Division of memory before the kernel starts: the machine's own share, and its locations.

use core::fmt;
use core::ops::Range;
use core::slice;

use coppice_bare::memory_map::MemoryMap;
use coppice_bare::physical::PhysicalMemory;
use coppice_kernel::machine::PAGE_SIZE;

use crate::console::say;
use crate::{cpu, paging, smp};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Minimum memory that must be left for the kernel. A machine with 64 MiB has it.
const KERNEL_MEMORY_MIN: u64 = 40 * MIB;

/// Physical memory as mapped by entry.s: the first 4 GiB, one to one. Everything that a loader passes lies
/// there.
pub(crate) struct EarlyMemory;

impl PhysicalMemory for EarlyMemory {
    fn bytes(&self, address: u64, len: usize) -> Option<&[u8]> {
        let end = address.checked_add(len as u64)?;
        if address == 0 || end > 4 * GIB {
            return None;
        }
        let start = core::ptr::with_exposed_provenance(address as usize);
        // SAFETY: mapped, and not null. The structures read here do not change any more, and no reference to
        // them outlives the reading.
        Some(unsafe { slice::from_raw_parts(start, len) })
    }
}

/// The machine has too little memory.
#[derive(Debug)]
pub(crate) struct TooLittleMemory {
    found: u64,
    needed: u64,
}

impl fmt::Display for TooLittleMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { found, needed } = self;
        write!(
            f,
            "too little memory: there are {} MiB beside the kernel and the boot archive, and at least {} MiB are needed",
            found / MIB,
            needed.div_ceil(MIB)
        )
    }
}

/// The division of memory.
pub(crate) struct MemoryPlan {
    /// All memory, except the page at 0.
    all: MemoryMap,
    /// Memory that is left for the kernel.
    free: MemoryMap,
    /// Start page of further CPUs; `None` if there is no memory below 1 MiB.
    trampoline: Option<u64>,
    /// Start of the page tables.
    tables: u64,
    /// Start of the CPUs' stacks and tables.
    cpus: u64,
}

impl MemoryPlan {
    /// Reserves the memory that the machine needs to run that many CPUs.
    pub(crate) fn new(
        mut all: MemoryMap,
        archive: &Range<u64>,
        cpu_count: usize,
    ) -> Result<Self, TooLittleMemory> {
        const PAGE: u64 = PAGE_SIZE as u64;

        if all.lost() > 0 {
            say!("{} MiB of memory are left alone: the memory map is too scattered", all.lost() / MIB);
        }
        // Page 0 is never mapped, so it is never used.
        all.carve(&(0..PAGE));
        let image = paging::image().whole;
        // A loader may report either as not usable.
        all.add(image.clone());
        all.add(archive.start / PAGE * PAGE..archive.end.next_multiple_of(PAGE));
        let mut free = all.clone();
        free.carve(&image);
        free.carve(archive);
        let found = free.total();

        let tables_size = paging::reserve_size(&all);
        let cpus_size = (cpu_count * cpu::AREA_SIZE) as u64;
        let too_little = TooLittleMemory { found, needed: KERNEL_MEMORY_MIN + tables_size + cpus_size };
        if found < too_little.needed {
            return Err(too_little);
        }
        let trampoline = free.take(PAGE, 0..MIB);
        // Above 1 MiB, to keep the scarce memory below for those that need it; below 4 GiB, where it is
        // mapped now.
        let (Some(tables), Some(cpus)) =
            (free.take(tables_size, MIB..4 * GIB), free.take(cpus_size, MIB..4 * GIB))
        else {
            return Err(too_little);
        };
        Ok(Self { all, free, trampoline, tables, cpus })
    }

    /// Switches to the final page tables. Call it once, before the memory is used otherwise.
    pub(crate) fn enter_address_space(&self, archive: &Range<u64>) {
        let trampoline = self.trampoline.map_or(0..0, |page| page..page + PAGE_SIZE as u64);
        if let Some(page) = self.trampoline {
            // SAFETY: `new` took the page out of the memory that is used otherwise; it is below 1 MiB, and
            // still writable.
            unsafe { smp::place_trampoline(page) };
        }
        // SAFETY: `new` took the reserve, of the required size, out of the memory that is used otherwise, and
        // `all` includes the image.
        unsafe { paging::init(&self.all, self.tables, archive.clone(), trampoline) };
    }

    /// Gives each CPU its stacks and tables; without a trampoline only the first, which already runs.
    pub(crate) fn prepare_cpus(&self, apic_ids: &[u32]) {
        let usable = if self.trampoline.is_some() { apic_ids } else { &apic_ids[..1] };
        if usable.len() < apic_ids.len() {
            say!("only one CPU is used: there is no memory below 1 MiB for the others to start in");
        }
        for (i, &apic_id) in usable.iter().enumerate() {
            // SAFETY: `new` took this much for each CPU, and it is mapped by now.
            unsafe { cpu::prepare(apic_id, self.cpus + (i * cpu::AREA_SIZE) as u64) };
        }
    }

    /// Returns the memory that is left for the kernel.
    pub(crate) fn into_memory(self) -> MemoryMap {
        self.free
    }
}

/// Returns the boot archive, which is mapped read-only.
pub(crate) fn archive_bytes(archive: Range<u64>) -> &'static [u8] {
    let start = core::ptr::with_exposed_provenance(archive.start as usize);
    // SAFETY: the loader put it there; `MemoryPlan` keeps it out of all other use and maps it read-only, for
    // good.
    unsafe { slice::from_raw_parts(start, (archive.end - archive.start) as usize) }
}

/// Returns the APIC id of the booting CPU, before its APIC is mapped (Intel SDM volume 2, `CPUID` leaves 1
/// and 0BH).
pub(crate) fn boot_apic_id() -> u32 {
    use core::arch::x86_64::{__cpuid, __cpuid_count};

    let has_long_id =
        crate::apic::features().x2apic && __cpuid(0).eax >= 0xb && __cpuid_count(0xb, 0).ebx != 0;
    if has_long_id { __cpuid_count(0xb, 0).edx } else { __cpuid(1).ebx >> 24 }
}
