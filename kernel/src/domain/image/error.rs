//! [`ImageError`]: the reason why an image is refused, with its location.

use core::fmt;

use super::{HeaderError, NoteError, RelocationError, SegmentError};

/// The reason why an image is refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// A part lies outside the file: the file was cut short, or a header is wrong.
    Outside {
        /// The part.
        part: Part,
        /// Its first byte, from the start of the file.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// The file's length in bytes.
        file_len: usize,
    },
    /// The file header is not that of a domain image.
    Header(HeaderError),
    /// A program header is invalid.
    Segment {
        /// Its index in the program header table.
        index: usize,
        /// The reason.
        error: SegmentError,
    },
    /// No segment is executable.
    NoCode,
    /// The entry point is not in an executable segment.
    Entry {
        /// The entry point.
        offset: u64,
    },
    /// The dynamic section or the relocation table is invalid.
    Relocation(RelocationError),
    /// A note is invalid.
    Note(NoteError),
    /// The memory to load into does not have the length of the image.
    MemorySize {
        /// The image's span in bytes.
        expected: usize,
        /// The memory's length in bytes.
        actual: usize,
    },
    /// The image cannot be loaded at this address.
    Base {
        /// The address: not page-aligned, or too close to the end of the address space.
        base: usize,
        /// The image's span in bytes.
        span: usize,
    },
}

/// A part of an image file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The ELF header.
    FileHeader,
    /// The program header table.
    ProgramHeaders,
    /// The content of the segment with this program header.
    Segment(usize),
}

impl From<HeaderError> for ImageError {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

impl From<RelocationError> for ImageError {
    fn from(error: RelocationError) -> Self {
        Self::Relocation(error)
    }
}

impl From<NoteError> for ImageError {
    fn from(error: NoteError) -> Self {
        Self::Note(error)
    }
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside { part, offset, len, file_len } => {
                write!(f, "{part} ({len:#x} bytes at {offset:#x}) is outside the file of {file_len:#x} bytes")
            }
            Self::Header(error) => error.fmt(f),
            Self::Segment { index, error } => write!(f, "program header {index}: {error}"),
            Self::NoCode => f.write_str("no segment is executable"),
            Self::Entry { offset } => write!(f, "entry point {offset:#x} is in no executable segment"),
            Self::Relocation(error) => error.fmt(f),
            Self::Note(error) => error.fmt(f),
            Self::MemorySize { expected, actual } => {
                write!(f, "an image of {expected:#x} bytes cannot be loaded into {actual:#x} bytes")
            }
            Self::Base { base, span } => {
                write!(f, "an image of {span:#x} bytes cannot be loaded at address {base:#x}")
            }
        }
    }
}

impl core::error::Error for ImageError {}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FileHeader => f.write_str("the file header"),
            Self::ProgramHeaders => f.write_str("the program header table"),
            Self::Segment(index) => write!(f, "the segment of program header {index}"),
        }
    }
}

/// Returns the `len` bytes of `file` from `offset`, which are `part`.
pub(super) fn slice(file: &[u8], part: Part, offset: u64, len: u64) -> Result<&[u8], ImageError> {
    let bounds = |start: u64, end: u64| Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?);
    let range = offset.checked_add(len).and_then(|end| bounds(offset, end));
    let outside = ImageError::Outside { part, offset, len, file_len: file.len() };
    range.and_then(|range| file.get(range)).ok_or(outside)
}
