//! The registry of shared types: the destructors of objects whose maker's image may be unloaded.
//!
//! It is filled from the kernel image's registry of interfaces, so all destructors are functions of the
//! kernel's own image.

use alloc::collections::{BTreeMap, BTreeSet};

use coppice_abi::Fingerprint;
use coppice_interfaces::{HANDLE_CELL, HandleCell};
use coppice_rref::TypeEntry;
use hashbrown::HashMap;
use spin::Once;

use crate::domain::{interfaces, proxy};

static TYPES: Once<HashMap<Fingerprint, TypeEntry>> = Once::new();

/// Fills the registry. Called once.
///
/// # Panics
/// When two types have the same fingerprint, or two interfaces the same fingerprint or name.
pub(crate) fn init() {
    let (mut names, mut fingerprints) = (BTreeSet::new(), BTreeMap::new());
    let mut types: HashMap<Fingerprint, TypeEntry> = HashMap::new();
    types.insert(
        HANDLE_CELL,
        TypeEntry {
            id: HANDLE_CELL,
            name: "HandleCell",
            // SAFETY: the field's contract: a value with this id is a handle cell.
            drop: |cell| unsafe { proxy::release(cell.cast::<HandleCell>().read()) },
            for_each_root: |_, _| {},
        },
    );
    for interface in interfaces::registry().iter() {
        assert!(names.insert(interface.name), "two interfaces are called {}", interface.name);
        let twin = fingerprints.insert(interface.fingerprint, interface.name);
        assert!(twin.is_none(), "interfaces {} and {twin:?} have the same fingerprint", interface.name);
        (interface.for_each_type)(&mut |entry| {
            let twin = types.insert(entry.id, entry).filter(|twin| twin.name != entry.name);
            assert!(twin.is_none(), "two shared types have the fingerprint {}: {}", entry.id, entry.name);
        });
    }
    TYPES.call_once(|| types);
}

/// Returns the entry of a type that contains references; `None` for all others.
pub(crate) fn find(id: Fingerprint) -> Option<&'static TypeEntry> {
    if id.0 == 0 {
        return None;
    }
    TYPES.get()?.get(&id)
}
