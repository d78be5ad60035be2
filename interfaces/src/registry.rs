//! All interfaces, in one list: the kernel makes proxies for these and no others.

use coppice_abi::crossing::ProxyCore;
use coppice_abi::note::{self, Name, Note, Wire};
use coppice_abi::{Fingerprint, RawObject};
use coppice_rref::TypeEntry;

use crate::{
    BlockDevice, BlockQueue, Control, Counter, Echo, Engine, Factory, Filter, Guardian, Hoarder, Interface,
    Keeper, NetDevice, NetQueue, Orders, Pool, Subject,
};

/// What the kernel knows of one interface.
#[derive(Clone, Copy)]
pub struct InterfaceEntry {
    /// The trait's name.
    pub name: &'static str,
    /// See [`Interface::FINGERPRINT`].
    pub fingerprint: Fingerprint,
    /// Makes the two words of a proxy over a core, with this image's vtable.
    pub proxy: fn(*const ProxyCore) -> RawObject,
    /// See [`Interface::for_each_type`].
    pub for_each_type: fn(&mut dyn FnMut(TypeEntry)),
}

const fn entry<I: Interface + ?Sized>() -> InterfaceEntry {
    InterfaceEntry {
        name: I::NAME,
        fingerprint: I::FINGERPRINT,
        proxy: |core| I::as_raw(I::proxy(core)),
        for_each_type: I::for_each_type,
    }
}

const ALL: &[InterfaceEntry] = &[
    entry::<dyn BlockDevice>(),
    entry::<dyn BlockQueue>(),
    entry::<dyn Control>(),
    entry::<dyn Counter>(),
    entry::<dyn Echo>(),
    entry::<dyn Engine>(),
    entry::<dyn Factory>(),
    entry::<dyn Filter>(),
    entry::<dyn Guardian>(),
    entry::<dyn Hoarder>(),
    entry::<dyn Keeper>(),
    entry::<dyn NetDevice>(),
    entry::<dyn NetQueue>(),
    entry::<dyn Orders>(),
    entry::<dyn Pool>(),
    entry::<dyn Subject>(),
];

/// The interfaces of this build.
pub fn registry() -> &'static [InterfaceEntry] {
    ALL
}

/// Their notes: an image carries them, so that the loader can name the one that differs from the kernel's.
pub const NOTES: [Note<Wire>; ALL.len()] = {
    let mut notes = [const { Note::new(note::INTERFACE, EMPTY) }; ALL.len()];
    let mut i = 0;
    while i < ALL.len() {
        notes[i] = Note::new(
            note::INTERFACE,
            Wire { name: Name::new(""), interface: Name::new(ALL[i].name), fingerprint: ALL[i].fingerprint },
        );
        i += 1;
    }
    notes
};

const EMPTY: Wire = Wire { name: Name::new(""), interface: Name::new(""), fingerprint: Fingerprint(0) };
