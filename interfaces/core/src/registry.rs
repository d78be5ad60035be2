//! [`Registry`]: the interfaces of a kernel image.
//!
//! The kernel makes proxies for these interfaces and for no others. Each family of contracts lists its own
//! interfaces in a constant, and each kernel image (`kernel/bare`, `kernel/hosted`) lists its families. So a
//! new contract needs no change here, and a kernel for production carries no proxy that only a test calls.
//! Collecting the entries by a linker section was rejected: an explicit list names everything that is
//! trusted.

use coppice_abi::crossing::ProxyCore;
use coppice_abi::{Fingerprint, RawObject};
use coppice_rref::TypeEntry;

use crate::Interface;

/// One interface, as the kernel knows it.
#[derive(Clone, Copy)]
pub struct InterfaceEntry {
    name: &'static str,
    fingerprint: Fingerprint,
    proxy: unsafe fn(*const ProxyCore) -> RawObject,
    for_each_type: fn(&mut dyn FnMut(TypeEntry)),
}

impl InterfaceEntry {
    /// The entry of interface `I`.
    pub const fn of<I: Interface + ?Sized>() -> Self {
        Self {
            name: I::NAME,
            fingerprint: I::FINGERPRINT,
            proxy: |core| {
                // SAFETY: the contract of `Self::proxy`.
                let proxy = unsafe { I::proxy(core) };
                // SAFETY: as above.
                unsafe { I::as_raw(proxy) }
            },
            for_each_type: I::for_each_type,
        }
    }

    /// The trait's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The interface's [`Interface::FINGERPRINT`].
    pub const fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Returns the two words of a proxy over a core, with this image's vtable.
    ///
    /// # Safety
    /// `core` is that of a proxy of this interface, and the words are used as those of that proxy.
    pub unsafe fn proxy(&self, core: *const ProxyCore) -> RawObject {
        // SAFETY: the caller's promise.
        unsafe { (self.proxy)(core) }
    }

    /// Visits the entries of all types with references inside that cross through the interface.
    pub fn for_each_type(&self, visit: &mut dyn FnMut(TypeEntry)) {
        (self.for_each_type)(visit);
    }
}

/// The families whose proxies a kernel image carries.
#[derive(Clone, Copy)]
pub struct Registry(&'static [&'static [InterfaceEntry]]);

impl Registry {
    /// A registry of `families`. Names and fingerprints must be unique; the kernel checks that when it boots.
    pub const fn new(families: &'static [&'static [InterfaceEntry]]) -> Self {
        Self(families)
    }

    /// Iterates over all interfaces.
    pub fn iter(&self) -> impl Iterator<Item = &'static InterfaceEntry> + use<> {
        self.0.iter().flat_map(|family| family.iter())
    }

    /// The interface of that name.
    pub fn by_name(&self, name: &str) -> Option<&'static InterfaceEntry> {
        self.iter().find(|entry| entry.name() == name)
    }

    /// The interface with that fingerprint.
    pub fn by_fingerprint(&self, fingerprint: Fingerprint) -> Option<&'static InterfaceEntry> {
        self.iter().find(|entry| entry.fingerprint() == fingerprint)
    }
}
