//! Relocations (x86-64 psABI, section 4.4): words that hold an address inside the image.
//!
//! A static-pie image has one kind, `R_X86_64_RELATIVE`: *base + addend*. Any other would need symbols, and
//! thus a linker in the kernel. The table is read from the file and not from the loaded memory, so that no
//! relocation can change another.

use core::fmt;

use elf::abi::{
    DF_TEXTREL, DT_BIND_NOW, DT_DEBUG, DT_FLAGS, DT_FLAGS_1, DT_GNU_HASH, DT_HASH, DT_NEEDED, DT_NULL,
    DT_PLTGOT, DT_RELA, DT_RELACOUNT, DT_RELAENT, DT_RELASZ, DT_STRSZ, DT_STRTAB, DT_SYMENT, DT_SYMTAB,
    R_X86_64_RELATIVE,
};
use elf::dynamic::DynamicTable;
use elf::endian::LittleEndian;
use elf::file::Class;
use elf::parse::ParsingIterator;
use elf::relocation::Rela;

use super::segment::Segments;
use crate::platform::machine::{PAGE_SIZE, Protection};

/// Bytes in a table entry of ELF64.
const RELA_SIZE: u64 = 24;
/// Bytes that a relocation writes.
const WORD: usize = 8;

/// The reason why a dynamic section or its relocations are refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RelocationError {
    /// The image needs a shared library.
    Library,
    /// The dynamic section has an entry that this loader does not support.
    Dynamic {
        /// The entry's tag.
        tag: i64,
        /// The entry's value.
        value: u64,
    },
    /// The table does not lie in one segment's content, or does not consist of whole entries.
    Table {
        /// Its address.
        address: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// The relocation is not an `R_X86_64_RELATIVE` one.
    Kind {
        /// The index in the table.
        index: usize,
        /// Type and symbol, as the entry packs them.
        info: u64,
    },
    /// The relocation writes outside all writable segments.
    Target {
        /// The index in the table.
        index: usize,
        /// The offset that it would write to.
        offset: u64,
    },
    /// The relocation makes an address outside the image.
    Value {
        /// The index in the table.
        index: usize,
        /// The address, with the image at 0.
        addend: i64,
    },
}

impl fmt::Display for RelocationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Library => f.write_str("the image needs a shared library: it is not linked static-pie"),
            Self::Dynamic { tag, value } => {
                write!(
                    f,
                    "the dynamic section has tag {tag:#x} (value {value:#x}), which images must not have"
                )
            }
            Self::Table { address, len } => write!(
                f,
                "the relocation table ({len:#x} bytes at {address:#x}) does not consist of whole entries inside a segment"
            ),
            Self::Kind { index, info } => write!(
                f,
                "relocation {index}: type {} with symbol {}, but only R_X86_64_RELATIVE is supported",
                info & 0xffff_ffff,
                info >> 32
            ),
            Self::Target { index, offset } => {
                write!(f, "relocation {index}: target {offset:#x} is in no writable segment")
            }
            Self::Value { index, addend } => {
                write!(f, "relocation {index}: value {addend:#x} is outside the image")
            }
        }
    }
}

impl core::error::Error for RelocationError {}

/// A checked relocation table, for which [`super::Image`]'s invariant 2 holds.
#[derive(Debug)]
pub(super) struct Relocations<'a> {
    table: &'a [u8],
}

impl<'a> Relocations<'a> {
    pub(super) fn parse(segments: &Segments<'a>) -> Result<Self, RelocationError> {
        let relocations = Self { table: find_table(segments)? };
        let span = segments.span_pages() * PAGE_SIZE;
        for (index, rela) in relocations.iter().enumerate() {
            if rela.r_type != R_X86_64_RELATIVE || rela.r_sym != 0 {
                let info = u64::from(rela.r_sym) << 32 | u64::from(rela.r_type);
                return Err(RelocationError::Kind { index, info });
            }
            if !is_writable(segments, rela.r_offset) {
                return Err(RelocationError::Target { index, offset: rela.r_offset });
            }
            // The address one past the end is valid: code uses it as the end of a range.
            if !usize::try_from(rela.r_addend).is_ok_and(|value| value <= span) {
                return Err(RelocationError::Value { index, addend: rela.r_addend });
            }
        }
        Ok(relocations)
    }

    /// Writes every relocated word. `memory` is the whole span, which starts at address `base`.
    pub(super) fn apply(&self, memory: &mut [u8], base: usize) {
        for rela in self.iter() {
            // `parse` checked that target and value lie inside the span, and the caller checked that `base +
            // span` does not overflow.
            let target = rela.r_offset as usize;
            let value = base + rela.r_addend as usize;
            memory[target..target + WORD].copy_from_slice(&value.to_le_bytes());
        }
    }

    fn iter(&self) -> ParsingIterator<'a, LittleEndian, Rela> {
        ParsingIterator::new(LittleEndian, Class::ELF64, self.table)
    }
}

/// Returns true if a relocation may write at `offset`: the whole word lies in one writable load, RELRO
/// included.
fn is_writable(segments: &Segments<'_>, offset: u64) -> bool {
    let mut writable = segments.loads.iter().filter(|load| load.protection == Protection::ReadWrite);
    let Some(start) = usize::try_from(offset).ok() else { return false };
    writable.any(|load| load.range.start <= start && start.saturating_add(WORD) <= load.range.end)
}

/// Finds the relocation table by the dynamic section (gABI chapter 5, "Dynamic Section"). An image without a
/// dynamic section has no relocations.
fn find_table<'a>(segments: &Segments<'a>) -> Result<&'a [u8], RelocationError> {
    let (mut address, mut len) = (0, 0);
    let entries = DynamicTable::new(LittleEndian, Class::ELF64, segments.dynamic.unwrap_or(&[]));
    for entry in entries.iter().take_while(|entry| entry.d_tag != DT_NULL) {
        let (tag, value) = (entry.d_tag, entry.d_val());
        match tag {
            DT_RELA => address = value,
            DT_RELASZ => len = value,
            DT_NEEDED => return Err(RelocationError::Library),
            DT_RELAENT if value == RELA_SIZE => {}
            DT_FLAGS if value & DF_TEXTREL as u64 == 0 => {}
            // Symbols and their hash tables: linkers emit them, empty, for every position-independent
            // executable.
            DT_HASH | DT_GNU_HASH | DT_STRTAB | DT_STRSZ | DT_SYMTAB | DT_SYMENT => {}
            // Hints to debuggers and dynamic loaders.
            DT_DEBUG | DT_FLAGS_1 | DT_RELACOUNT | DT_PLTGOT | DT_BIND_NOW => {}
            // These include other relocation tables and initialisation functions, which must not be ignored
            // silently.
            _ => return Err(RelocationError::Dynamic { tag, value }),
        }
    }
    if len == 0 {
        return Ok(&[]);
    }
    let whole = len % RELA_SIZE == 0;
    segments.content_at(address, len).filter(|_| whole).ok_or(RelocationError::Table { address, len })
}
