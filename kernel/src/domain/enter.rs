//! Calls from the kernel into a domain: entry functions, upcalls, threads, destructors of exported objects.
//!
//! Each is an ordinary crossing whose caller is the kernel, so a crash of the domain returns to the kernel as
//! an error.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use coppice_abi::crossing::ProxyCore;
use coppice_abi::{DomainId, Fingerprint, RawObject, Upcall, UpcallEntry, Verdict};
use coppice_interfaces::{Interface, RpcResult, crossing};
use coppice_manifest::NORMAL_PRIORITY;
use coppice_rref::TypeEntry;

use crate::domain::{self, kernel_calls};
use crate::platform::sync::outside_section;
use crate::sched::{liveness, thread};

/// Makes an upcall into `instance` on this thread and returns its verdict. In the outermost section.
pub(crate) fn upcall(instance: DomainId, message: Upcall) -> RpcResult<Verdict> {
    // 0 if the domain has not started or takes no upcalls. If the instance has died, the crossing fails.
    let mut verdict = Verdict::Retry;
    let entry = domain::get(instance.slot()).map_or(0, |domain| domain.upcall.load(Ordering::SeqCst));
    let (message, verdict_slot) = (&raw const message, &raw mut verdict);
    let called = call(instance, move || {
        if entry != 0 {
            // SAFETY: we are inside `instance`, so it has not ended since it began. The address was read
            // after that: it is the one that the entry function of its image returned, of the type that the
            // ABI note vouches for.
            let entry = unsafe { core::mem::transmute::<usize, UpcallEntry>(entry) };
            // SAFETY: `message` outlives the call: a crash returns to this frame too.
            let returned = unsafe { entry(message) };
            // SAFETY: as above, and nothing else accesses `verdict` during the call.
            unsafe { verdict_slot.write(returned) };
        }
    });
    called.map(|()| verdict)
}

/// Returns a core whose calls enter the instance `id`.
fn core_of(id: DomainId) -> ProxyCore {
    // SAFETY: nothing is called through it but `NoObject`.
    unsafe { ProxyCore::new(id, liveness::word(id.slot()), nothing()) }
}

/// Runs `body` inside the instance `id`, on this thread. If the call exceeds its deadline, the domain is
/// ended. In the outermost section.
pub(super) fn call(id: DomainId, body: impl FnOnce()) -> RpcResult<()> {
    let core = core_of(id);
    outside_section(|| inside(&core, body))
}

/// Runs `body` inside the domain that `core` names, as a crossing from the kernel; after a short time no more
/// urgent than the domain's own threads are by default. If the call exceeds its deadline, the domain is
/// ended. Outside any section.
pub(super) fn inside(core: &ProxyCore, body: impl FnOnce()) -> RpcResult<()> {
    let callee = core.instance();
    let cap = domain::get(callee.slot()).map_or(0, |domain| domain.manifest.priority);
    thread::with_priority_of_domain(thread::of_domain(cap.max(NORMAL_PRIORITY)), || {
        kernel_calls::with_deadline(callee, || cross(core, body))
    })
}

fn cross(core: &ProxyCore, body: impl FnOnce()) -> RpcResult<()> {
    // SAFETY: `NoObject` never dereferences the target. `body` owns nothing to drop: the callers' closures
    // are `move` closures over plain addresses.
    unsafe {
        crossing::call::<NoObject, (), (), _>(core, (), &[], |_, ()| {
            body();
            Ok(())
        })
    }
}

/// Runs `body` as a thread that `id` spawned. Unlike [`inside`], it has no deadline.
pub(super) fn run_thread(id: DomainId, body: impl FnOnce()) {
    let core = core_of(id);
    // If the domain dies, its thread ends with it, and there is no caller to receive the error.
    let _ = outside_section(|| cross(&core, body));
}

/// The words of an object that is never used.
fn nothing() -> RawObject {
    // SAFETY: `NoObject`, whose target they are, has no methods.
    unsafe { RawObject::new(NonNull::dangling().as_ptr(), core::ptr::null()) }
}

/// The interface of code without an object: entry functions, threads, destructors.
struct NoObject;

// SAFETY: nothing is called through this interface: the closure given to [`inside`] has its own address.
unsafe impl Interface for NoObject {
    const NAME: &'static str = "";
    const IDENTITY: Fingerprint = Fingerprint::from_bytes([0; Fingerprint::SIZE]);
    const FINGERPRINT: Fingerprint = Self::IDENTITY;
    unsafe fn proxy(_: *const ProxyCore) -> *const Self {
        NonNull::dangling().as_ptr()
    }
    unsafe fn from_raw(_: RawObject) -> *const Self {
        NonNull::dangling().as_ptr()
    }
    unsafe fn as_raw(_: *const Self) -> RawObject {
        nothing()
    }
    fn for_each_type(_: &mut dyn FnMut(TypeEntry)) {}
}
