//! Segments (System V gABI, chapter 5, "Program Header"): the placement of their content, and the protection
//! of each page.
//!
//! Measured on rustc 1.95: its own linker (LLD, the default) gives a domain a read-only load, an executable
//! one, one that is entirely `PT_GNU_RELRO` and ends on a page boundary, and a writable one. GNU ld 2.40
//! makes one writable load that begins with the RELRO part, which ends on a page boundary. Both separate
//! protections by pages, so the loader requires that.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use elf::abi::{
    PF_R, PF_W, PF_X, PT_DYNAMIC, PT_GNU_RELRO, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_NOTE, PT_TLS,
};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader};
use elf::segment::{ProgramHeader, SegmentTable};

use super::error::slice;
use super::header::PROGRAM_HEADER_SIZE;
use super::{ImageError, Part};
use crate::platform::machine::{PAGE_SIZE, Protection};

/// The maximum number of program headers of an image. Linkers make about ten.
pub const SEGMENT_LIMIT: usize = 32;
/// The maximum size of an image in memory, in bytes.
pub const SPAN_LIMIT: usize = 64 << 20;
/// The strictest alignment of a segment: an image is loaded at any page.
pub const ALIGNMENT_LIMIT: usize = PAGE_SIZE;

/// Adjacent pages of a loaded image with the same protection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// The pages, counted from the image's address 0.
    pub pages: Range<usize>,
    /// Their protection once the image is loaded.
    pub protection: Protection,
}

/// The reason why a program header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SegmentError {
    /// There are more than [`SEGMENT_LIMIT`] program headers.
    TooMany {
        /// The number of program headers.
        count: usize,
    },
    /// The image needs an interpreter (a dynamic loader).
    Interpreter,
    /// The image has thread-local variables.
    ThreadLocal,
    /// The image requests an executable stack.
    ExecutableStack,
    /// The segment has more bytes in the file than in memory.
    Size {
        /// Bytes in the file.
        file_len: u64,
        /// Bytes in memory.
        memory_len: u64,
    },
    /// The alignment is not a power of two, or stricter than [`ALIGNMENT_LIMIT`].
    Alignment(u64),
    /// File offset and address differ modulo the page size.
    Congruence {
        /// The offset in the file.
        offset: u64,
        /// The address in memory.
        address: u64,
    },
    /// The segment is both writable and executable.
    WritableAndExecutable,
    /// The flags are neither read, nor read and write, nor read and execute.
    Flags(u32),
    /// The image would end after [`SPAN_LIMIT`].
    Span {
        /// The segment's address.
        address: u64,
        /// Its length in bytes.
        memory_len: u64,
    },
    /// The segment begins before the end of an earlier one, or on a page of it.
    Overlap {
        /// The segment's address.
        address: u64,
        /// The end of the pages of earlier segments.
        earlier_end: u64,
    },
    /// A `PT_GNU_RELRO` does not consist of whole pages of one writable segment (its ends may be those of the
    /// segment).
    Relro {
        /// Its address.
        address: u64,
        /// Its length in bytes.
        memory_len: u64,
    },
    /// There is a second `PT_DYNAMIC` or `PT_GNU_RELRO`.
    Repeated,
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { count } => write!(f, "{count} program headers, but the limit is {SEGMENT_LIMIT}"),
            Self::Interpreter => f.write_str("the image needs an interpreter: it is not linked static-pie"),
            Self::ThreadLocal => {
                f.write_str("the image has thread-local variables, which domains cannot have")
            }
            Self::ExecutableStack => f.write_str("the image requests an executable stack"),
            Self::Size { file_len, memory_len } => {
                write!(f, "{file_len:#x} bytes in the file, but only {memory_len:#x} in memory")
            }
            Self::Alignment(align) => {
                write!(f, "alignment {align:#x} is not a power of two up to {ALIGNMENT_LIMIT:#x}")
            }
            Self::Congruence { offset, address } => {
                write!(f, "file offset {offset:#x} and address {address:#x} differ within a page")
            }
            Self::WritableAndExecutable => f.write_str("the segment is both writable and executable"),
            Self::Flags(flags) => write!(f, "flags {flags:#x} are not read, read-write or read-execute"),
            Self::Span { address, memory_len } => {
                write!(f, "{memory_len:#x} bytes at {address:#x} end beyond the limit of {SPAN_LIMIT:#x}")
            }
            Self::Overlap { address, earlier_end } => {
                write!(
                    f,
                    "address {address:#x} overlaps the pages of an earlier segment, up to {earlier_end:#x}"
                )
            }
            Self::Relro { address, memory_len } => write!(
                f,
                "RELRO of {memory_len:#x} bytes at {address:#x} does not consist of whole pages of one writable segment"
            ),
            Self::Repeated => f.write_str("a second segment of a kind that may occur only once"),
        }
    }
}

impl core::error::Error for SegmentError {}

/// The checked content of the program headers, for which [`super::Image`]'s invariants 1 and 3 hold.
#[derive(Debug)]
pub(super) struct Segments<'a> {
    pub(super) loads: Vec<Load<'a>>,
    pub(super) regions: Vec<Region>,
    pub(super) dynamic: Option<&'a [u8]>,
    pub(super) notes: Vec<NoteSegment<'a>>,
}

/// A `PT_LOAD`.
#[derive(Debug)]
pub(super) struct Load<'a> {
    /// The range of offsets in memory.
    pub(super) range: Range<usize>,
    /// The content; zeros fill the rest of the range.
    pub(super) content: &'a [u8],
    /// The protection before RELRO is applied.
    pub(super) protection: Protection,
}

/// A `PT_NOTE`.
#[derive(Debug)]
pub(super) struct NoteSegment<'a> {
    /// The offset in the file.
    pub(super) offset: usize,
    pub(super) content: &'a [u8],
    pub(super) align: usize,
}

impl<'a> Segments<'a> {
    pub(super) fn parse(file: &'a [u8], header: &FileHeader<LittleEndian>) -> Result<Self, ImageError> {
        let count = usize::from(header.e_phnum);
        if count > SEGMENT_LIMIT {
            return Err(ImageError::Segment { index: SEGMENT_LIMIT, error: SegmentError::TooMany { count } });
        }
        let table_len = (count * PROGRAM_HEADER_SIZE) as u64;
        let table = slice(file, Part::ProgramHeaders, header.e_phoff, table_len)?;

        let mut segments = Self { loads: Vec::new(), regions: Vec::new(), dynamic: None, notes: Vec::new() };
        let mut relro = None;
        for (index, program) in SegmentTable::new(LittleEndian, Class::ELF64, table).iter().enumerate() {
            let refuse = |error| ImageError::Segment { index, error };
            // Empty segments have no effect; linkers leave some behind.
            if program.p_memsz == 0 && program.p_filesz == 0 && program.p_type != PT_GNU_STACK {
                continue;
            }
            match program.p_type {
                PT_LOAD => segments.loads.push(segments.load(file, index, &program)?),
                PT_DYNAMIC if segments.dynamic.is_some() => return Err(refuse(SegmentError::Repeated)),
                PT_DYNAMIC => segments.dynamic = Some(content(file, index, &program)?),
                PT_NOTE => segments.notes.push(NoteSegment::parse(file, index, &program)?),
                PT_GNU_RELRO if relro.is_some() => return Err(refuse(SegmentError::Repeated)),
                PT_GNU_RELRO => relro = Some((index, program)),
                PT_INTERP => return Err(refuse(SegmentError::Interpreter)),
                PT_TLS => return Err(refuse(SegmentError::ThreadLocal)),
                PT_GNU_STACK if program.p_flags & PF_X != 0 => {
                    return Err(refuse(SegmentError::ExecutableStack));
                }
                // All others are hints to debuggers and dynamic loaders.
                _ => {}
            }
        }
        let relro = match &relro {
            Some((index, program)) => {
                segments.relro(program).map_err(|error| ImageError::Segment { index: *index, error })?
            }
            None => 0..0,
        };
        segments.regions = regions(&segments.loads, &relro);
        Ok(segments)
    }

    /// Checks a load, also against the previous ones.
    fn load(&self, file: &'a [u8], index: usize, program: &ProgramHeader) -> Result<Load<'a>, ImageError> {
        let refuse = |error| Err(ImageError::Segment { index, error });
        let ProgramHeader { p_vaddr: address, p_memsz: memory_len, p_filesz: file_len, .. } = *program;
        if file_len > memory_len {
            return refuse(SegmentError::Size { file_len, memory_len });
        }
        // 0 and 1 both mean that there is no constraint.
        if program.p_align > ALIGNMENT_LIMIT as u64 || !program.p_align.max(1).is_power_of_two() {
            return refuse(SegmentError::Alignment(program.p_align));
        }
        if program.p_offset % PAGE_SIZE as u64 != address % PAGE_SIZE as u64 {
            return refuse(SegmentError::Congruence { offset: program.p_offset, address });
        }
        let protection = match program.p_flags {
            flags if flags & PF_W != 0 && flags & PF_X != 0 => {
                return refuse(SegmentError::WritableAndExecutable);
            }
            PF_R => Protection::Read,
            flags if flags == PF_R | PF_W => Protection::ReadWrite,
            flags if flags == PF_R | PF_X => Protection::ReadExecute,
            flags => return refuse(SegmentError::Flags(flags)),
        };
        let Some(range) = memory_range(program) else {
            return refuse(SegmentError::Span { address, memory_len });
        };
        let earlier_end = self.span_end();
        if range.start < earlier_end {
            return refuse(SegmentError::Overlap { address, earlier_end: earlier_end as u64 });
        }
        Ok(Load { range, content: content(file, index, program)?, protection })
    }

    /// The end of the pages of the loads so far.
    fn span_end(&self) -> usize {
        self.loads.last().map_or(0, |load| load.range.end.next_multiple_of(PAGE_SIZE))
    }

    /// The pages that become read-only after relocation.
    fn relro(&self, program: &ProgramHeader) -> Result<Range<usize>, SegmentError> {
        let error = SegmentError::Relro { address: program.p_vaddr, memory_len: program.p_memsz };
        let range = memory_range(program).ok_or(error)?;
        let covers = |load: &&Load<'_>| {
            let pages = pages(&load.range);
            load.protection == Protection::ReadWrite
                && load.range.start <= range.start
                && range.end <= pages.end * PAGE_SIZE
        };
        let load = self.loads.iter().find(covers).ok_or(error)?;
        let is_start_valid = range.start % PAGE_SIZE == 0 || range.start == load.range.start;
        let is_end_valid = range.end % PAGE_SIZE == 0 || range.end >= load.range.end;
        if is_start_valid && is_end_valid { Ok(pages(&range)) } else { Err(error) }
    }

    pub(super) fn span_pages(&self) -> usize {
        self.span_end() / PAGE_SIZE
    }

    /// Checks that the entry point lies in the content of an executable segment.
    pub(super) fn check_entry(&self, offset: u64) -> Result<usize, ImageError> {
        let mut code = self.loads.iter().filter(|load| load.protection == Protection::ReadExecute).peekable();
        if code.peek().is_none() {
            return Err(ImageError::NoCode);
        }
        let entry = usize::try_from(offset).map_err(|_| ImageError::Entry { offset })?;
        let inside =
            |load: &Load<'_>| load.range.contains(&entry) && entry - load.range.start < load.content.len();
        if code.any(inside) { Ok(entry) } else { Err(ImageError::Entry { offset }) }
    }

    /// Returns the `len` bytes at `address`, as they are in the file.
    pub(super) fn content_at(&self, address: u64, len: u64) -> Option<&'a [u8]> {
        let (address, len) = (usize::try_from(address).ok()?, usize::try_from(len).ok()?);
        self.loads
            .iter()
            .find_map(|load| load.content.get(address.checked_sub(load.range.start)?..)?.get(..len))
    }

    /// Fills `memory`, which has the length of the span: contents at their offsets, zeros elsewhere.
    pub(super) fn copy_into(&self, memory: &mut [u8]) {
        let mut filled = 0;
        for load in &self.loads {
            let content_end = load.range.start + load.content.len();
            memory[filled..load.range.start].fill(0);
            memory[load.range.start..content_end].copy_from_slice(load.content);
            filled = content_end;
        }
        memory[filled..].fill(0);
    }
}

impl<'a> NoteSegment<'a> {
    fn parse(file: &'a [u8], index: usize, program: &ProgramHeader) -> Result<Self, ImageError> {
        let content = content(file, index, program)?;
        // The gABI prescribes 4; GNU has notes with 8, and linkers write 0 or 1 for no constraint.
        let align = match program.p_align {
            0..=4 => 4,
            8 => 8,
            align => return Err(ImageError::Segment { index, error: SegmentError::Alignment(align) }),
        };
        Ok(Self { offset: program.p_offset as usize, content, align })
    }
}

/// Returns the content of a segment in the file.
fn content<'a>(file: &'a [u8], index: usize, program: &ProgramHeader) -> Result<&'a [u8], ImageError> {
    slice(file, Part::Segment(index), program.p_offset, program.p_filesz)
}

/// Returns the range of offsets that a segment takes in memory, if it ends within [`SPAN_LIMIT`].
fn memory_range(program: &ProgramHeader) -> Option<Range<usize>> {
    let end = program.p_vaddr.checked_add(program.p_memsz).filter(|end| *end <= SPAN_LIMIT as u64)?;
    // Both are at most SPAN_LIMIT.
    Some(program.p_vaddr as usize..end as usize)
}

/// The pages that `range` touches.
fn pages(range: &Range<usize>) -> Range<usize> {
    range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE)
}

/// Covers the span with regions. The pages of `relro` are read-only although their load is writable.
fn regions(loads: &[Load<'_>], relro: &Range<usize>) -> Vec<Region> {
    let mut regions: Vec<Region> = Vec::new();
    let mut push = |pages: Range<usize>, protection| match regions.last_mut() {
        _ if pages.is_empty() => {}
        Some(last) if last.protection == protection => last.pages.end = pages.end,
        _ => regions.push(Region { pages, protection }),
    };
    let mut covered = 0;
    for load in loads {
        let pages = pages(&load.range);
        push(covered..pages.start, Protection::None);
        // The RELRO part of this load; it is empty unless RELRO belongs to this load.
        let start = relro.start.clamp(pages.start, pages.end);
        let end = relro.end.clamp(start, pages.end);
        push(pages.start..start, load.protection);
        push(start..end, Protection::Read);
        push(end..pages.end, load.protection);
        covered = pages.end;
    }
    regions
}
