//! [`Imports`] and [`Exports`]: the arguments and the result of a domain's entry function.

use core::ptr::NonNull;

use coppice_abi::Fingerprint;
use coppice_abi::note::{Name, Note, Wire};

/// Handles that the kernel made for an entry function, in the order of its import notes.
pub struct RawHandles<'a> {
    rest: core::slice::Iter<'a, *mut u8>,
}

impl<'a> RawHandles<'a> {
    /// Yields `handles` in order.
    ///
    /// # Safety
    /// The caller gives up each handle cell. Each is of the interface that the import note at the same index
    /// names.
    pub unsafe fn new(handles: &'a [*mut u8]) -> Self {
        Self { rest: handles.iter() }
    }

    pub(crate) fn next(&mut self) -> NonNull<u8> {
        let &cell = self.rest.next().expect("the loader counted the imports");
        NonNull::new(cell).expect("the kernel made a cell for each import")
    }
}

/// The argument of an entry function: a struct of [`crate::Handle`]s with `#[derive(Imports)]`, or `()`.
///
/// # Safety
/// `take` takes one handle for each note, in their order, as one of the interface that the note names.
pub unsafe trait Imports: Sized {
    /// The notes' array type.
    type Notes: Sync + 'static;
    /// One note per handle, in the order in which [`Self::take`] takes them.
    const NOTES: Self::Notes;
    /// Takes the handles.
    fn take(handles: &mut RawHandles<'_>) -> Self;
}

// SAFETY: takes nothing.
unsafe impl Imports for () {
    type Notes = [Note<Wire>; 0];
    const NOTES: Self::Notes = [];
    fn take(_: &mut RawHandles<'_>) -> Self {}
}

/// One handle among [`Imports`].
///
/// # Safety
/// `take` takes one handle, as one of the interface that the constants describe.
pub unsafe trait Import {
    /// The interface's name.
    const INTERFACE: &'static str;
    /// The interface's fingerprint.
    const FINGERPRINT: Fingerprint;
    /// Takes the next handle.
    fn take(handles: &mut RawHandles<'_>) -> Self;
}

/// The note of import `name`.
pub const fn import_note<H: Import>(name: &str) -> Note<Wire> {
    Note::new(
        coppice_abi::note::IMPORT,
        Wire { name: Name::new(name), interface: Name::new(H::INTERFACE), fingerprint: H::FINGERPRINT },
    )
}

/// The result of an entry function: the one [`crate::Handle`] that the manifest wires to others, or `()`.
///
/// # Safety
/// `give` returns a handle of the interface that the note names, or null if there is no note.
pub unsafe trait Exports {
    /// The notes' array type.
    type Notes: Sync + 'static;
    /// The export's note, or none.
    const NOTES: Self::Notes;
    /// Gives the handle up to the kernel. Returns its cell, or null for `()`.
    fn give(self) -> *mut u8;
}

// SAFETY: gives nothing.
unsafe impl Exports for () {
    type Notes = [Note<Wire>; 0];
    const NOTES: Self::Notes = [];
    fn give(self) -> *mut u8 {
        core::ptr::null_mut()
    }
}
