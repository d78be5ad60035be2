//! [`Imports`] and [`Exports`]: the arguments and the result of a domain's entry function.

use core::ptr::NonNull;

use coppice_abi::note::{EXPORT, IMPORT, INTERFACE, Note, Wire};

use crate::{Handle, Interface};

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

    fn next(&mut self) -> NonNull<u8> {
        let &cell = self.rest.next().expect("the loader counted the imports");
        NonNull::new(cell).expect("the kernel made a cell for each import")
    }
}

/// The argument of an entry function: a struct of [`Handle`]s with `#[derive(Imports)]`, or `()`.
///
/// It is a safe trait: the image's notes and the conversion of the kernel's cells both follow from
/// [`Self::Handles`], so no implementation can make a handle of one interface out of a cell of another.
pub trait Imports: Sized {
    /// The handles as a list: `(Handle<dyn A>, (Handle<dyn B>, ()))`.
    type Handles: HandleList<Self>;
    /// The name of each handle in the manifest, in the same order.
    const NAMES: &'static [&'static str];
    /// Makes the value of the handles.
    fn from_handles(handles: Self::Handles) -> Self;
}

impl Imports for () {
    type Handles = ();
    const NAMES: &'static [&'static str] = &[];
    fn from_handles((): ()) -> Self {}
}

/// The list of the handles in the imports `I`: `()`, or a pair of a [`Handle`] and a list.
///
/// # Safety
/// `take` takes one handle for each note, in their order, as one of the interface that the note names.
#[diagnostic::on_unimplemented(
    message = "imports are `Handle`s, and `{Self}` is no list of them",
    label = "the type of a field of this struct is not a `Handle`",
    note = "an entry function receives handles alone; other values are the domain's own state"
)]
pub unsafe trait HandleList<I: Imports>: Sized {
    /// The number of handles.
    const COUNT: usize;
    /// The type of the notes.
    type Notes: Sync + 'static;
    /// One note for each handle.
    const NOTES: Self::Notes;
    /// Takes the handles.
    fn take(handles: &mut RawHandles<'_>) -> Self;
}

/// The note of a handle and those of the handles after it, one behind the other.
#[repr(C)]
pub struct NoteList<R>(Note<Wire>, R);

// SAFETY: takes nothing.
unsafe impl<I: Imports> HandleList<I> for () {
    const COUNT: usize = 0;
    type Notes = ();
    const NOTES: Self::Notes = ();
    fn take(_: &mut RawHandles<'_>) -> Self {}
}

// SAFETY: takes the next handle as one of the interface that its note names, and then the rest.
unsafe impl<I: Imports, J: Interface + ?Sized, R: HandleList<I>> HandleList<I> for (Handle<J>, R) {
    const COUNT: usize = 1 + R::COUNT;
    type Notes = NoteList<R::Notes>;
    const NOTES: Self::Notes = {
        let name = I::NAMES[I::NAMES.len() - Self::COUNT];
        // SAFETY: `take` takes a handle of this interface.
        NoteList(Note::new(IMPORT, unsafe { Wire::new(name, J::NAME, J::FINGERPRINT) }), R::NOTES)
    };
    fn take(handles: &mut RawHandles<'_>) -> Self {
        // SAFETY: the loader matched each import's fingerprint with the export that it is wired to, in this
        // order.
        let first = unsafe { Handle::from_cell(handles.next()) };
        (first, R::take(handles))
    }
}

/// The type of the notes of the imports `I`.
pub type ImportNotes<I> = <<I as Imports>::Handles as HandleList<I>>::Notes;

/// Returns the notes of the imports `I`.
pub const fn import_notes<I: Imports>() -> ImportNotes<I> {
    const { assert!(I::NAMES.len() == I::Handles::COUNT, "each import has one name") };
    I::Handles::NOTES
}

/// Takes the imports of an entry function.
pub fn take_imports<I: Imports>(handles: &mut RawHandles<'_>) -> I {
    I::from_handles(I::Handles::take(handles))
}

/// Returns the note that says in which version an image knows interface `I`.
pub const fn interface_note<I: Interface + ?Sized>() -> Note<Wire> {
    // SAFETY: the note passes no handle.
    Note::new(INTERFACE, unsafe { Wire::new("", I::NAME, I::FINGERPRINT) })
}

/// The result of an entry function: the one [`Handle`] that the manifest wires to others, or `()`.
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

// SAFETY: the note names the interface of the handle that `give` returns.
unsafe impl<I: Interface + ?Sized> Exports for Handle<I> {
    type Notes = [Note<Wire>; 1];
    const NOTES: Self::Notes = {
        // SAFETY: `give` returns a handle of this interface.
        [Note::new(EXPORT, unsafe { Wire::new("", I::NAME, I::FINGERPRINT) })]
    };
    fn give(self) -> *mut u8 {
        self.into_cell().as_ptr().cast()
    }
}
