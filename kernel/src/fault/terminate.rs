//! The end of a domain, for whatever cause, and the way out for the threads inside it.
//!
//! 1. Stop the world; mark the instance as over; send each thread inside to its innermost live caller, and tell
//!    continuations of the dead domain that nothing waits there. The domain's descendants in the supervision tree come first,
//!    in the same stop: no child is seen without its parent.
//! 2. Let the world go on. The steps below are taken for each of them, children first.
//! 3. Quiesce its devices ([`device::quiesce`]).
//! 4. Sweep the shared heap, free the private heap.
//! 5. Free the image, last, unless a restart will want it.

use alloc::vec::Vec;
use core::ptr::NonNull;

use coppice_abi::crossing::{self, Continuation, RpcError, Status};
use coppice_abi::{CrashKind, DomainId};
use coppice_interfaces::{DomainState, Text};
use coppice_manifest::Restart;
use spin::Once;

use crate::device;
use crate::domain::{self, Domain, proxy, shared_heap, supervision_tree};
use crate::fault::{crash_log, post_mortem};
use crate::platform::sync::Section;
use crate::sched::thread::{self, Thread};
use crate::sched::world::{self, Stopped};
use crate::sched::{liveness, trace, wait};

/// Ends that instance of that domain because of `kind`. False if it was over already.
///
/// If the caller is inside the domain, it goes on at its caller as soon as its section ends. In the outermost section,
/// holding no lock.
pub(crate) fn terminate(victim: DomainId, kind: CrashKind) -> bool {
    terminate_because(victim, kind, Text::format(format_args!("{kind:?}")))
}

/// As [`terminate`], with words for the crash record.
pub(crate) fn terminate_because(victim: DomainId, kind: CrashKind, text: Text<256>) -> bool {
    end(victim, kind, text, FollowUp::Policy)
}

/// As [`terminate`], for a caller that starts the domain again at once.
pub(crate) fn terminate_for_restart(victim: DomainId) -> bool {
    end(victim, CrashKind::Killed, Text::format(format_args!("{:?}", CrashKind::Killed)), FollowUp::Restart)
}

/// Decides what follows the death of a domain. Returns true if deferred work is about to do it, which announces the death then.
type Policy = fn(&'static Domain) -> bool;

static POLICY: Once<Policy> = Once::new();

/// Sets what decides after each death, before the first domain starts.
pub(crate) fn install_policy(after_death: Policy) {
    POLICY.call_once(|| after_death);
}

fn after_death(domain: &'static Domain) -> bool {
    POLICY.get().expect("boot installs the policy before a domain starts")(domain)
}

/// What comes after a instance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FollowUp {
    /// What the manifest says.
    Policy,
    /// The next one, begun by the caller: the loaded image stays.
    Restart,
    /// What the manifest says, once its parent lives again.
    Parent,
}

/// As [`terminate_because`], for a caller that had to stop the world to know whom to end.
pub(crate) fn terminate_while_stopped(
    stopped: Stopped,
    victim: DomainId,
    kind: CrashKind,
    text: Text<256>,
) -> bool {
    end_while_stopped(stopped, victim, kind, text, FollowUp::Policy)
}

fn end(victim: DomainId, kind: CrashKind, text: Text<256>, then: FollowUp) -> bool {
    end_while_stopped(world::stop(), victim, kind, text, then)
}

fn end_while_stopped(
    stopped: Stopped,
    victim: DomainId,
    kind: CrashKind,
    text: Text<256>,
    then: FollowUp,
) -> bool {
    let Some(domain) = domain::get(victim.slot()) else { return false };
    if domain.instance() != Some(victim) {
        return false;
    }
    // Most domains have nobody below them; then this allocates nothing.
    let mut orphans = Vec::with_capacity(domain.supervision.descendants().len());
    // Backwards from the order of starting, so that no one ends before its children. What follows is what as many
    // terminations one after the other would do, without a moment between them.
    for orphan in domain.supervision.descendants().rev() {
        if let Some(instance) = orphan.instance() {
            let parent = orphan.supervision.parent().map_or(victim, Domain::last_instance);
            let text = format_args!(
                "its parent {} (generation {}) has ended",
                domain::name(parent),
                parent.generation()
            );
            cut_off(orphan, instance, CrashKind::Orphaned, Text::format(text));
            orphans.push((orphan, instance));
        }
    }
    cut_off(domain, victim, kind, text);
    drop(stopped);
    for (orphan, instance) in orphans {
        reclaim(orphan, instance, FollowUp::Parent);
    }
    if !reclaim(domain, victim, then) {
        crash_log::announce();
    }
    true
}

/// Ends a instance for everybody. The world is stopped.
fn cut_off(domain: &Domain, instance: DomainId, kind: CrashKind, text: Text<256>) {
    crash_log::record_crash(instance, kind, text);
    domain.end_instance();
    trace::record(trace::Kind::Fault, instance, kind as u64);
    thread::for_each(|thread| evict(thread, instance));
}

/// Makes `thread` leave `victim`, if it is inside, and tells its continuations. The world is stopped.
fn evict(thread: &'static Thread, victim: DomainId) {
    let control = thread.control();
    // SAFETY: T3: the world is stopped.
    let fields = unsafe { thread.fields() };
    if thread.domain == victim {
        fields.charged_slot = DomainId::NONE.slot();
    }
    // The kernel waits only where it owns nothing, so a wait in its object ends with the domain that called it. If the
    // thread is in there and does not wait, it may own something: then it goes on to the end, or to its next wait.
    let waits_in_the_kernel = || {
        control.current == DomainId::KERNEL
            && thread::caller_in(control) == Some(victim)
            && fields.waiting.is_some()
    };
    // Frames that an unwinding thread skips are dead already; a borrow of theirs ends in `unwind`.
    let mut unwinding = control.current == victim || waits_in_the_kernel();
    if unwinding {
        fields.killed = true;
        trace::record(trace::Kind::Eviction, victim, thread.id);
        wait::cancel(thread);
    }
    let mut at = control.top;
    // SAFETY: C1, and the thread is stopped.
    while let Some(continuation) = unsafe { at.as_mut() } {
        unwinding = unwinding && !liveness::is_alive(continuation.caller);
        if !unwinding && continuation.caller == victim {
            continuation.status |= Status::CALLER_DIED;
            // SAFETY: the callee reads live objects, and the world is stopped.
            unsafe { shared_heap::retain(borrows(continuation)) };
            // SAFETY: the caller's handle, which is still there, keeps the proxy; no caller that dies calls anything else.
            unsafe { proxy::retain(continuation.core) };
        }
        at = continuation.previous;
    }
}

/// The shared objects that the callee of `continuation` reads.
fn borrows(continuation: &Continuation) -> impl Iterator<Item = NonNull<u8>> + use<> {
    let values = match continuation.borrow_count {
        0 => &[],
        // SAFETY: the proxy's frame holds the list for as long as it holds the continuation.
        count => unsafe { core::slice::from_raw_parts(continuation.borrows, count as usize) },
    };
    values.iter().filter_map(|&value| NonNull::new(value.cast_mut()))
}

/// Takes back what a instance had that is over and that no thread is in. Answers whether a thread of the kernel's is about to
/// follow it up.
fn reclaim(domain: &'static Domain, victim: DomainId, then: FollowUp) -> bool {
    // Before a byte of its memory is somebody else's.
    device::quiesce(domain.slot, &domain.manifest.name, victim);
    // SAFETY: `terminate` stopped the world and evicted every thread.
    let sweep = unsafe { shared_heap::sweep(victim) };
    let pages = domain.free_heap();
    supervision_tree::unreserve(domain);
    trace::record(trace::Kind::Sweep, victim, (sweep.freed as u64) << 32 | sweep.returned as u64);
    trace::record(trace::Kind::Pages, victim, pages as u64);
    post_mortem::keep(victim);
    if then != FollowUp::Restart && domain.manifest.restart == Restart::Never {
        *domain.program.lock() = None;
    }
    log::debug!(
        "{} (generation {}) is gone: {} shared objects freed, {} given back, {} still read",
        domain.manifest.name,
        victim.generation(),
        sweep.freed,
        sweep.returned,
        sweep.deferred,
    );
    domain.set_state(DomainState::Dead);
    then == FollowUp::Policy && after_death(domain)
}

/// Where a proxy goes whose caller died during the call: to an earlier continuation.
///
/// # Safety
/// `continuation` is that proxy's, and its frame has nothing left to drop.
pub(crate) unsafe extern "C" fn abandon(continuation: *mut Continuation) -> ! {
    let section = Section::enter();
    // SAFETY: the caller's promise.
    release(unsafe { &*continuation });
    // `unwind` ends the section.
    core::mem::forget(section);
    unwind()
}

/// Lets go of what [`evict`] kept for a call when it said that the caller had died.
fn release(continuation: &Continuation) {
    // SAFETY: `evict` retained them.
    unsafe { shared_heap::release(borrows(continuation)) };
    // SAFETY: as above.
    unsafe { proxy::release_call(continuation.core) };
}

/// Leaves the dead domain that this thread is in: goes on at the innermost continuation whose caller lives. Ends the
/// outermost section.
pub(crate) fn unwind() -> ! {
    let control = thread::current().control();
    let mut callee = control.current;
    let mut at = control.top;
    let target = loop {
        // SAFETY: C1; the outermost continuation's caller is the kernel, so one is found.
        let continuation = unsafe { &mut *at };
        if liveness::is_alive(continuation.caller) {
            break continuation;
        }
        if continuation.status & Status::CALLER_DIED != 0 {
            release(continuation);
        }
        callee = continuation.caller;
        at = continuation.previous;
    };
    // SAFETY: it is true: `callee` is dead, or this thread would not leave it.
    target.error = unsafe { RpcError::new(callee, crash_log::cause(callee)) };
    target.status |= Status::FAILED;
    control.current = target.caller;
    control.top = target.previous;
    // SAFETY: the caller's outermost section, which nothing else ends.
    drop(unsafe { Section::take_over() });
    // SAFETY: the continuation is complete (C2). Frames below it are the dead domain's or hold nothing to drop: kernel
    // code blocks and ends domains only where it owns nothing (`wait`, `crash`).
    unsafe { crossing::resume(target) }
}
