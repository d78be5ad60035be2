//! Gates: proxies to an export proxy's object that follow a restart only when told to.
//!
//! An export proxy follows at once, so the first caller reaches a new instance in the state that its entry
//! function left. A shadow has to set up that instance first: it keeps its clients' calls behind one gate,
//! makes its own calls through a second gate that already leads to the new instance, and then has the first
//! follow the second. A gate is not responsible for its target: the export proxy, which is never dropped, is.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use coppice_abi::DomainId;
use coppice_abi::crossing::ProxyCore;

use super::{Proxy, proxy_of, publish};
use crate::domain;
use crate::sched::wait;

/// Makes a gate to the present instance of the export proxy that `cell` leads to, and a handle to it for
/// `owner`. Returns `None` if `cell` does not lead to an export proxy of a domain, or the shared heap has no
/// room.
///
/// # Safety
/// `cell` is a live handle cell.
pub(crate) unsafe fn make(cell: NonNull<u8>, owner: DomainId) -> Option<NonNull<u8>> {
    // SAFETY: the caller's promise.
    let proxy = unsafe { proxy_of(cell) };
    // The lock keeps the export proxy from following, so that instance and target match.
    let export = domain::get(instance_of(&proxy.core).slot())?.export.lock();
    if export.as_ref().is_none_or(|export| export.0 != NonNull::from(proxy)) {
        return None;
    }
    // SAFETY: an export proxy's target changes only under the export proxy's lock, which we hold.
    let target = unsafe { *proxy.core.target.get() };
    let gate = Proxy::new(instance_of(&proxy.core), proxy.interface, target, None);
    drop(export);
    publish(gate, owner).ok()
}

/// Redirects `gate` to the target of `next`. Returns false if that is not a later instance of the same
/// domain.
///
/// # Safety
/// Both are live handle cells of gates to one export proxy, and no other thread changes either during the
/// call.
pub(crate) unsafe fn follow(gate: NonNull<u8>, next: NonNull<u8>) -> bool {
    // SAFETY: the caller's promise.
    let (gate, next) = (&unsafe { proxy_of(gate) }.core, &unsafe { proxy_of(next) }.core);
    let (old, new) = (instance_of(gate), instance_of(next));
    if old.slot() != new.slot() || old.generation() >= new.generation() {
        return false;
    }
    // SAFETY: nothing changes it during the call.
    let target = unsafe { *next.target.get() };
    // SAFETY: ProxyCore's contract: a later instance has begun, and none begins before the previous one is
    // over and its threads have been sent away (`terminate::end`). A call that read the old instance and
    // resumes only now finds it dead, and does not read the target.
    unsafe { *gate.target.get() = target };
    // As for an export proxy: a reader of the new instance (Acquire) reads its target too.
    gate.domain.store(new.to_bits(), Ordering::Release);
    true
}

/// Blocks until the proxy of `cell` leads to a live instance other than `past`. Returns false if the deadline
/// comes first.
///
/// # Safety
/// `cell` is a live handle cell, which the caller keeps during the call.
pub(crate) unsafe fn await_instance(cell: NonNull<u8>, past: DomainId, deadline_ns: u64) -> bool {
    // SAFETY: the caller's promise.
    let core = &unsafe { proxy_of(cell) }.core;
    // An instance can be called once the export proxy follows it. The starting thread wakes us after that,
    // and the instance may already be over by then.
    let is_pending = || {
        let instance = instance_of(core);
        instance == past || core.alive.load(Ordering::SeqCst) != instance.to_bits()
    };
    let key = wait::Key::Instance(instance_of(core).slot());
    while is_pending() {
        if !wait::block(key, is_pending, deadline_ns) {
            return !is_pending();
        }
    }
    true
}

fn instance_of(core: &ProxyCore) -> DomainId {
    DomainId::from_bits(core.domain.load(Ordering::Acquire))
}
