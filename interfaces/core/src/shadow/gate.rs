//! [`Gate`]: a handle to one instance of the domain behind a wired handle.

use core::ptr::NonNull;

use coppice_abi::crossing::ProxyCore;
use coppice_abi::{CrashKind, DomainId, services};

use crate::{Handle, Interface, RpcError, RpcResult};

/// A proxy to one instance of a domain. It is open while that instance is alive. It stays closed after that,
/// unless it is moved on to a later instance by [`Gate::follow`].
pub(super) struct Gate<I: Interface + ?Sized>(Handle<I>);

impl<I: Interface + ?Sized> Gate<I> {
    /// A gate to the current or latest instance of the domain that `wired` leads to. Returns `None` if the
    /// manifest did not wire that handle, or memory is exhausted.
    pub(super) fn new(wired: &Handle<I>) -> Option<Self> {
        // SAFETY: a handle's own cell.
        let cell = unsafe { (services().object_gate)(cell_of(wired)) };
        let cell = NonNull::new(cell)?;
        // SAFETY: the kernel made the cell for this call, of the interface of `wired`.
        Some(Self(unsafe { Handle::from_cell(cell) }))
    }

    fn core(&self) -> &ProxyCore {
        self.0.core()
    }

    /// The instance that it leads to.
    pub(super) fn instance(&self) -> DomainId {
        self.0.instance()
    }

    /// Returns true while that instance is alive.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        self.core().is_open()
    }

    /// As [`Self::is_open`], with the error that names the instance if it has ended.
    pub(super) fn check(&self) -> RpcResult<()> {
        let instance = self.instance();
        if self.core().living() == instance {
            return Ok(());
        }
        // SAFETY: the error is true: an instance begins before a gate leads to it, and does not come back.
        Err(unsafe { RpcError::new(instance, CrashKind::NotRunning) })
    }

    /// The object to call.
    #[inline(always)]
    pub(super) fn target(&self) -> &I {
        &self.0
    }

    /// Moves this gate on to the instance of `next`, a gate of the same wired handle, if that is a later one.
    /// The caller is the only thread that moves this gate, and `next` does not move during the call.
    pub(super) fn follow(&self, next: &Self) {
        // SAFETY: `Shadow` makes both gates from one wired handle, and calls this with its recovery lock
        // held.
        unsafe { (services().object_follow)(cell_of(&self.0), cell_of(&next.0)) };
    }
}

fn cell_of<I: Interface + ?Sized>(handle: &Handle<I>) -> *mut u8 {
    handle.cell().as_ptr().cast()
}
