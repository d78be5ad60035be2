//! The ELF file header (System V gABI, chapter 4, "ELF Header").

use core::fmt;

use elf::abi::{
    EI_CLASS, EI_DATA, EI_VERSION, ELFCLASS64, ELFDATA2LSB, ELFMAGIC, EM_X86_64, ET_DYN, EV_CURRENT,
};
use elf::endian::LittleEndian;
use elf::file::{Class, ELF64_EHDR_TAILSIZE, FileHeader};

use super::error::slice;
use super::{ImageError, Part};

/// Bytes of the identification at the start of each ELF file.
const IDENT_SIZE: usize = 16;
/// Bytes of a program header of ELF64.
pub(super) const PROGRAM_HEADER_SIZE: usize = 56;

/// The reason why a file header is not that of a domain image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderError {
    /// The file does not begin with `\x7fELF`.
    Magic([u8; 4]),
    /// Not 64-bit.
    Class(u8),
    /// Not little-endian.
    ByteOrder(u8),
    /// Not version 1 of ELF.
    Version(u8),
    /// Not for x86-64.
    Machine(u16),
    /// Not position-independent.
    Kind(u16),
    /// The program headers do not have the size of ELF64 program headers.
    ProgramHeaderSize(u16),
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic(bytes) => write!(f, "not an ELF file: it begins with {bytes:02x?}"),
            Self::Class(class) => write!(f, "ELF class {class}, but images are 64-bit ({ELFCLASS64})"),
            Self::ByteOrder(order) => {
                write!(f, "ELF byte order {order}, but images are little-endian ({ELFDATA2LSB})")
            }
            Self::Version(version) => write!(f, "ELF version {version}, but only {EV_CURRENT} exists"),
            Self::Machine(machine) => {
                write!(f, "built for ELF machine {machine}, but this is x86-64 ({EM_X86_64})")
            }
            Self::Kind(kind) => {
                write!(f, "ELF file type {kind}, but images are position-independent ({ET_DYN})")
            }
            Self::ProgramHeaderSize(size) => {
                write!(f, "program headers of {size} bytes, but ELF64 has {PROGRAM_HEADER_SIZE}")
            }
        }
    }
}

impl core::error::Error for HeaderError {}

/// Reads the header of `file` and checks the kind of the file.
pub(super) fn parse(file: &[u8]) -> Result<FileHeader<LittleEndian>, ImageError> {
    let magic = slice(file, Part::FileHeader, 0, ELFMAGIC.len() as u64)?;
    if magic != ELFMAGIC {
        return Err(HeaderError::Magic(magic.try_into().expect("the magic number is 4 bytes")).into());
    }
    let bytes = slice(file, Part::FileHeader, 0, (IDENT_SIZE + ELF64_EHDR_TAILSIZE) as u64)?;
    let (ident, tail) = bytes.split_at(IDENT_SIZE);
    if ident[EI_CLASS] != ELFCLASS64 {
        return Err(HeaderError::Class(ident[EI_CLASS]).into());
    }
    if ident[EI_DATA] != ELFDATA2LSB {
        return Err(HeaderError::ByteOrder(ident[EI_DATA]).into());
    }
    if ident[EI_VERSION] != EV_CURRENT {
        return Err(HeaderError::Version(ident[EI_VERSION]).into());
    }
    let header = FileHeader::parse_tail((LittleEndian, Class::ELF64, 0, 0), tail)
        .expect("the tail has the size that ELF64 gives it");
    if header.e_machine != EM_X86_64 {
        return Err(HeaderError::Machine(header.e_machine).into());
    }
    if header.e_type != ET_DYN {
        return Err(HeaderError::Kind(header.e_type).into());
    }
    if usize::from(header.e_phentsize) != PROGRAM_HEADER_SIZE {
        return Err(HeaderError::ProgramHeaderSize(header.e_phentsize).into());
    }
    Ok(header)
}
