//! The registry of shared types: the destructors of objects whose maker's image may be unloaded.
//!
//! It is filled from the kernel image's registry of interfaces, so all destructors are functions of the
//! kernel's own image. Images name a type by its fingerprint when they make an object; the object's header
//! holds the number that the registry gives it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::hash::{BuildHasherDefault, Hasher};

use coppice_abi::{Fingerprint, TypeNumber, fingerprint};
use coppice_interfaces::HandleCell;
use coppice_rref::TypeEntry;
use hashbrown::HashMap;
use spin::Once;

use crate::domain::{interfaces, proxy};

static TYPES: Once<Types> = Once::new();

struct Types {
    /// The entry of number `n` is at index `n - 1`.
    entries: Vec<TypeEntry>,
    numbers: HashMap<Fingerprint, TypeNumber, BuildHasherDefault<FirstBytes>>,
}

impl Types {
    /// Adds a type that several interfaces may mention.
    ///
    /// # Panics
    /// When another type has the same fingerprint.
    fn add(&mut self, entry: TypeEntry) {
        let next = TypeNumber::from_bits(self.entries.len() as u64 + 1);
        let number = *self.numbers.entry(entry.id()).or_insert(next);
        if number == next {
            self.entries.push(entry);
        }
        let known = self.entry(number).map_or("", TypeEntry::name);
        assert!(
            known == entry.name(),
            "two shared types have the fingerprint {}: {known} and {}",
            entry.id(),
            entry.name()
        );
    }

    fn entry(&self, number: TypeNumber) -> Option<&TypeEntry> {
        self.entries.get(usize::try_from(number.to_bits().checked_sub(1)?).ok()?)
    }
}

/// Fills the registry. Called once.
///
/// # Panics
/// When two types have the same fingerprint, or two interfaces the same fingerprint or name.
pub(crate) fn init() {
    let (mut names, mut fingerprints) = (BTreeSet::new(), BTreeMap::new());
    let mut types = Types { entries: Vec::new(), numbers: HashMap::default() };
    // The first one, so its number is `TypeNumber::HANDLE_CELL`.
    types.add(handle_cell());
    for interface in interfaces::registry().iter() {
        assert!(names.insert(interface.name()), "two interfaces are called {}", interface.name());
        let twin = fingerprints.insert(interface.fingerprint(), interface.name());
        assert!(twin.is_none(), "interfaces {} and {twin:?} have the same fingerprint", interface.name());
        interface.for_each_type(&mut |entry| types.add(entry));
    }
    TYPES.call_once(|| types);
}

fn handle_cell() -> TypeEntry {
    const ID: Fingerprint = fingerprint("handle cell").finish();
    // SAFETY: the contract of `TypeEntry::drop_value`: the value is a handle cell that is not used again.
    let drop = |cell: *mut u8| unsafe { proxy::release(cell.cast::<HandleCell>().read()) };
    // SAFETY: a cell refers to no shared object.
    unsafe { TypeEntry::new(ID, "HandleCell", drop, |_, _| {}) }
}

/// Returns the number of a type that contains references; `NONE` for all others.
pub(crate) fn number(id: Fingerprint) -> TypeNumber {
    TYPES.get().and_then(|types| types.numbers.get(&id).copied()).unwrap_or(TypeNumber::NONE)
}

/// Returns the entry of that number; `None` if there is no such type.
pub(crate) fn entry(number: TypeNumber) -> Option<&'static TypeEntry> {
    TYPES.get()?.entry(number)
}

/// Takes the first 64 bits of a fingerprint as its hash: they are uniformly distributed already, and all keys
/// are the kernel's.
#[derive(Default)]
struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
    fn write_usize(&mut self, _: usize) {
        // The length of the array of bytes.
    }
    fn finish(&self) -> u64 {
        self.0
    }
}
