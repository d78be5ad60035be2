//! [`BootInfo`]: the loader's information, in one form for QEMU and GRUB.
//!
//! Two protocols are read here. QEMU's `-kernel` follows Xen's PVH boot protocol: a `hvm_start_info`
//! structure (Xen, public/arch-x86/hvm/start_info.h). GRUB follows Multiboot2 (specification 2.0, section
//! 3.6): a list of tags. Both leave their structures in memory that they also report as usable, so everything
//! is copied or carved out here. After that nothing needs the structures, except that ACPI must be read
//! before the memory is reused.

use core::fmt;
use core::ops::Range;

use arrayvec::ArrayVec;

use crate::memory_map::MemoryMap;
use crate::physical::{Fields, PhysicalMemory, c_string};

/// Longest command line, in bytes.
pub const COMMAND_LINE_LIMIT: usize = 2048;

/// The loader's identification, which the entry code passes on: PVH.
pub const PVH_MAGIC: u32 = 0x336e_c578;
/// The loader's identification: Multiboot2.
pub const MULTIBOOT2_MAGIC: u32 = 0x36d7_6289;

/// The memory map type of usable memory, in both protocols.
const USABLE: u32 = 1;

/// The loader's information.
#[derive(Default)]
pub struct BootInfo {
    /// Memory that was usable when the loader started; it still contains the kernel and the archive.
    pub memory: MemoryMap,
    /// The command line's bytes.
    pub command_line: ArrayVec<u8, COMMAND_LINE_LIMIT>,
    /// Memory of the first module: the boot archive.
    pub archive: Option<Range<u64>>,
    /// Address of ACPI's root pointer, if the loader provides it.
    pub rsdp: Option<u64>,
}

/// The reason why the loader's information cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootInfoError {
    /// The number that the kernel was entered with belongs to no known protocol.
    UnknownLoader {
        /// The number.
        magic: u32,
    },
    /// A structure is outside the memory, or is truncated.
    Truncated {
        /// Name of the structure.
        what: &'static str,
        /// Physical address of the structure.
        address: u64,
    },
    /// There is no memory map.
    NoMemoryMap,
}

impl fmt::Display for BootInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownLoader { magic } => {
                write!(f, "the loader identifies itself as {magic:#x}, which is neither PVH nor Multiboot2")
            }
            Self::Truncated { what, address } => {
                write!(f, "the loader's {what} at {address:#x} is cut short")
            }
            Self::NoMemoryMap => f.write_str("the loader passed no memory map"),
        }
    }
}

/// Reads the information at `address`, in the protocol that `magic` identifies.
pub fn read(memory: &impl PhysicalMemory, magic: u32, address: u64) -> Result<BootInfo, BootInfoError> {
    let info = match magic {
        PVH_MAGIC => read_pvh(memory, address)?,
        MULTIBOOT2_MAGIC => read_multiboot2(memory, address)?,
        _ => return Err(BootInfoError::UnknownLoader { magic }),
    };
    if info.memory.ranges().is_empty() { Err(BootInfoError::NoMemoryMap) } else { Ok(info) }
}

impl BootInfo {
    fn set_command_line(&mut self, text: &[u8]) {
        self.command_line = text.iter().copied().take(COMMAND_LINE_LIMIT).collect();
    }

    fn add_memory(&mut self, base: u64, len: u64, kind: u32) {
        if kind == USABLE {
            self.memory.add(base..base.saturating_add(len));
        }
    }
}

fn read_pvh(memory: &impl PhysicalMemory, address: u64) -> Result<BootInfo, BootInfoError> {
    const SIZE: usize = 56;
    const MODULE_SIZE: usize = 32;
    const MAP_ENTRY_SIZE: usize = 24;

    let truncated = |what, address| BootInfoError::Truncated { what, address };
    let start = memory.bytes(address, SIZE).ok_or(truncated("start info", address))?;
    let field = |offset| start.u64_at(offset).expect("all offsets here are below SIZE");
    let count = |offset| start.u32_at(offset).expect("all offsets here are below SIZE");

    let mut info = BootInfo::default();
    let (modules, command_line, rsdp, map) = (field(16), field(24), field(32), field(40));
    if command_line != 0 {
        let text = c_string(memory, command_line, COMMAND_LINE_LIMIT);
        info.set_command_line(text.ok_or(truncated("command line", command_line))?);
    }
    if count(12) > 0 {
        let module = memory.bytes(modules, MODULE_SIZE).ok_or(truncated("module list", modules))?;
        info.archive = module.u64_at(0).zip(module.u64_at(8)).map(|(at, len)| at..at.saturating_add(len));
    }
    if rsdp != 0 {
        info.rsdp = Some(rsdp);
    }
    // The map came with version 1 of the structure.
    let entries = if count(4) >= 1 { count(48) as usize } else { 0 };
    let bytes = memory.bytes(map, entries * MAP_ENTRY_SIZE).ok_or(truncated("memory map", map))?;
    for entry in bytes.chunks_exact(MAP_ENTRY_SIZE) {
        if let (Some(base), Some(len), Some(kind)) = (entry.u64_at(0), entry.u64_at(8), entry.u32_at(16)) {
            info.add_memory(base, len, kind);
        }
    }
    Ok(info)
}

fn read_multiboot2(memory: &impl PhysicalMemory, address: u64) -> Result<BootInfo, BootInfoError> {
    const HEADER: usize = 8;
    const END: u32 = 0;
    const COMMAND_LINE: u32 = 1;
    const MODULE: u32 = 3;
    const MEMORY_MAP: u32 = 6;
    const ACPI_1: u32 = 14;
    const ACPI_2: u32 = 15;

    let truncated = |what| BootInfoError::Truncated { what, address };
    let total = memory.bytes(address, HEADER).and_then(|header| header.u32_at(0));
    let total = total.ok_or(truncated("tag list"))? as usize;
    let tags = memory.bytes(address, total).ok_or(truncated("tag list"))?;

    let mut info = BootInfo::default();
    let mut at = HEADER;
    loop {
        let (kind, size) = tags.u32_at(at).zip(tags.u32_at(at + 4)).ok_or(truncated("tag list"))?;
        let size = size as usize;
        let body = tags.get(at + HEADER..at.saturating_add(size)).ok_or(truncated("tag"))?;
        match kind {
            END => break,
            COMMAND_LINE => info.set_command_line(body.split(|&byte| byte == 0).next().unwrap_or_default()),
            MODULE if info.archive.is_none() => {
                let (start, end) = body.u32_at(0).zip(body.u32_at(4)).ok_or(truncated("module tag"))?;
                info.archive = Some(u64::from(start)..u64::from(end));
            }
            MEMORY_MAP => {
                let entry_size = body.u32_at(0).ok_or(truncated("memory map"))?.max(24) as usize;
                for entry in body[8.min(body.len())..].chunks_exact(entry_size) {
                    let fields = entry.u64_at(0).zip(entry.u64_at(8)).zip(entry.u32_at(16));
                    if let Some(((base, len), kind)) = fields {
                        info.add_memory(base, len, kind);
                    }
                }
            }
            // The tag holds a copy of the root pointer. The newer one is preferred.
            ACPI_2 => info.rsdp = Some(address + (at + HEADER) as u64),
            ACPI_1 if info.rsdp.is_none() => info.rsdp = Some(address + (at + HEADER) as u64),
            _ => {}
        }
        at += size.next_multiple_of(8);
    }
    Ok(info)
}

#[cfg(test)]
mod tests;
