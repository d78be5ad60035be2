//! [`Archive`]: the boot archive, which holds the system manifest and the domain images.
//!
//! It is a ustar file (IEEE Std 1003.1-1988, section 10.1.1), so any `tar` lists it. Crate `tar-no-std` walks
//! the blocks and checks headers, sizes and the end mark, but it skips entries that it cannot present, such
//! as links. Here such entries are errors: a missing image is found at boot and not when a restart needs it.

use core::fmt;

use tar_no_std::{CorruptDataError, PosixHeader, TarArchiveRef, TypeFlag};

const BLOCK: usize = 512;

/// The entry that holds the system manifest, as `coppice_manifest::Manifest::encode` writes it.
pub const MANIFEST: &str = "manifest";

/// A boot archive of which every entry has been checked. Entries are slices of the archive's bytes.
#[derive(Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    tar: TarArchiveRef<'a>,
}

/// The first error in a boot archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ArchiveError {
    /// Offset of the faulty header from the start of the archive, in bytes.
    pub offset: usize,
    /// The fault.
    pub problem: ArchiveProblem,
}

/// A fault of a header, an entry or the whole archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ArchiveProblem {
    /// The length is less than two blocks of 512 bytes, or not a whole number of blocks.
    Length(usize),
    /// The header's checksum does not match its bytes: the header is damaged, or this is not a tar file.
    Checksum,
    /// The header's magic is not `ustar`.
    Format,
    /// The size is not an octal number.
    Size,
    /// The entry extends beyond the end of the archive.
    Truncated,
    /// The archive ends without two blocks of zeros.
    NoEnd,
    /// The entry is not a regular file.
    NotAFile,
    /// The name is not UTF-8, or longer than 100 bytes.
    Name,
    /// An earlier entry has the same name.
    Duplicate,
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot archive, offset {:#x}: ", self.offset)?;
        match self.problem {
            ArchiveProblem::Length(len) => {
                write!(f, "{len} bytes are not a whole archive of 512-byte blocks")
            }
            ArchiveProblem::Checksum => f.write_str("the header's checksum is wrong"),
            ArchiveProblem::Format => f.write_str("the header is not of the ustar format"),
            ArchiveProblem::Size => f.write_str("the entry's size is not an octal number"),
            ArchiveProblem::Truncated => f.write_str("the entry extends beyond the end of the archive"),
            ArchiveProblem::NoEnd => f.write_str("the archive ends here without its end mark"),
            ArchiveProblem::NotAFile => f.write_str("the entry is not a regular file"),
            ArchiveProblem::Name => f.write_str("the entry's name is not UTF-8 or longer than 100 bytes"),
            ArchiveProblem::Duplicate => f.write_str("an earlier entry has the same name"),
        }
    }
}

impl core::error::Error for ArchiveError {}

impl<'a> Archive<'a> {
    /// Checks all headers, names and sizes.
    pub fn new(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let tar = TarArchiveRef::new(bytes).map_err(|error| corrupt(error, bytes.len()))?;
        let archive = Self { bytes, tar };
        for (index, (block, header)) in archive.tar.headers().enumerate() {
            let error = |problem| ArchiveError { offset: block * BLOCK, problem };
            let (name, _) = entry(bytes, block, header).map_err(error)?;
            // Quadratic, but an archive has a few hundred entries at most.
            if archive.names().take(index).any(|earlier| earlier == name) {
                return Err(error(ArchiveProblem::Duplicate));
            }
        }
        Ok(archive)
    }

    /// Returns the content of the entry called `name`.
    pub fn find(&self, name: &str) -> Option<&'a [u8]> {
        self.entries().find(|(entry, _)| *entry == name).map(|(_, content)| content)
    }

    /// The names of all entries, in the archive's order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries().map(|(name, _)| name)
    }

    /// The names and contents of all entries, in the archive's order.
    pub fn entries(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let bytes = self.bytes;
        // `new` rejects every archive in which an entry is an error.
        self.tar.headers().filter_map(move |(block, header)| entry(bytes, block, header).ok())
    }
}

/// Returns name and content of the entry whose header is block `block`.
fn entry<'a>(
    bytes: &'a [u8],
    block: usize,
    header: &'a PosixHeader,
) -> Result<(&'a str, &'a [u8]), ArchiveProblem> {
    if header.magic.as_str() != Ok("ustar") {
        return Err(ArchiveProblem::Format);
    }
    if !header.typeflag.try_to_type_flag().is_ok_and(TypeFlag::is_regular_file) {
        return Err(ArchiveProblem::NotAFile);
    }
    let name = header.name.as_str().map_err(|_| ArchiveProblem::Name)?;
    if name.is_empty() || !header.prefix.is_empty() {
        return Err(ArchiveProblem::Name);
    }
    let len: usize = header.size.as_number().map_err(|_| ArchiveProblem::Size)?;
    let start = (block + 1) * BLOCK;
    let content = bytes.get(start..).and_then(|rest| rest.get(..len)).ok_or(ArchiveProblem::Truncated)?;
    Ok((name, content))
}

/// Translates an error of `tar-no-std`, which counts in blocks, to byte offsets.
fn corrupt(error: CorruptDataError, len: usize) -> ArchiveError {
    let at = |block: usize, problem| ArchiveError { offset: block * BLOCK, problem };
    match error {
        CorruptDataError::EmptyArchive
        | CorruptDataError::InvalidBlockSize
        | CorruptDataError::TooShort { .. } => at(0, ArchiveProblem::Length(len)),
        CorruptDataError::InvalidChecksum { block_index } => at(block_index, ArchiveProblem::Checksum),
        CorruptDataError::InvalidTypeFlag { block_index } => at(block_index, ArchiveProblem::NotAFile),
        CorruptDataError::InvalidPayloadSize { block_index } => at(block_index, ArchiveProblem::Size),
        CorruptDataError::PayloadExtendsBeyondArchive { block_index } => {
            at(block_index, ArchiveProblem::Truncated)
        }
        CorruptDataError::MissingTerminator => ArchiveError { offset: len, problem: ArchiveProblem::NoEnd },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header as `tar --format=ustar` writes it, checksum included.
    fn header(name: &[u8], size: &[u8], kind: u8) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        block[..name.len()].copy_from_slice(name);
        block[100..108].copy_from_slice(b"0000644\0");
        block[124..124 + size.len()].copy_from_slice(size);
        block[136..148].copy_from_slice(b"00000000000\0");
        block[156] = kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        seal(&mut block);
        block
    }

    fn seal(block: &mut [u8]) {
        block[148..156].fill(b' ');
        let sum: u32 = block[..BLOCK].iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in entries {
            bytes.extend(header(name.as_bytes(), format!("{:011o}\0", content.len()).as_bytes(), b'0'));
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
        bytes
    }

    fn sample() -> Vec<u8> {
        archive(&[(MANIFEST, b"wires"), ("images/echo", &[7; 700]), ("images/empty", b"")])
    }

    fn refusal(bytes: &[u8]) -> (usize, ArchiveProblem) {
        let error = Archive::new(bytes).expect_err("the archive is wrong");
        (error.offset, error.problem)
    }

    #[test]
    fn entries_are_found_by_name() {
        let bytes = sample();
        let archive = Archive::new(&bytes).expect("the sample is sound");
        assert_eq!(archive.find(MANIFEST), Some(&b"wires"[..]));
        assert_eq!(archive.find("images/echo"), Some(&[7; 700][..]));
        assert_eq!(archive.find("images/empty"), Some(&[][..]));
        assert_eq!(archive.find("images/ech"), None);
        assert!(archive.names().eq([MANIFEST, "images/echo", "images/empty"]));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert!(Archive::new(&bytes[..len]).is_err(), "{len} of {} bytes were accepted", bytes.len());
        }
        assert_eq!(refusal(&bytes[..1000]), (0, ArchiveProblem::Length(1000)));
        assert_eq!(refusal(&bytes[..4 * BLOCK]), (2 * BLOCK, ArchiveProblem::Truncated));
        assert_eq!(refusal(&bytes[..5 * BLOCK]), (5 * BLOCK, ArchiveProblem::NoEnd));
    }

    #[test]
    fn damaged_header_is_refused() {
        let mut bytes = sample();
        bytes[2 * BLOCK + 3] ^= 1;
        assert_eq!(refusal(&bytes), (2 * BLOCK, ArchiveProblem::Checksum));
    }

    #[test]
    fn file_of_another_format_is_refused() {
        assert_eq!(refusal(&[0x7f; 4096]), (0, ArchiveProblem::Checksum));
        assert_eq!(refusal(&[]), (0, ArchiveProblem::Length(0)));
        let mut bytes = sample();
        bytes[257..262].copy_from_slice(b"gnuta");
        seal(&mut bytes);
        assert_eq!(refusal(&bytes), (0, ArchiveProblem::Format));
    }

    #[test]
    fn absurd_sizes_are_refused() {
        let whole = |size: &[u8]| {
            let mut bytes = header(b"manifest", size, b'0').to_vec();
            bytes.resize(4 * BLOCK, 0);
            bytes
        };
        assert_eq!(refusal(&whole(b"00000003001\0")), (0, ArchiveProblem::Truncated));
        assert_eq!(refusal(&whole(b"777777777777")), (0, ArchiveProblem::Truncated));
        assert_eq!(refusal(&whole(b"-0000000001\0")), (0, ArchiveProblem::Size));
        assert_eq!(refusal(&whole(b"0000000000x\0")), (0, ArchiveProblem::Size));
        assert_eq!(refusal(&whole(&[0xff; 12])), (0, ArchiveProblem::Size));
    }

    #[test]
    fn links_and_folders_are_refused() {
        for kind in [b'1', b'2', b'5', b'x', b'!'] {
            let mut bytes = header(b"images", b"00000000000\0", kind).to_vec();
            bytes.resize(3 * BLOCK, 0);
            assert_eq!(refusal(&bytes), (0, ArchiveProblem::NotAFile));
        }
    }

    #[test]
    fn name_that_is_not_text_or_not_unique_is_refused() {
        let bytes = archive(&[("a", b""), ("b", b"1"), ("a", b"")]);
        assert_eq!(refusal(&bytes), (3 * BLOCK, ArchiveProblem::Duplicate));
        let mut bytes = header(b"\xff", b"00000000000\0", b'0').to_vec();
        bytes.resize(3 * BLOCK, 0);
        assert_eq!(refusal(&bytes), (0, ArchiveProblem::Name));
    }

    #[test]
    fn corrupted_headers_never_panic() {
        let sound = sample();
        for position in 0..BLOCK {
            for value in [0, b' ', b'-', b'7', b'9', 0x80, 0xff] {
                let mut bytes = sound.clone();
                bytes[2 * BLOCK + position] = value;
                // With the right checksum, so that the damage passes that check.
                seal(&mut bytes[2 * BLOCK..]);
                if let Ok(archive) = Archive::new(&bytes) {
                    assert_eq!(archive.names().count(), 3);
                }
            }
        }
    }
}
