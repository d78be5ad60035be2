//! [`Gate`]: a handle to one instance of what a port leads to, until it is told to follow.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use coppice_abi::crossing::ProxyCore;
use coppice_abi::{CrashKind, DomainId, services};

use crate::{Handle, Interface, RpcError, RpcResult};

/// Leads to one instance of the domain behind a port: open while that instance goes on, closed for ever after, unless it is
/// told to follow a gate to a later instance.
pub(super) struct Gate<I: Interface + ?Sized>(Handle<I>);

impl<I: Interface + ?Sized> Gate<I> {
    /// A gate to the present instance of what `port` leads to, over or not. `None` if it is no port or memory is exhausted.
    pub(super) fn new(port: &Handle<I>) -> Option<Self> {
        // SAFETY: a handle's own cell.
        let cell = unsafe { (services().object_gate)(cell_of(port)) };
        let cell = NonNull::new(cell)?;
        // SAFETY: the kernel made the cell for us, of the interface that the port has.
        Some(Self(unsafe { Handle::from_cell(cell) }))
    }

    fn core(&self) -> &ProxyCore {
        self.0.core()
    }

    /// The instance that it leads to.
    pub(super) fn instance(&self) -> DomainId {
        self.0.instance()
    }

    /// Whether that instance goes on.
    #[inline(always)]
    pub(super) fn is_open(&self) -> bool {
        let core = self.core();
        core.domain.load(Ordering::Relaxed) == core.alive.load(Ordering::Relaxed)
    }

    /// As [`Self::is_open`], with the error that says which instance is over.
    pub(super) fn check(&self) -> RpcResult<()> {
        let instance = self.instance();
        if self.core().alive.load(Ordering::Acquire) == instance.to_bits() {
            return Ok(());
        }
        // SAFETY: it is true: lives begin before a gate leads to them, and do not come back.
        Err(unsafe { RpcError::new(instance, CrashKind::NotRunning) })
    }

    /// Where calls go.
    #[inline(always)]
    pub(super) fn target(&self) -> &I {
        &self.0
    }

    /// Leads to where `next` leads, a gate to the same port, unless that is no later instance. The caller is the only one
    /// to move this gate, and nobody moves `next`.
    pub(super) fn follow(&self, next: &Self) {
        // SAFETY: both are gates, made of one port by `Shadow`, which calls this for whoever's turn it is.
        unsafe { (services().object_follow)(cell_of(&self.0), cell_of(&next.0)) };
    }
}

fn cell_of<I: Interface + ?Sized>(handle: &Handle<I>) -> *mut u8 {
    handle.cell().as_ptr().cast()
}
