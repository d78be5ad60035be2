//! Proxies: what stands between a handle and the object of another domain.

use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use coppice_abi::crossing::ProxyCore;
use coppice_abi::{DomainId, DropTarget, Fingerprint, RawObject, Refusal};
use coppice_interfaces::{HANDLE_CELL, HandleCell, InterfaceEntry, registry};
use coppice_rref::{Header, heap};

use crate::domain::{enter, reaper, shared_heap};
use crate::sched::liveness;
use crate::sched::world::Stopped;

pub(crate) mod gate;

/// A proxy, in the kernel's heap.
#[repr(C)]
pub(crate) struct Proxy {
    /// First: a handle cell points at it, and the interface's proxy type is transparent over it.
    core: ProxyCore,
    /// Handle cells, and the export proxy's reference.
    references: AtomicU32,
    /// How many of them an audit has seen.
    seen: AtomicU32,
    interface: &'static InterfaceEntry,
    /// How to drop the target; `None` once somebody else answers for it.
    drop_target: UnsafeCell<Option<DropTarget>>,
}

// SAFETY: `drop_target` changes under the same rule as the core's target.
unsafe impl Sync for Proxy {}

/// A proxy that outlives the lives of its domain: what the manifest's wires lead to. A restart gives it a new target.
pub(crate) struct ExportProxy(NonNull<Proxy>);

// SAFETY: an export proxy is a reference to a `Sync` proxy.
unsafe impl Send for ExportProxy {}

/// Proxies that somebody has a reference to.
static REFERENCED: AtomicUsize = AtomicUsize::new(0);

/// Makes a proxy for an object of `owner`, and a handle to it that `owner` owns.
pub(crate) fn export(
    owner: DomainId,
    interface: Fingerprint,
    target: RawObject,
    drop_target: DropTarget,
) -> Result<NonNull<u8>, Refusal> {
    let interface = registry().iter().find(|entry| entry.fingerprint == interface);
    let interface = interface.ok_or(Refusal::UnknownInterface)?;
    publish(Proxy::new(owner, interface, target, Some(drop_target)), owner)
}

impl Proxy {
    /// A proxy for an object of `instance` that nobody has a reference to yet.
    fn new(
        instance: DomainId,
        interface: &'static InterfaceEntry,
        target: RawObject,
        drop_target: Option<DropTarget>,
    ) -> Self {
        let core = ProxyCore {
            domain: AtomicU64::new(instance.to_bits()),
            alive: liveness::word(instance.slot()),
            target: UnsafeCell::new(target),
        };
        let drop_target = UnsafeCell::new(drop_target);
        Self { core, references: AtomicU32::new(0), seen: AtomicU32::new(0), interface, drop_target }
    }
}

/// Puts a proxy where it stays. Answers with a handle to it that `owner` owns, if the shared heap has room.
fn publish(proxy: Proxy, owner: DomainId) -> Result<NonNull<u8>, Refusal> {
    let proxy = Box::leak(Box::new(proxy));
    let handle = handle(proxy, owner);
    if handle.is_err() {
        // SAFETY: leaked above, and nobody has a reference.
        drop(unsafe { Box::from_raw(proxy) });
    } else {
        REFERENCED.fetch_add(1, Ordering::Relaxed);
    }
    handle
}

/// Another handle to `proxy`, for `owner`.
fn handle(proxy: &Proxy, owner: DomainId) -> Result<NonNull<u8>, Refusal> {
    const CLASS: usize = heap::class_of(size_of::<HandleCell>(), align_of::<HandleCell>());
    let cell = shared_heap::alloc(owner, CLASS, size_of::<HandleCell>(), align_of::<HandleCell>())?;
    proxy.references.fetch_add(1, Ordering::Relaxed);
    // SAFETY: fresh memory for a cell.
    unsafe {
        cell.cast::<HandleCell>().write(HandleCell { proxy: (proxy.interface.proxy)(&raw const proxy.core) })
    };
    // SAFETY: a live object.
    let header = unsafe { Header::of(cell) };
    // SAFETY: R4: a whole cell, written above.
    unsafe { header.set_type(HANDLE_CELL) };
    Ok(cell)
}

/// Another cell for the proxy of `cell`, for `owner`.
///
/// # Safety
/// `cell` is a live handle cell.
pub(crate) unsafe fn clone(cell: NonNull<u8>, owner: DomainId) -> Result<NonNull<u8>, Refusal> {
    // SAFETY: the caller's promise.
    handle(unsafe { proxy_of(cell) }, owner)
}

/// The proxy that a handle cell counts.
///
/// # Safety
/// `cell` is a live handle cell that the caller keeps while it uses the answer.
unsafe fn proxy_of<'a>(cell: NonNull<u8>) -> &'a Proxy {
    // SAFETY: the caller's promise.
    let cell = unsafe { cell.cast::<HandleCell>().as_ref() };
    // SAFETY: a cell's proxy object is a core, which is a `Proxy`'s first field, and lives as long as it has a reference.
    unsafe { &*cell.proxy.data.cast::<Proxy>() }
}

/// Whether the object behind a handle cell is one of `owner`'s own.
///
/// # Safety
/// `cell` is a live handle cell.
pub(crate) unsafe fn is_of(cell: NonNull<u8>, owner: DomainId) -> bool {
    // SAFETY: the caller's promise.
    unsafe { proxy_of(cell) }.core.domain.load(Ordering::Acquire) == owner.to_bits()
}

/// Keeps the proxy of a call whose caller has died, and with it the object that is being called, until [`let_go`].
///
/// # Safety
/// `core` is that of a proxy which somebody has a reference to.
pub(crate) unsafe fn retain(core: *const ProxyCore) {
    // SAFETY: a core is a `Proxy`'s first field; the caller's promise.
    unsafe { &(*core.cast::<Proxy>()).references }.fetch_add(1, Ordering::Relaxed);
}

/// Ends what [`retain`] began.
///
/// # Safety
/// `core` was retained for this call.
pub(crate) unsafe fn let_go(core: *const ProxyCore) {
    give_up(NonNull::new(core.cast_mut()).expect("a call has a proxy").cast());
}

/// Takes back the reference of a cell that is destroyed.
pub(crate) fn release(cell: HandleCell) {
    give_up(NonNull::new(cell.proxy.data).expect("a cell has a proxy").cast());
}

fn give_up(proxy: NonNull<Proxy>) {
    // SAFETY: the reference that we give up keeps it until here.
    let references = unsafe { &proxy.as_ref().references };
    if references.fetch_sub(1, Ordering::AcqRel) > 1 {
        return;
    }
    REFERENCED.fetch_sub(1, Ordering::Relaxed);
    // SAFETY: nobody else has a reference, so it is ours.
    let drop_target = unsafe { proxy.as_ref() }.drop_target.get();
    // SAFETY: as above.
    if unsafe { &*drop_target }.is_some() {
        // The target is dropped in its own domain, by a thread that may take its time.
        reaper::reap(proxy);
    } else {
        // SAFETY: as above; proxies are leaked boxes.
        drop(unsafe { Box::from_raw(proxy.as_ptr()) });
    }
}

/// Drops the target of a proxy without references, inside its domain if that lives, and frees the proxy.
///
/// In the outermost section, which only the call leaves: domain code runs in it. The proxy's memory is given back inside
/// again, for the kernel's heap may not be interrupted.
///
/// # Safety
/// Nobody has a reference to `proxy`, nor will.
pub(crate) unsafe fn finish(proxy: NonNull<Proxy>) {
    // SAFETY: the caller's promise; proxies are leaked boxes.
    let proxy = unsafe { Box::from_raw(proxy.as_ptr()) };
    if let Some(drop_target) = proxy.drop_target.into_inner() {
        // SAFETY: the target is written only for ports, which never come here while their domain lives.
        let target = unsafe { *proxy.core.target.get() };
        let drop = move || {
            // SAFETY: `drop_target` came with this target, from an image that lives while we are inside.
            unsafe { drop_target(target) };
        };
        // A domain that is dead or dies on it took the target along: nothing is left to do.
        let _ = enter::outside_section(|| enter::inside(&proxy.core, drop));
    }
}

/// A walk over all references that there are, done twice: the first counts them in the proxies, the second compares.
pub(crate) struct ReferenceAudit {
    compare: bool,
    proxies: usize,
    wrong: usize,
}

impl ReferenceAudit {
    /// Whether each proxy has as many references as it says, and there is none that nobody has a reference to. `walk` shows all
    /// references; the world is stopped.
    pub(crate) fn audit(
        _: &Stopped,
        mut walk: impl FnMut(&mut Self),
        find: &mut dyn FnMut(core::fmt::Arguments<'_>),
    ) {
        let mut references = Self { compare: false, proxies: 0, wrong: 0 };
        walk(&mut references);
        references.compare = true;
        walk(&mut references);
        let (Self { proxies, wrong, .. }, referenced) = (references, REFERENCED.load(Ordering::Relaxed));
        if wrong > 0 {
            find(format_args!("{wrong} proxies have another number of references than they count"));
        }
        if proxies != referenced {
            find(format_args!(
                "{referenced} proxies say that they have references, and there are references to {proxies}"
            ));
        }
    }

    /// A handle cell.
    ///
    /// # Safety
    /// `cell` is a live one.
    pub(crate) unsafe fn add_cell(&mut self, cell: NonNull<u8>) {
        // SAFETY: the caller's promise.
        self.add(unsafe { proxy_of(cell) });
    }

    /// What [`retain`] keeps.
    ///
    /// # Safety
    /// `core` is retained.
    pub(crate) unsafe fn add_call(&mut self, core: *const ProxyCore) {
        // SAFETY: the caller's promise.
        self.add(unsafe { &*core.cast::<Proxy>() });
    }

    /// An export proxy.
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
    /// Makes the first export of a domain an export proxy. Takes over the handle.
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
        // SAFETY: our reference keeps it.
        unsafe { self.0.as_ref() }
    }

    /// Leads to what `cell` leads to from now on. Takes over the handle. False if it is of another interface.
    ///
    /// # Safety
    /// As [`Self::new`]; the instance that the export proxy led to is over, and `owner` is the new one.
    pub(crate) unsafe fn follow(&self, cell: NonNull<u8>, owner: DomainId) -> bool {
        let own = self.proxy();
        // SAFETY: the caller's promise.
        let next = unsafe { proxy_of(cell) };
        if next.interface.fingerprint != own.interface.fingerprint {
            return false;
        }
        // The export proxy answers for the target now. (SAFETY: only the exporting domain has references to `next`, and its entry
        // function has just returned the handle.)
        let drop_target = unsafe { &mut *next.drop_target.get() }.take();
        // SAFETY: the target that `next` was made with.
        let target = unsafe { *next.core.target.get() };
        // SAFETY: the instance that the export proxy names is over, so nobody reads these (ProxyCore's contract).
        unsafe { *own.drop_target.get() = drop_target };
        // SAFETY: as above.
        unsafe { *own.core.target.get() = target };
        own.core.domain.store(owner.to_bits(), Ordering::Release);
        // SAFETY: the caller gives the handle up.
        unsafe { shared_heap::destroy(cell) };
        true
    }

    /// The fingerprint of its interface.
    pub(crate) fn interface(&self) -> Fingerprint {
        self.proxy().interface.fingerprint
    }

    /// A handle to it, for `owner`.
    pub(crate) fn handle(&self, owner: DomainId) -> Result<NonNull<u8>, Refusal> {
        handle(self.proxy(), owner)
    }
}

impl Drop for ExportProxy {
    fn drop(&mut self) {
        give_up(self.0);
    }
}
