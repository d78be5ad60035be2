//! An image's description of itself, in ELF notes that survive stripping.
//!
//! Section `.note.coppice` becomes a `PT_NOTE` segment. Each record is an ordinary ELF note with the name
//! `Coppice`; its type identifies the descriptor. Descriptors are fixed-size plain bytes, so the loader reads
//! them without following a pointer of an image that it does not trust yet.

use core::mem::offset_of;

use crate::{Fingerprint, fingerprint};

/// The name of every note, with the NUL that ELF counts in `n_namesz`.
pub const NAME: [u8; 8] = *b"Coppice\0";

/// Note type of [`Identity`]: exactly one per image.
pub const IDENTITY: u32 = 1;
/// Note type of [`Wire`]: an interface that the image's entry function imports. In argument order.
pub const IMPORT: u32 = 2;
/// Note type of [`Wire`]: the interface that the entry function returns; at most one per image.
pub const EXPORT: u32 = 3;
/// Note type of [`Wire`] with an empty `name`: an interface of a contract crate that the image is linked
/// with, in the version of the image's build.
pub const INTERFACE: u32 = 4;

/// Maximum length of the name of a domain, an interface or an import, in bytes.
pub const NAME_LIMIT: usize = 32;

/// The compiler that built this side: release and commit.
pub const COMPILER: &str = env!("COPPICE_RUSTC");

/// Covers everything that both sides must agree on before they exchange a typed word. Change the text when
/// the layout of [`crate::Services`], an entry signature or a shared object's header changes.
pub const ABI: Fingerprint = fingerprint("coppice abi 6")
    .text(COMPILER)
    .number(size_of::<crate::Services>() as u64)
    .number(size_of::<crate::EntryArguments>() as u64)
    .number(size_of::<crate::Upcall>() as u64)
    .number(size_of::<crate::crossing::Continuation>() as u64)
    .number(size_of::<crate::crossing::ThreadControl>() as u64)
    .finish();

/// A name in a note: bytes, padded with NUL.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Name([u8; NAME_LIMIT]);

impl Name {
    /// Pads `name`. A name longer than [`NAME_LIMIT`] does not compile, since notes are constants.
    pub const fn new(name: &str) -> Self {
        let bytes = name.as_bytes();
        assert!(bytes.len() <= NAME_LIMIT, "a name in an image's notes is at most 32 bytes long");
        let mut padded = [0; NAME_LIMIT];
        let mut i = 0;
        while i < bytes.len() {
            padded[i] = bytes[i];
            i += 1;
        }
        Self(padded)
    }

    /// Returns the name without its padding, or `None` if it is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        let len = self.0.iter().position(|&b| b == 0).unwrap_or(NAME_LIMIT);
        core::str::from_utf8(&self.0[..len]).ok()
    }
}

/// Descriptor of an [`IDENTITY`] note, 72 bytes: `abi`, `compiler` (the first 40 bytes of [`COMPILER`]).
#[repr(C)]
pub struct Identity {
    /// The image's [`ABI`].
    abi: Fingerprint,
    /// Shown in the error message when `abi` differs.
    compiler: [u8; 40],
}

impl Identity {
    /// Offset of the ABI's fingerprint.
    pub const ABI: usize = offset_of!(Self, abi);
    /// Offset of the compiler's name, which is the last field.
    pub const COMPILER: usize = offset_of!(Self, compiler);
}

/// Descriptor of an [`IMPORT`] or [`EXPORT`] note, 96 bytes.
#[repr(C)]
pub struct Wire {
    /// The import's name in the manifest; empty for an export.
    name: Name,
    /// The interface's name, for error messages.
    interface: Name,
    /// The interface's structural fingerprint.
    fingerprint: Fingerprint,
}

impl Wire {
    /// Offset of the import's name.
    pub const NAME: usize = offset_of!(Self, name);
    /// Offset of the interface's name.
    pub const INTERFACE: usize = offset_of!(Self, interface);
    /// Offset of the interface's fingerprint.
    pub const FINGERPRINT: usize = offset_of!(Self, fingerprint);

    /// Makes the descriptor of an import, of an export, or of an interface.
    ///
    /// # Safety
    /// Where the image passes or takes a handle for this note, its interface is the one with that
    /// fingerprint.
    pub const unsafe fn new(name: &str, interface: &str, fingerprint: Fingerprint) -> Self {
        Self { name: Name::new(name), interface: Name::new(interface), fingerprint }
    }
}

/// One note record, as the entry macro emits it into `.note.coppice`.
#[repr(C, align(4))]
pub struct Note<D> {
    name_size: u32,
    descriptor_size: u32,
    kind: u32,
    name: [u8; 8],
    descriptor: Packed<D>,
}

// ELF notes are 4-byte aligned; without this the 8-byte fields of a descriptor would shift it.
#[repr(C, packed(4))]
struct Packed<D>(D);

impl<D> Note<D> {
    /// Returns a record of type `kind`.
    pub const fn new(kind: u32, descriptor: D) -> Self {
        Self {
            name_size: NAME.len() as u32,
            descriptor_size: size_of::<D>() as u32,
            kind,
            name: NAME,
            descriptor: Packed(descriptor),
        }
    }
}

/// Returns the identity note of this build.
pub const fn identity() -> Note<Identity> {
    let bytes = COMPILER.as_bytes();
    let mut compiler = [0; 40];
    let mut i = 0;
    while i < bytes.len() && i < compiler.len() {
        compiler[i] = bytes[i];
        i += 1;
    }
    Note::new(IDENTITY, Identity { abi: ABI, compiler })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_have_no_padding() {
        assert_eq!(size_of::<Note<Identity>>(), 20 + 72);
        assert_eq!(size_of::<Note<Wire>>(), 20 + 96);
    }

    #[test]
    fn a_name_of_maximum_length_is_not_cut() {
        let full = "x".repeat(NAME_LIMIT);
        assert_eq!(Name::new(&full).as_str(), Some(full.as_str()));
        assert_eq!(Name::new("echo").as_str(), Some("echo"));
    }
}
