//! [`Image`]: parses a domain image and lays it out in memory. Nothing in the file is trusted before it is
//! checked.
//!
//! An image is a static position-independent executable (ELF64 for x86-64, `ET_DYN`, no interpreter) that
//! only needs to be copied and relocated. [`Image::parse`] checks everything before any memory is allocated
//! for the image. There is one file here for each part: `header`, `segment` (placement and protection of
//! pages), `relocation`, and `notes` (identity, imports and export). [`Image::load_into`] then only copies
//! and adds.
//!
//! An *offset* in an image is relative to the place where its address 0 is loaded. All of this is safe code
//! on byte slices: whatever the file contains, the worst outcome is an [`ImageError`]. Crate `elf` reads the
//! entries of tables; its iterator over notes ends silently at a malformed note, so notes are walked here.
//!
//! The checks prove that an image is well-formed, not that its code is safe: that depends on its build.

mod error;
mod header;
mod notes;
mod relocation;
mod segment;

#[cfg(test)]
mod tests;

use core::ops::Range;

pub use error::{ImageError, Part};
pub use header::HeaderError;
pub use notes::{CompilerText, IMPORT_LIMIT, NoteError, WireInfo};
pub use relocation::RelocationError;
pub use segment::{ALIGNMENT_LIMIT, Region, SEGMENT_LIMIT, SPAN_LIMIT, SegmentError};

use crate::platform::machine::{PAGE_SIZE, Protection};
use notes::Notes;
use relocation::Relocations;
use segment::Segments;

/// A domain image that passed all checks.
///
/// # Invariants
/// 1. Loads are in ascending order, share no page, and end within [`SPAN_LIMIT`].
/// 2. Every relocation's target, eight bytes, lies in one load that is writable until it is protected.
/// 3. No region is both writable and executable; regions cover the span without gap or overlap.
#[derive(Debug)]
pub struct Image<'a> {
    segments: Segments<'a>,
    relocations: Relocations<'a>,
    notes: Notes<'a>,
    entry: usize,
}

impl<'a> Image<'a> {
    /// Parses and checks all of `file`.
    ///
    /// # Errors
    /// When any part of the file is malformed, or needs a loader that can do more than copy and relocate.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let header = header::parse(file)?;
        let segments = Segments::parse(file, &header)?;
        let entry = segments.check_entry(header.e_entry)?;
        let relocations = Relocations::parse(&segments)?;
        let notes = Notes::parse(&segments)?;
        Ok(Self { segments, relocations, notes, entry })
    }

    /// The imports, which the entry function receives as handles in this order.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = WireInfo<'a>> {
        self.notes.imports.iter().copied()
    }

    /// The export, whose handle the entry function returns.
    pub fn export(&self) -> Option<WireInfo<'a>> {
        self.notes.export
    }

    /// The interfaces that the image was built with, with their fingerprints.
    pub fn interfaces(&self) -> impl Iterator<Item = WireInfo<'a>> {
        self.notes.interfaces.iter().copied()
    }

    /// The offset of the entry function.
    pub fn entry_offset(&self) -> usize {
        self.entry
    }

    /// The number of pages that the image takes.
    pub fn span_pages(&self) -> usize {
        self.segments.span_pages()
    }

    /// The protection of each page once the image is loaded, as regions that cover the span in ascending
    /// order. Adjacent regions differ in protection. Pages that no segment covers are guards.
    pub fn layout(&self) -> &[Region] {
        &self.segments.regions
    }

    /// The ranges of offsets, in whole pages, that may change while the domain runs. All other pages stay as
    /// [`Self::load_into`] left them, so a restart restores only these.
    pub fn writable_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let writable = self.layout().iter().filter(|region| region.protection == Protection::ReadWrite);
        writable.map(|region| region.pages.start * PAGE_SIZE..region.pages.end * PAGE_SIZE)
    }

    /// Copies the image to `memory`, relocated to run at address `base`. Afterwards the caller protects the
    /// pages as [`Self::layout`] says.
    ///
    /// # Errors
    /// When `memory` does not have the length of the span, `base` is not page-aligned, or the span would wrap
    /// around the end of the address space.
    pub fn load_into(&self, memory: &mut [u8], base: usize) -> Result<(), ImageError> {
        let span = self.span_pages() * PAGE_SIZE;
        if memory.len() != span {
            return Err(ImageError::MemorySize { expected: span, actual: memory.len() });
        }
        if !base.is_multiple_of(PAGE_SIZE) || base.checked_add(span).is_none() {
            return Err(ImageError::Base { base, span });
        }
        self.segments.copy_into(memory);
        self.relocations.apply(memory, base);
        Ok(())
    }
}
