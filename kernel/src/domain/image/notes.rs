//! The notes of an image: its identity, imports, interfaces and export. See [`coppice_abi::note`] for the
//! records, and the gABI, chapter 5, "Note Section", for their format. Notes of other owners are skipped.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use coppice_abi::Fingerprint;
use coppice_abi::note::{
    ABI, COMPILER, EXPORT, IDENTITY, IMPORT, INTERFACE, Identity, NAME, NAME_LIMIT, Wire,
};

use super::segment::{NoteSegment, Segments};

/// The maximum number of imports of an image.
pub const IMPORT_LIMIT: usize = 64;

/// The size of a record header: the sizes of name and descriptor, and the type.
const RECORD_HEADER_SIZE: usize = 12;

/// An import or export of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireInfo<'a> {
    /// The import's name in the manifest; empty for an export.
    pub name: &'a str,
    /// The interface's name.
    pub interface: &'a str,
    /// The interface's structural fingerprint.
    pub fingerprint: Fingerprint,
}

/// The reason why an image's notes are refused. Offsets are from the start of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoteError {
    /// The record continues past the end of its segment.
    Truncated {
        /// The offset of the record.
        offset: usize,
    },
    /// A Coppice note of an unknown type.
    Kind {
        /// The offset of the record.
        offset: usize,
        /// The type.
        kind: u32,
    },
    /// The descriptor does not have the size that its type requires.
    Size {
        /// The offset of the record.
        offset: usize,
        /// The type.
        kind: u32,
        /// The descriptor's size in bytes.
        len: usize,
        /// The required size in bytes.
        expected: usize,
    },
    /// There is no identity: this is not a domain image.
    NoIdentity,
    /// There is a second identity.
    IdentityRepeated {
        /// The offset of the second record.
        offset: usize,
    },
    /// The image was built by another compiler, or against another ABI.
    Foreign {
        /// The image's compiler.
        compiler: CompilerText,
        /// The image's ABI.
        abi: Fingerprint,
    },
    /// A name is not UTF-8, or an import has none.
    Name {
        /// The offset of the record.
        offset: usize,
    },
    /// Two imports have the same name.
    ImportRepeated {
        /// The offset of the second record.
        offset: usize,
        /// The name.
        name: String,
    },
    /// There are more than [`IMPORT_LIMIT`] imports.
    TooManyImports {
        /// The offset of the first record beyond the limit.
        offset: usize,
    },
    /// There is a second export.
    ExportRepeated {
        /// The offset of the second record.
        offset: usize,
    },
}

/// The compiler that an identity names: release and commit, cut to 40 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompilerText([u8; 40]);

impl CompilerText {
    /// The compiler that built this kernel.
    fn own() -> Self {
        let mut text = [0; 40];
        let len = COMPILER.len().min(text.len());
        text[..len].copy_from_slice(&COMPILER.as_bytes()[..len]);
        Self(text)
    }
}

impl fmt::Display for CompilerText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        // The text comes from an untrusted image, so control codes must not reach the log.
        write!(f, "rustc {}", self.0[..len].escape_ascii())
    }
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { offset } => {
                write!(f, "note at {offset:#x}: continues past the end of its segment")
            }
            Self::Kind { offset, kind } => write!(f, "note at {offset:#x}: type {kind} is unknown"),
            Self::Size { offset, kind, len, expected } => {
                write!(f, "note at {offset:#x}: type {kind} has {len} bytes, but should have {expected}")
            }
            Self::NoIdentity => f.write_str("no identity note: not a domain image"),
            Self::IdentityRepeated { offset } => write!(f, "note at {offset:#x}: a second identity"),
            Self::Foreign { compiler, abi } if *compiler == CompilerText::own() => {
                write!(f, "built by the same compiler against ABI {abi}, but this kernel's is {ABI}")
            }
            Self::Foreign { compiler, abi } => write!(
                f,
                "built by {compiler} (ABI {abi}), but this kernel by {} (ABI {ABI})",
                CompilerText::own()
            ),
            Self::Name { offset } => write!(f, "note at {offset:#x}: its name is missing or not UTF-8"),
            Self::ImportRepeated { offset, name } => {
                write!(f, "note at {offset:#x}: a second import called `{name}`")
            }
            Self::TooManyImports { offset } => {
                write!(f, "note at {offset:#x}: more than {IMPORT_LIMIT} imports")
            }
            Self::ExportRepeated { offset } => write!(f, "note at {offset:#x}: a second export"),
        }
    }
}

impl core::error::Error for NoteError {}

/// An image's imports, interfaces and export. Its identity equals the kernel's.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    pub(super) imports: Vec<WireInfo<'a>>,
    pub(super) interfaces: Vec<WireInfo<'a>>,
    pub(super) export: Option<WireInfo<'a>>,
}

impl<'a> Notes<'a> {
    pub(super) fn parse(segments: &Segments<'a>) -> Result<Self, NoteError> {
        // Identity first: the format of the other records is a part of the ABI that it vouches for.
        let mut identified = false;
        each_record(&segments.notes, |record| {
            if record.kind == IDENTITY {
                if core::mem::replace(&mut identified, true) {
                    return Err(NoteError::IdentityRepeated { offset: record.offset });
                }
                check_identity(record)?;
            }
            Ok(())
        })?;
        if !identified {
            return Err(NoteError::NoIdentity);
        }

        let mut notes = Self { imports: Vec::new(), interfaces: Vec::new(), export: None };
        each_record(&segments.notes, |record| match record.kind {
            IDENTITY => Ok(()),
            IMPORT => notes.add_import(record),
            INTERFACE => {
                notes.interfaces.push(wire(record)?);
                Ok(())
            }
            EXPORT => match notes.export.replace(wire(record)?) {
                Some(_) => Err(NoteError::ExportRepeated { offset: record.offset }),
                None => Ok(()),
            },
            kind => Err(NoteError::Kind { offset: record.offset, kind }),
        })?;
        Ok(notes)
    }

    fn add_import(&mut self, record: &Record<'a>) -> Result<(), NoteError> {
        let Record { offset, .. } = *record;
        let import = wire(record)?;
        if import.name.is_empty() {
            return Err(NoteError::Name { offset });
        }
        if self.imports.iter().any(|earlier| earlier.name == import.name) {
            return Err(NoteError::ImportRepeated { offset, name: import.name.into() });
        }
        if self.imports.len() == IMPORT_LIMIT {
            return Err(NoteError::TooManyImports { offset });
        }
        self.imports.push(import);
        Ok(())
    }
}

/// A Coppice note.
struct Record<'a> {
    /// The offset in the file.
    offset: usize,
    kind: u32,
    descriptor: &'a [u8],
}

impl<'a> Record<'a> {
    /// Returns the descriptor if it has the size of a `D`.
    fn descriptor<D>(&self) -> Result<&'a [u8], NoteError> {
        let Self { offset, kind, descriptor } = *self;
        let (len, expected) = (descriptor.len(), size_of::<D>());
        if len == expected { Ok(descriptor) } else { Err(NoteError::Size { offset, kind, len, expected }) }
    }
}

/// Calls `visit` for each Coppice note, in the order of the file, until it fails.
fn each_record<'a>(
    segments: &[NoteSegment<'a>],
    mut visit: impl FnMut(&Record<'a>) -> Result<(), NoteError>,
) -> Result<(), NoteError> {
    for segment in segments {
        let mut at = 0;
        while at < segment.content.len() {
            let offset = segment.offset + at;
            let (next, name, record) = read_record(segment, at).ok_or(NoteError::Truncated { offset })?;
            if name == NAME {
                visit(&record)?;
            }
            at = next;
        }
    }
    Ok(())
}

/// Reads the note at `at`. Returns the start of the next note, the owner's name, and the note.
fn read_record<'a>(segment: &NoteSegment<'a>, at: usize) -> Option<(usize, &'a [u8], Record<'a>)> {
    let bytes = segment.content;
    let name_start = at.checked_add(RECORD_HEADER_SIZE)?;
    let header = bytes.get(at..name_start)?;
    let name_end = name_start.checked_add(u32_at(header, 0) as usize)?;
    let start = name_end.checked_next_multiple_of(segment.align)?;
    let end = start.checked_add(u32_at(header, 4) as usize)?;
    let record =
        Record { offset: segment.offset + at, kind: u32_at(header, 8), descriptor: bytes.get(start..end)? };
    // The padding of the last note may be missing.
    Some((end.checked_next_multiple_of(segment.align)?, bytes.get(name_start..name_end)?, record))
}

/// Checks that an identity equals the kernel's own.
fn check_identity(record: &Record<'_>) -> Result<(), NoteError> {
    let bytes = record.descriptor::<Identity>()?;
    let abi = fingerprint_at(bytes, Identity::ABI);
    let compiler = bytes[Identity::COMPILER..].first_chunk().copied();
    let compiler = CompilerText(compiler.expect("the compiler is the last field of an identity"));
    if abi == ABI && compiler == CompilerText::own() {
        Ok(())
    } else {
        Err(NoteError::Foreign { compiler, abi })
    }
}

fn wire<'a>(record: &Record<'a>) -> Result<WireInfo<'a>, NoteError> {
    let bytes = record.descriptor::<Wire>()?;
    let text = |start: usize| {
        let padded = &bytes[start..start + NAME_LIMIT];
        let len = padded.iter().position(|&byte| byte == 0).unwrap_or(NAME_LIMIT);
        core::str::from_utf8(&padded[..len]).map_err(|_| NoteError::Name { offset: record.offset })
    };
    Ok(WireInfo {
        name: text(Wire::NAME)?,
        interface: text(Wire::INTERFACE)?,
        fingerprint: fingerprint_at(bytes, Wire::FINGERPRINT),
    })
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the slice is 4 bytes long"))
}

fn fingerprint_at(bytes: &[u8], at: usize) -> Fingerprint {
    let bytes = bytes[at..at + Fingerprint::SIZE].try_into();
    Fingerprint::from_bytes(bytes.expect("the slice is as long as a fingerprint"))
}
