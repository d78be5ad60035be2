//! [`Imports`] and [`Exports`]: what a domain's entry function takes and gives.

use core::ptr::NonNull;

use coppice_abi::Fingerprint;
use coppice_abi::note::{Name, Note, Wire};

/// Handles that the kernel made for an entry function, in the order of its import notes.
pub struct RawHandles<'a> {
    rest: core::slice::Iter<'a, *mut u8>,
}

impl<'a> RawHandles<'a> {
    /// Hands out `handles` in order.
    ///
    /// # Safety
    /// Each is a handle cell that the caller gives up, of the interface that the import note at the same place names.
    pub unsafe fn new(handles: &'a [*mut u8]) -> Self {
        Self { rest: handles.iter() }
    }

    pub(crate) fn next(&mut self) -> NonNull<u8> {
        let &cell = self.rest.next().expect("the loader counted the imports");
        NonNull::new(cell).expect("the kernel made a cell for each import")
    }
}

/// What an entry function wants: a struct of [`crate::Handle`]s with `#[derive(Imports)]`, or `()`.
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

/// What an entry function returns: the one [`crate::Handle`] that the manifest wires to others, or `()`.
///
/// # Safety
/// `give` gives a handle of the interface that the note names, or null if there is none.
pub unsafe trait Exports {
    /// The notes' array type.
    type Notes: Sync + 'static;
    /// The export's note, if there is one.
    const NOTES: Self::Notes;
    /// Gives the handle to the kernel: its cell, or null when there is none.
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
