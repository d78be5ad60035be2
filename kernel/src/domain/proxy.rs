//! Proxies, which stand between a handle and the object of another domain.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use coppice_abi::crossing::ProxyCore;
use coppice_abi::{DomainId, DropTarget, Fingerprint, RawObject, Refusal, TypeNumber};
use coppice_interfaces::{HandleCell, InterfaceEntry};
use coppice_rref::{Header, heap};

use crate::domain::{enter, interfaces, reaper, shared_heap};
use crate::memory::heap::{Charge, Purpose, try_box};
use crate::platform::sync::outside_section;
use crate::sched::liveness;
use crate::sched::world::Stopped;

pub(crate) mod gate;

/// A proxy, in the kernel's heap, charged to the slot of the domain that made it until it is freed. Each
/// handle cell that points to it holds a reference.
#[repr(C)]
pub(crate) struct Proxy {
    /// The first field: a handle cell points to it, and the interface's proxy type is transparent over it.
    core: ProxyCore,
    /// The number of references: handle cells, calls that [`retain`] counted, and the [`ExportProxy`]'s own.
    references: AtomicU32,
    /// The references that the present audit has counted.
    seen: AtomicU32,
    interface: &'static InterfaceEntry,
    /// The destructor of the target; `None` if another proxy is responsible for it.
    drop_target: UnsafeCell<Option<DropTarget>>,
    /// The next proxy in the reaper's queue; the reaper's, once there are no references.
    pub(super) next: Option<NonNull<Proxy>>,
}

// SAFETY: `drop_target` changes under the same rule as the core's target.
unsafe impl Sync for Proxy {}

/// A proxy that outlives its domain's instances: the target of the manifest's wires. A restart gives it a new
/// target object.
pub(crate) struct ExportProxy(NonNull<Proxy>);

// SAFETY: an export proxy is a reference to a `Sync` proxy.
unsafe impl Send for ExportProxy {}

/// The number of proxies with references.
static REFERENCED: AtomicUsize = AtomicUsize::new(0);

/// The number of proxies with references.
pub(crate) fn with_references() -> usize {
    REFERENCED.load(Ordering::Relaxed)
}

/// Makes a proxy for an object of `owner`, and a handle to it that `owner` owns.
///
/// # Errors
/// When the kernel does not know the interface, the domain may not use more of the kernel's heap, or the
/// shared heap has no room for the handle.
pub(crate) fn export(
    owner: DomainId,
    interface: Fingerprint,
    target: RawObject,
    drop_target: DropTarget,
) -> Result<NonNull<u8>, Refusal> {
    let interface = interfaces::registry().by_fingerprint(interface).ok_or(Refusal::UnknownInterface)?;
    publish(Proxy::new(owner, interface, target, Some(drop_target)), owner)
}

impl Proxy {
    /// Returns a proxy without references for an object of `instance`.
    fn new(
        instance: DomainId,
        interface: &'static InterfaceEntry,
        target: RawObject,
        drop_target: Option<DropTarget>,
    ) -> Self {
        // SAFETY: the exporting domain vouches for the target's interface, or it is that of a proxy of this
        // interface.
        let core = unsafe { ProxyCore::new(instance, liveness::word(instance.slot()), target) };
        let drop_target = UnsafeCell::new(drop_target);
        Self {
            core,
            references: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            interface,
            drop_target,
            next: None,
        }
    }
}

/// Moves a proxy to the heap, at the expense of `owner`'s slot. Returns a handle to it that `owner` owns, if
/// the shared heap has room.
fn publish(proxy: Proxy, owner: DomainId) -> Result<NonNull<u8>, Refusal> {
    let proxy = try_box(Charge::to(owner, Purpose::Proxy), proxy).ok_or(Refusal::KernelHeap)?;
    let proxy = Box::leak(proxy);
    let handle = handle(proxy, owner);
    if handle.is_err() {
        // SAFETY: leaked above, and it has no references.
        drop(unsafe { Box::from_raw(proxy) });
    } else {
        REFERENCED.fetch_add(1, Ordering::Relaxed);
    }
    handle
}

/// Makes a handle to `proxy`, owned by `owner`.
fn handle(proxy: &Proxy, owner: DomainId) -> Result<NonNull<u8>, Refusal> {
    const CLASS: usize = heap::class_of(size_of::<HandleCell>(), align_of::<HandleCell>());
    let cell = shared_heap::alloc(owner, CLASS, size_of::<HandleCell>(), align_of::<HandleCell>())?;
    proxy.references.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the core of a proxy of this interface.
    let words = unsafe { proxy.interface.proxy(&raw const proxy.core) };
    // SAFETY: the reference that was counted above keeps the proxy for the cell.
    let content = unsafe { HandleCell::new(words) };
    // SAFETY: fresh memory for a cell.
    unsafe { cell.cast::<HandleCell>().write(content) };
    // SAFETY: a live object.
    let header = unsafe { Header::of(cell) };
    // SAFETY: R4: a whole cell, written above.
    unsafe { header.set_type(TypeNumber::HANDLE_CELL) };
    Ok(cell)
}

/// Makes another handle to the proxy of `cell`, owned by `owner`.
///
/// # Safety
/// `cell` is a live handle cell.
pub(crate) unsafe fn clone(cell: NonNull<u8>, owner: DomainId) -> Result<NonNull<u8>, Refusal> {
    // SAFETY: the caller's promise.
    handle(unsafe { proxy_of(cell) }, owner)
}

/// The proxy that a handle cell refers to.
///
/// # Safety
/// `cell` is a live handle cell that the caller keeps while it uses the returned reference.
unsafe fn proxy_of<'a>(cell: NonNull<u8>) -> &'a Proxy {
    // SAFETY: the caller's promise.
    let cell = unsafe { cell.cast::<HandleCell>().as_ref() };
    // SAFETY: the proxy object of a cell is a core, which is the first field of a `Proxy`, which exists while
    // it has a reference.
    unsafe { &*cell.proxy().cast::<Proxy>() }
}

/// Returns true if the object behind a handle cell belongs to the instance `owner`.
///
/// # Safety
/// `cell` is a live handle cell.
pub(crate) unsafe fn is_of(cell: NonNull<u8>, owner: DomainId) -> bool {
    // SAFETY: the caller's promise.
    unsafe { proxy_of(cell) }.core.instance() == owner
}

/// Adds a reference to the proxy of a call whose caller has died. It keeps the called object until
/// [`release_call`].
///
/// # Safety
/// `core` belongs to a proxy with references.
pub(crate) unsafe fn retain(core: *const ProxyCore) {
    // SAFETY: a core is a `Proxy`'s first field; the caller's promise.
    unsafe { &(*core.cast::<Proxy>()).references }.fetch_add(1, Ordering::Relaxed);
}

/// Releases the reference that [`retain`] added.
///
/// # Safety
/// `core` was retained for this call.
pub(crate) unsafe fn release_call(core: *const ProxyCore) {
    release_reference(NonNull::new(core.cast_mut()).expect("a call has a proxy").cast());
}

/// Releases the reference of a destroyed cell.
pub(crate) fn release(cell: HandleCell) {
    release_reference(NonNull::new(cell.proxy()).expect("a cell has a proxy").cast());
}

fn release_reference(proxy: NonNull<Proxy>) {
    // SAFETY: the reference that is released below keeps the proxy until then.
    let references = unsafe { &proxy.as_ref().references };
    if references.fetch_sub(1, Ordering::AcqRel) > 1 {
        return;
    }
    REFERENCED.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: as below.
    let slot = unsafe { proxy.as_ref() }.core.instance().slot();
    // SAFETY: that was the last reference, so the proxy is ours.
    let drop_target = unsafe { proxy.as_ref() }.drop_target.get();
    // SAFETY: as above.
    if unsafe { &*drop_target }.is_some() {
        // The target is dropped inside its domain, by a thread that may block.
        reaper::reap(slot, proxy);
    } else {
        // SAFETY: as above; another proxy is responsible for the target.
        unsafe { free(proxy) };
    }
}

/// Frees a proxy without references.
///
/// # Safety
/// It gets none, and its target is gone.
pub(super) unsafe fn free(proxy: NonNull<Proxy>) {
    // SAFETY: the caller's promise; proxies are leaked boxes.
    drop(unsafe { Box::from_raw(proxy.as_ptr()) });
}

/// Drops the target of a proxy without references, inside its domain if that is alive, and frees the proxy.
///
/// In the outermost section. Only the call into the domain leaves it, since domain code runs there. The
/// proxy's memory is freed inside a section again, because the kernel's heap must not be interrupted.
///
/// # Safety
/// `proxy` has no references and gets none.
pub(crate) unsafe fn finish(proxy: NonNull<Proxy>) {
    // SAFETY: the caller's promise; proxies are leaked boxes.
    let proxy = unsafe { Box::from_raw(proxy.as_ptr()) };
    if let Some(drop_target) = proxy.drop_target.into_inner() {
        // SAFETY: the target is written only for export proxies, which never get here while their domain is
        // alive, and for gates, which have no destructor.
        let target = unsafe { proxy.core.target() };
        let drop = move || {
            // SAFETY: `drop_target` came with this target, from an image that stays loaded while we are
            // inside its domain.
            unsafe { drop_target(target) };
        };
        // A domain that is dead, or that dies in the destructor, took the target along. Nothing is left to
        // do.
        let _ = outside_section(|| enter::inside(&proxy.core, drop));
    }
}

/// A walk over all references, done twice: the first pass counts them in the proxies, the second compares.
pub(crate) struct ReferenceAudit {
    compare: bool,
    proxies: usize,
    wrong: usize,
}

impl ReferenceAudit {
    /// Compares the reference count of each proxy with the references that exist, and the number of proxies
    /// that should have references with those that have. `walk` adds all references; the world is stopped.
    pub(crate) fn audit(
        _: &Stopped,
        mut walk: impl FnMut(&mut Self),
        add_finding: &mut dyn FnMut(core::fmt::Arguments<'_>),
    ) {
        let mut references = Self { compare: false, proxies: 0, wrong: 0 };
        walk(&mut references);
        references.compare = true;
        walk(&mut references);
        let (Self { proxies, wrong, .. }, expected) = (references, REFERENCED.load(Ordering::Relaxed));
        if wrong > 0 {
            add_finding(format_args!("{wrong} proxies have a wrong reference count"));
        }
        if proxies != expected {
            add_finding(format_args!(
                "{expected} proxies should have references, but there are references to {proxies}"
            ));
        }
    }

    /// Counts a handle cell's reference.
    ///
    /// # Safety
    /// `cell` is a live handle cell.
    pub(crate) unsafe fn add_cell(&mut self, cell: NonNull<u8>) {
        // SAFETY: the caller's promise.
        self.add(unsafe { proxy_of(cell) });
    }

    /// Counts the reference that [`retain`] added for a call.
    ///
    /// # Safety
    /// `core` is retained and not released.
    pub(crate) unsafe fn add_call(&mut self, core: *const ProxyCore) {
        // SAFETY: the caller's promise.
        self.add(unsafe { &*core.cast::<Proxy>() });
    }

    /// Counts an export proxy's reference.
    pub(crate) fn add_export(&mut self, export: &ExportProxy) {
        self.add(export.proxy());
    }

    fn add(&mut self, proxy: &Proxy) {
        if !self.compare {
            proxy.seen.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let seen = proxy.seen.swap(0, Ordering::Relaxed);
        if seen > 0 {
            self.proxies += 1;
            self.wrong += usize::from(seen != proxy.references.load(Ordering::Relaxed));
        }
    }
}

impl ExportProxy {
    /// Makes an export proxy of the first export of a domain. Takes over the handle.
    ///
    /// # Safety
    /// `cell` is a live handle cell that the caller owns.
    pub(crate) unsafe fn new(cell: NonNull<u8>) -> Self {
        // SAFETY: the caller's promise.
        let proxy = unsafe { proxy_of(cell) };
        proxy.references.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller gives the handle up.
        unsafe { shared_heap::destroy(cell) };
        Self(NonNull::from(proxy))
    }

    fn proxy(&self) -> &Proxy {
        // SAFETY: our reference keeps the proxy.
        unsafe { self.0.as_ref() }
    }

    /// Redirects the export proxy to the target of `cell`. Takes over the handle. Returns false if the
    /// interfaces differ.
    ///
    /// # Safety
    /// As [`Self::new`]. The instance that the export proxy led to is over, and `owner` is the new one.
    pub(crate) unsafe fn follow(&self, cell: NonNull<u8>, owner: DomainId) -> bool {
        let export = self.proxy();
        // SAFETY: the caller's promise.
        let next = unsafe { proxy_of(cell) };
        if next.interface.fingerprint() != export.interface.fingerprint() {
            return false;
        }
        // The export proxy becomes responsible for the target. (SAFETY: only the exporting domain has
        // references to `next`, and its entry function has just returned the handle.)
        let drop_target = unsafe { &mut *next.drop_target.get() }.take();
        // SAFETY: the target that `next` was made with.
        let target = unsafe { next.core.target() };
        // SAFETY: the instance that the export proxy names is over, so no call reads these (ProxyCore's
        // contract).
        unsafe { *export.drop_target.get() = drop_target };
        // SAFETY: as above, and the interfaces are equal.
        unsafe { export.core.follow(owner, target) };
        // SAFETY: the caller gives the handle up.
        unsafe { shared_heap::destroy(cell) };
        true
    }

    /// The fingerprint of its interface.
    pub(crate) fn interface(&self) -> Fingerprint {
        self.proxy().interface.fingerprint()
    }

    /// Makes a handle to the export proxy, owned by `owner`.
    pub(crate) fn handle(&self, owner: DomainId) -> Result<NonNull<u8>, Refusal> {
        handle(self.proxy(), owner)
    }
}

impl Drop for ExportProxy {
    fn drop(&mut self) {
        release_reference(self.0);
    }
}
