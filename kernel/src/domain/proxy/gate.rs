//! Gates: proxies to an export proxy's object that follow a restart only when told to.
//!
//! An export proxy follows at once, so the first caller reaches a new instance in the state that its entry
//! function left. A shadow has to set up that instance first: it keeps its clients' calls behind one gate,
//! makes its own calls through a second gate that already leads to the new instance, and then has the first
//! follow the second. A gate is not responsible for its target: the export proxy, which is never dropped, is.

use core::ptr::NonNull;

use coppice_abi::DomainId;

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
    let export = domain::get(proxy.core.instance().slot())?.export.lock();
    if export.as_ref().is_none_or(|export| export.0 != NonNull::from(proxy)) {
        return None;
    }
    // SAFETY: an export proxy's target changes only under the export proxy's lock, which we hold.
    let target = unsafe { proxy.core.target() };
    let gate = Proxy::new(proxy.core.instance(), proxy.interface, target, None);
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
    let (old, new) = (gate.instance(), next.instance());
    if old.slot() != new.slot() || old.generation() >= new.generation() {
        return false;
    }
    // SAFETY: nothing changes it during the call.
    let target = unsafe { next.target() };
    // SAFETY: ProxyCore's contract: a later instance has begun, and none begins before the previous one is
    // over and its threads have been sent away (`terminate::end`).
    unsafe { gate.follow(new, target) };
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
        let instance = core.instance();
        instance == past || core.living() != instance
    };
    let key = wait::Key::Instance(core.instance().slot());
    while is_pending() {
        if !wait::block(key, is_pending, deadline_ns) {
            return !is_pending();
        }
    }
    true
}
