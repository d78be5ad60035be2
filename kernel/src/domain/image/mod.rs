//! [`Image`]: reads a domain image and lays it out in memory, believing nothing that it has not checked.
//!
//! An image is a static position-independent executable (ELF64 for x86-64, `ET_DYN`, no interpreter) that needs
//! nothing but being copied and relocated. Everything is checked in [`Image::parse`], before a page of memory is
//! spent, one file here for each: `header`, `segment` (where things go and what pages are for), `relocation`, and
//! `notes` (what the image says about itself). [`Image::load_into`] then only copies and adds.
//!
//! An *offset* in an image is counted from where its address 0 is loaded. All of this is safe code on byte slices:
//! whatever the file holds, the worst outcome is an [`ImageError`]. Crate `elf` reads the tables' entries; its
//! iterator over notes ends silently at a malformed one, so notes are walked here.
//!
//! Checking proves that an image is well-formed, not that its code is safe: that rests on who built it.

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

/// A domain image that was found sound.
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
    /// Checks all of `file`.
    pub fn parse(file: &'a [u8]) -> Result<Self, ImageError> {
        let header = header::parse(file)?;
        let segments = Segments::parse(file, &header)?;
        let entry = segments.check_entry(header.e_entry)?;
        let relocations = Relocations::parse(&segments)?;
        let notes = Notes::parse(&segments)?;
        Ok(Self { segments, relocations, notes, entry })
    }

    /// What the entry function wants handed in, in argument order.
    pub fn imports(&self) -> impl ExactSizeIterator<Item = WireInfo<'a>> {
        self.notes.imports.iter().copied()
    }

    /// What the entry function returns.
    pub fn export(&self) -> Option<WireInfo<'a>> {
        self.notes.export
    }

    /// The interfaces as the image's build knew them.
    pub fn interfaces(&self) -> impl Iterator<Item = WireInfo<'a>> {
        self.notes.interfaces.iter().copied()
    }

    /// Offset of the entry function.
    pub fn entry_offset(&self) -> usize {
        self.entry
    }

    /// How many pages the image takes.
    pub fn span_pages(&self) -> usize {
        self.segments.span_pages()
    }

    /// What each page may be used for once the image is loaded: every page of the span, in ascending order.
    /// Neighbours differ. Pages that no segment covers are guards.
    pub fn layout(&self) -> &[Region] {
        &self.segments.regions
    }

    /// The offsets that change while the domain runs, in whole pages. All else stays as [`Self::load_into`] left it, so
    /// a restart needs only these back.
    pub fn writable_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let writable = self.layout().iter().filter(|region| region.protection == Protection::ReadWrite);
        writable.map(|region| region.pages.start * PAGE_SIZE..region.pages.end * PAGE_SIZE)
    }

    /// Copies the image to `memory`, relocated to run at address `base`. The caller protects the pages afterwards, as
    /// [`Self::layout`] says.
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
