//! Gates: proxies to an export proxy's object that follow a restart when they are told, and not before.
//!
//! An export proxy follows at once, so whoever calls first reaches a new instance as its entry function left it. A shadow has
//! something to say to that instance before: it keeps its clients' calls behind a gate, says it through another gate that
//! leads to the new instance already, and then has the first follow the second. A gate has no claim to its target: the
//! export proxy, which is never dropped, answers for it.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use coppice_abi::DomainId;
use coppice_abi::crossing::ProxyCore;

use super::{Proxy, proxy_of, publish};
use crate::domain;
use crate::sched::wait;

/// Makes a gate to the present instance of the export proxy that `cell` leads to, and a handle to it for `owner`. `None` if it
/// leads to no domain's export proxy, or the shared heap has no room.
///
/// # Safety
/// `cell` is a live handle cell.
pub(crate) unsafe fn make(cell: NonNull<u8>, owner: DomainId) -> Option<NonNull<u8>> {
    // SAFETY: the caller's promise.
    let proxy = unsafe { proxy_of(cell) };
    // The lock keeps the export proxy from following, so that instance and target are of one time.
    let export = domain::get(instance_of(&proxy.core).slot())?.export.lock();
    if export.as_ref().is_none_or(|export| export.0 != NonNull::from(proxy)) {
        return None;
    }
    // SAFETY: an export proxy's target changes under the export proxy's lock only.
    let target = unsafe { *proxy.core.target.get() };
    let gate = Proxy::new(instance_of(&proxy.core), proxy.interface, target, None);
    drop(export);
    publish(gate, owner).ok()
}

/// Has `gate` lead to where `next` leads. False if that is not a later instance of the same domain.
///
/// # Safety
/// Both are live handle cells of gates to one export proxy, and nobody else changes either meanwhile.
pub(crate) unsafe fn follow(gate: NonNull<u8>, next: NonNull<u8>) -> bool {
    // SAFETY: the caller's promise.
    let (gate, next) = (&unsafe { proxy_of(gate) }.core, &unsafe { proxy_of(next) }.core);
    let (old, new) = (instance_of(gate), instance_of(next));
    if old.slot() != new.slot() || old.generation() >= new.generation() {
        return false;
    }
    // SAFETY: nobody changes it.
    let target = unsafe { *next.target.get() };
    // SAFETY: ProxyCore's contract: a later instance has begun, which none does before the last one is over and its threads
    // have been sent away (`terminate::end`). A call that read the old instance and goes on only now finds that it is not
    // alive, and does not look at the target.
    unsafe { *gate.target.get() = target };
    // As an export proxy does: whoever reads the new instance (Acquire) reads its target too.
    gate.domain.store(new.to_bits(), Ordering::Release);
    true
}

/// Blocks until the proxy of `cell` leads to a instance that goes on and is not `past`. False if the deadline comes first.
///
/// # Safety
/// `cell` is a live handle cell, which the caller keeps meanwhile.
pub(crate) unsafe fn await_instance(cell: NonNull<u8>, past: DomainId, deadline_ns: u64) -> bool {
    // SAFETY: the caller's promise.
    let core = &unsafe { proxy_of(cell) }.core;
    // A instance can be called once the export proxy follows it, and whoever starts it wakes us after that. It may be over by then.
    let is_to_come = || {
        let instance = instance_of(core);
        instance == past || core.alive.load(Ordering::SeqCst) != instance.to_bits()
    };
    let key = wait::Key::Instance(instance_of(core).slot());
    while is_to_come() {
        if !wait::block(key, is_to_come, deadline_ns) {
            return !is_to_come();
        }
    }
    true
}

fn instance_of(core: &ProxyCore) -> DomainId {
    DomainId::from_bits(core.domain.load(Ordering::Acquire))
}
