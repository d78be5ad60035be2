//! Calls of the kernel into a domain: its entry function, upcalls, its threads, destructors of its objects.
//!
//! Each is a crossing like any other, from the kernel, so that a crash of the domain comes back to it as an error.

use core::cell::UnsafeCell;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::crossing::ProxyCore;
use coppice_abi::{DomainId, Fingerprint, RawObject, Upcall, UpcallEntry, Verdict};
use coppice_interfaces::{Interface, RpcResult, crossing};
use coppice_rref::TypeEntry;

use crate::domain::{self, kernel_calls};
use crate::platform::sync::Section;
use crate::sched::liveness;

/// Tells that instance of a domain something, on this thread, and waits for its answer. In the outermost section.
pub(crate) fn upcall(instance: DomainId, message: Upcall) -> RpcResult<Verdict> {
    // Of a domain that has not started or that takes no upcalls; or that has died, which the crossing finds out.
    let mut verdict = Verdict::Retry;
    let entry = domain::get(instance.slot()).map_or(0, |domain| domain.upcall.load(Ordering::SeqCst));
    let (message, place) = (&raw const message, &raw mut verdict);
    let called = call(instance, move || {
        if entry != 0 {
            // SAFETY: we are inside `instance`, so it has not ended since it began; the address was read after that, and
            // so is what the entry function of its image gave, of the type that the ABI note vouches for.
            let entry = unsafe { core::mem::transmute::<usize, UpcallEntry>(entry) };
            // SAFETY: `message` outlives the call: a crash comes back to this frame too.
            let answer = unsafe { entry(message) };
            // SAFETY: as above, and nobody else looks at it meanwhile.
            unsafe { place.write(answer) };
        }
    });
    called.map(|()| verdict)
}

/// A core whose calls go into that instance of that domain.
fn core_of(id: DomainId) -> ProxyCore {
    ProxyCore {
        domain: AtomicU64::new(id.to_bits()),
        alive: liveness::word(id.slot()),
        target: UnsafeCell::new(RawObject { data: NonNull::dangling().as_ptr(), vtable: core::ptr::null() }),
    }
}

/// Runs `body` inside that instance of a domain, on this thread; if that takes too long, the domain ends. In the outermost
/// section.
pub(super) fn call(id: DomainId, body: impl FnOnce()) -> RpcResult<()> {
    let core = core_of(id);
    outside_section(|| inside(&core, body))
}

/// Runs `body` inside the domain that `core` names, as a crossing from the kernel; if that takes too long, the domain
/// ends. Outside any section.
pub(super) fn inside(core: &ProxyCore, body: impl FnOnce()) -> RpcResult<()> {
    let callee = DomainId::from_bits(core.domain.load(Ordering::Acquire));
    kernel_calls::watched(callee, || cross(core, body))
}

fn cross(core: &ProxyCore, body: impl FnOnce()) -> RpcResult<()> {
    // SAFETY: `NoObject` does not look at the target. `body` owns nothing to drop: the callers' closures are `move`s of
    // plain addresses.
    unsafe {
        crossing::call::<NoObject, (), (), _>(core, (), &[], |_, ()| {
            body();
            Ok(())
        })
    }
}

/// As [`inside`], for a thread that `id` spawned, which may take its time.
pub(super) fn run_thread(id: DomainId, body: impl FnOnce()) {
    let core = core_of(id);
    // If the domain dies, so does its thread: nobody is there to hear why.
    let _ = outside_section(|| cross(&core, body));
}

/// Runs `body` outside the caller's section, which is the outermost one.
pub(super) fn outside_section<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: the caller's section ends here; the one that begins below takes its place.
    drop(unsafe { Section::take_over() });
    let result = body();
    core::mem::forget(Section::enter());
    result
}

/// The interface of code that has no object: an entry function, a thread, a destructor.
struct NoObject;

// SAFETY: nothing is called through it: [`inside`]'s closure has its own address.
unsafe impl Interface for NoObject {
    const NAME: &'static str = "";
    const PATH: &'static str = "";
    const FINGERPRINT: Fingerprint = Fingerprint(0);
    fn proxy(_: *const ProxyCore) -> *const Self {
        NonNull::dangling().as_ptr()
    }
    fn from_raw(_: RawObject) -> *const Self {
        NonNull::dangling().as_ptr()
    }
    fn as_raw(_: *const Self) -> RawObject {
        RawObject { data: NonNull::dangling().as_ptr(), vtable: core::ptr::null() }
    }
    fn for_each_type(_: &mut dyn FnMut(TypeEntry)) {}
}
