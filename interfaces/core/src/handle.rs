//! [`Handle`]: an interface object, as it travels between domains. [`Interface`]: a trait that crosses.

use alloc::boxed::Box;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Deref;
use core::ptr::NonNull;

use coppice_abi::crossing::ProxyCore;
use coppice_abi::{DomainId, Fingerprint, RawObject, fingerprint, services};
use coppice_rref::{Header, Shareable, TypeEntry, refused};

/// A trait that `#[interface]` made callable across domains; implemented for `dyn Trait`.
///
/// # Safety
/// `proxy` returns a trait object of the interface whose methods cross by [`crate::crossing::call`].
/// `from_raw` and `as_raw` are inverses. `IDENTITY` and `FINGERPRINT` are those of no other interface.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an interface",
    label = "not made by `#[interface]`",
    note = "only a trait with `#[interface]` can be called across domains"
)]
pub unsafe trait Interface: Send + Sync + 'static {
    /// The trait's name.
    const NAME: &'static str;
    /// The hash of the defining package and of the trait's path in it.
    const IDENTITY: Fingerprint;
    /// The hash of its identity, its signatures and the shapes of all types in them.
    const FINGERPRINT: Fingerprint;
    /// The proxy over `core`, with this image's vtable.
    ///
    /// # Safety
    /// `core` is that of a proxy of this interface.
    unsafe fn proxy(core: *const ProxyCore) -> *const Self;
    /// A trait object from its two words.
    ///
    /// # Safety
    /// They are those of an object of this interface.
    unsafe fn from_raw(raw: RawObject) -> *const Self;
    /// The two words of a trait object.
    ///
    /// # Safety
    /// The words are used as those of `object` alone.
    unsafe fn as_raw(object: *const Self) -> RawObject;
    /// Visits the entries of all types with references inside that cross through this interface.
    fn for_each_type(visit: &mut dyn FnMut(TypeEntry));
}

/// The shared object that a [`Handle`] owns: a counted reference to a proxy. The kernel creates and destroys
/// cells.
#[repr(C)]
pub struct HandleCell {
    /// The proxy, in the kernel's heap and with the kernel's vtable, so that a call does not depend on the
    /// image that the handle came from.
    proxy: RawObject,
}

impl HandleCell {
    /// Makes a cell with a reference to `proxy`.
    ///
    /// # Safety
    /// `proxy` is a proxy of the interface that the cell's handle has, and exists as long as the cell.
    pub const unsafe fn new(proxy: RawObject) -> Self {
        Self { proxy }
    }

    /// The address of the proxy.
    pub const fn proxy(&self) -> *mut () {
        self.proxy.data()
    }
}

/// A callable object of some domain.
///
/// It dereferences to the interface; each call is a crossing. A handle is a shared object like any other: it
/// can be moved, nested in a value that moves, and cloned, and it is reclaimed if its holder dies. When the
/// last handle of an object goes, the object is dropped inside its own domain. Calls through a handle to a
/// dead domain's object return [`crate::RpcError`]; a handle that the manifest wired works again after a
/// restart.
///
/// One word, so that it travels in a register.
#[repr(transparent)]
pub struct Handle<I: Interface + ?Sized> {
    /// The shared object that holds the reference.
    cell: NonNull<HandleCell>,
    calls: PhantomData<I>,
}

// SAFETY: an interface object is `Send + Sync`, and the reference count is atomic.
unsafe impl<I: Interface + ?Sized> Send for Handle<I> {}
// SAFETY: as above.
unsafe impl<I: Interface + ?Sized> Sync for Handle<I> {}

impl<I: Interface + ?Sized> Handle<I> {
    /// Makes `target` callable by other domains. Call it as `<dyn Trait>::export`.
    ///
    /// Ends the domain if there is no room for a handle, or if the kernel image does not carry the interface
    /// ([`crate::Registry`]).
    #[doc(hidden)]
    #[track_caller]
    pub fn export(target: Box<I>) -> Self {
        // SAFETY: the words go to the kernel, for this object's proxy.
        let target = unsafe { I::as_raw(Box::into_raw(target)) };
        // SAFETY: `target` is an `I` that `drop_target::<I>` can free, in this image.
        let cell = unsafe { (services().object_export)(I::FINGERPRINT, target, drop_target::<I>) };
        let Some(cell) = NonNull::new(cell) else { refused() };
        // SAFETY: the kernel made a cell for the interface named in the call.
        unsafe { Self::from_cell(cell) }
    }

    /// # Safety
    /// `cell` is the value of a handle cell that the caller owns, and its proxy is of interface `I`.
    pub(crate) unsafe fn from_cell(cell: NonNull<u8>) -> Self {
        Self { cell: cell.cast(), calls: PhantomData }
    }

    /// The instance that it leads to, dead or alive. For a handle that the manifest wired it is the domain's
    /// current or latest instance.
    pub fn instance(&self) -> DomainId {
        self.core().instance()
    }

    /// Waits until it leads to a live instance other than `past`. Returns false if the clock passes
    /// `deadline_ns` (nanoseconds since boot) first. Only a handle that the manifest wired ever leads to
    /// another instance.
    pub fn await_instance(&self, past: DomainId, deadline_ns: u64) -> bool {
        // SAFETY: the handle's own cell, which is borrowed for the length of the call.
        unsafe { (services().object_await)(self.cell.as_ptr().cast(), past, deadline_ns) }
    }

    pub(crate) fn core(&self) -> &ProxyCore {
        // SAFETY: the handle owns the cell.
        let cell = unsafe { self.cell.as_ref() };
        // SAFETY: a proxy is transparent over its core, and exists as long as the cell.
        unsafe { &*cell.proxy().cast::<ProxyCore>() }
    }

    /// The shared object that it owns.
    pub(crate) fn cell(&self) -> NonNull<HandleCell> {
        self.cell
    }

    /// Gives the shared object up.
    pub(crate) fn into_cell(self) -> NonNull<HandleCell> {
        ManuallyDrop::new(self).cell
    }
}

/// Drops an exported object in the domain that exported it.
///
/// # Safety
/// `target` came from [`Handle::export`] of the same interface and image, once.
unsafe extern "C" fn drop_target<I: Interface + ?Sized>(target: RawObject) {
    // SAFETY: `export` made it from an `I`.
    let target = unsafe { I::from_raw(target) };
    // SAFETY: `export` took it from a `Box<I>`.
    drop(unsafe { Box::from_raw(target.cast_mut()) });
}

impl<I: Interface + ?Sized> Deref for Handle<I> {
    type Target = I;
    #[inline(always)]
    fn deref(&self) -> &I {
        // SAFETY: the handle owns the cell.
        let proxy = unsafe { self.cell.as_ref() }.proxy;
        // SAFETY: the proxy is of this interface.
        let proxy = unsafe { I::from_raw(proxy) };
        // SAFETY: the cell keeps the proxy alive.
        unsafe { &*proxy }
    }
}

impl<I: Interface + ?Sized> Clone for Handle<I> {
    /// Ends the domain if there is no room for a handle.
    #[track_caller]
    fn clone(&self) -> Self {
        // SAFETY: the handle owns the cell.
        let cell = unsafe { (services().object_clone)(self.cell.as_ptr().cast()) };
        let Some(cell) = NonNull::new(cell) else { refused() };
        // SAFETY: a new cell of the same proxy.
        unsafe { Self::from_cell(cell) }
    }
}

impl<I: Interface + ?Sized> Drop for Handle<I> {
    fn drop(&mut self) {
        // SAFETY: the handle owns the cell and is not used any more.
        unsafe { (services().shared_drop)(self.cell.as_ptr().cast()) };
    }
}

// SAFETY: a handle is one root, its cell; the proxy is the kernel's.
unsafe impl<I: Interface + ?Sized> Shareable for Handle<I> {
    // By identity only, because interfaces may mention each other in a circle. The loader compares the
    // fingerprints of all interfaces that an image was linked with (`note::INTERFACE`), so none is left out.
    const SHAPE: Fingerprint = fingerprint("Handle").with(I::IDENTITY).finish();
    const ROOTS: bool = true;
    #[inline(always)]
    fn for_each_root<V: FnMut(&Header)>(&self, visit: &mut V) {
        // SAFETY: the handle owns the cell.
        visit(unsafe { Header::of(self.cell.cast()) });
    }
    fn for_each_type(_: &mut dyn FnMut(TypeEntry)) {}
}
