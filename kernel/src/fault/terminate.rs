//! The end of a domain, for any cause, and the eviction of the threads inside it.
//!
//! 1. Stop the world, mark the instance as ended, send each thread inside to its innermost live caller, and
//!    mark the continuations whose caller was the dead domain. The domain's descendants in the supervision
//!    tree come first, in the same stop: no child is ever seen without its parent.
//! 2. Let the world go on. The steps below are done for each of these domains, children first.
//! 3. Quiesce its devices ([`device::quiesce`]).
//! 4. Sweep the shared heap, free the private heap.
//! 5. Free the image, last, unless a restart needs it.

use core::ptr::NonNull;
use core::sync::atomic::Ordering;

use coppice_abi::crossing::{self, Continuation, RpcError, Status};
use coppice_abi::{CrashKind, DomainId};
use coppice_control::DomainState;
use coppice_interfaces::Text;
use coppice_manifest::Restart;
use spin::Once;

use crate::device;
use crate::domain::{self, Domain, proxy, reaper, shared_heap, supervision_tree};
#[cfg(feature = "testing")]
use crate::fault::mutation;
use crate::fault::{crash_log, post_mortem};
use crate::platform::sync::Section;
use crate::sched::thread::{self, Survival, Thread};
use crate::sched::world::{self, Stopped};
use crate::sched::{liveness, trace, wait};

/// Ends that instance because of `kind`. Returns false if it has ended already.
///
/// A caller inside that domain continues at its own caller as soon as its section ends. In the outermost
/// section, holding no lock.
pub(crate) fn terminate(victim: DomainId, kind: CrashKind) -> bool {
    terminate_because(victim, kind, Text::format(format_args!("{kind:?}")))
}

/// As [`terminate`], with a text for the crash record.
pub(crate) fn terminate_because(victim: DomainId, kind: CrashKind, text: Text<256>) -> bool {
    end(victim, kind, text, FollowUp::Policy)
}

/// As [`terminate`], for a caller that starts the domain again at once.
pub(crate) fn terminate_for_restart(victim: DomainId) -> bool {
    end(victim, CrashKind::Killed, Text::format(format_args!("{:?}", CrashKind::Killed)), FollowUp::Restart)
}

/// The restart policy's part in a termination.
pub(crate) struct Policy {
    /// Notes how far an instance came that has just ended with that many crossings into it under way. The
    /// world is stopped.
    pub(crate) note_end: fn(&Domain, u64),
    /// Decides what follows the end of a domain. Returns true if deferred work is about to do it, which then
    /// announces the crash record.
    pub(crate) after_death: fn(&'static Domain) -> bool,
}

static POLICY: Once<Policy> = Once::new();

/// Sets the restart policy, before the first domain starts.
pub(crate) fn install_policy(policy: Policy) {
    POLICY.call_once(|| policy);
}

fn policy() -> &'static Policy {
    POLICY.get().expect("boot installs the policy before a domain starts")
}

/// The next step after an instance has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FollowUp {
    /// As the manifest says.
    Policy,
    /// The caller starts the domain again, so the loaded image stays.
    Restart,
    /// As the manifest says, once the parent runs again.
    Parent,
}

/// As [`terminate_because`], for a caller that had to stop the world to choose the instance.
pub(crate) fn terminate_while_stopped(
    stopped: Stopped,
    victim: DomainId,
    kind: CrashKind,
    text: Text<256>,
) -> bool {
    end_while_stopped(stopped, victim, kind, text, FollowUp::Policy)
}

fn end(victim: DomainId, kind: CrashKind, text: Text<256>, follow_up: FollowUp) -> bool {
    end_while_stopped(world::stop(), victim, kind, text, follow_up)
}

fn end_while_stopped(
    stopped: Stopped,
    victim: DomainId,
    kind: CrashKind,
    text: Text<256>,
    follow_up: FollowUp,
) -> bool {
    let Some(domain) = domain::get(victim.slot()) else { return false };
    if domain.instance() != Some(victim) {
        return false;
    }
    // In reverse starting order, so that no domain ends before its children. The result is that of one
    // termination after the other, without a moment between them.
    for orphan in domain.supervision.descendants().rev() {
        if let Some(instance) = orphan.instance() {
            let parent = orphan.supervision.parent().map_or(victim, Domain::last_instance);
            let text = format_args!(
                "its parent {} (generation {}) has ended",
                domain::name(parent),
                parent.generation()
            );
            cut_off(&stopped, orphan, instance, CrashKind::Orphaned, Text::format(text));
            orphan.ended_with.store(victim.to_bits(), Ordering::SeqCst);
        }
    }
    cut_off(&stopped, domain, victim, kind, text);
    drop(stopped);
    // No instance of a descendant begins before it is reclaimed, so its last one is the one that has ended.
    for orphan in domain.supervision.descendants().rev() {
        let (ended, none) = (victim.to_bits(), DomainId::NONE.to_bits());
        let ended_here = orphan.ended_with.compare_exchange(ended, none, Ordering::SeqCst, Ordering::SeqCst);
        if ended_here.is_ok() {
            reclaim(orphan, orphan.last_instance(), FollowUp::Parent);
        }
    }
    if !reclaim(domain, victim, follow_up) {
        crash_log::announce();
    }
    true
}

/// Marks an instance as ended and evicts its threads. The world is stopped.
fn cut_off(stopped: &Stopped, domain: &Domain, instance: DomainId, kind: CrashKind, text: Text<256>) {
    crash_log::record_crash(instance, kind, text);
    domain.end_instance();
    trace::record(trace::Kind::Fault, instance, kind as u64);
    let mut inside = 0;
    thread::for_each(|thread| {
        inside += evict(thread, instance);
        if thread.domain == instance {
            domain.count_survivor(stopped, thread, survival_of(thread));
        }
    });
    (policy().note_end)(domain, inside);
}

/// The calls on a thread whose callers have died, innermost first.
pub(crate) fn calls_for_the_dead<'a>(
    _: &'a Stopped,
    thread: &'a Thread,
) -> impl Iterator<Item = &'a Continuation> {
    // SAFETY: the world is stopped while the iterator is in use.
    let calls = unsafe { thread.continuations() };
    calls.filter(|call| call.status() & Status::CALLER_DIED != 0)
}

/// Makes `thread` leave `victim`, if it is inside, and marks its continuations. Returns the number of
/// crossings into `victim` that are under way on it. The world is stopped.
fn evict(thread: &'static Thread, victim: DomainId) -> u64 {
    let control = thread.control();
    // SAFETY: T3: the world is stopped.
    let fields = unsafe { thread.fields() };
    if thread.domain == victim {
        fields.charged_slot = DomainId::NONE.slot();
    }
    // The kernel waits only where it owns nothing, so a wait in a kernel object ends with the domain that
    // called it. A thread in there that does not wait may own something: it continues to the end, or to its
    // next wait.
    let waits_in_the_kernel = || {
        control.current() == DomainId::KERNEL
            && thread::caller_in(control) == Some(victim)
            && fields.waiting.is_some()
    };
    // Frames that an unwinding thread skips are dead already; their borrows end in `unwind`.
    let mut unwinding = control.current() == victim || waits_in_the_kernel();
    if unwinding {
        fields.killed = true;
        trace::record(trace::Kind::Eviction, victim, thread.id);
        wait::cancel(thread);
    }
    let (mut at, mut callee, mut inside) = (control.top(), control.current(), 0);
    // SAFETY: C1, and the thread is stopped.
    while let Some(continuation) = unsafe { at.as_mut() } {
        inside += u64::from(callee == victim);
        callee = continuation.caller();
        unwinding = unwinding && !liveness::is_alive(callee);
        if !unwinding && callee == victim {
            // SAFETY: C4: the world is stopped.
            unsafe { continuation.mark(Status::CALLER_DIED) };
            // SAFETY: the callee reads live objects, and the world is stopped.
            unsafe { shared_heap::retain(borrows(continuation)) };
            // SAFETY: the caller's handle still exists and keeps the proxy; a dead caller calls nothing else.
            unsafe { proxy::retain(continuation.core()) };
        }
        at = continuation.previous();
    }
    inside
}

/// The state of a thread whose instance has ended, once it has been told to leave what it can leave. The
/// world is stopped.
fn survival_of(thread: &Thread) -> Survival {
    let control = thread.control();
    // Code of the kernel returns soon, or it waits where the thread has been told to leave.
    // SAFETY: T3: the world is stopped.
    let mut is_dead = unsafe { thread.fields() }.killed || control.current() == DomainId::KERNEL;
    let mut at: *const Continuation = control.top();
    // SAFETY: C1, and the thread is stopped.
    while let Some(continuation) = unsafe { at.as_ref() } {
        let is_outermost = continuation.previous().is_null();
        is_dead = is_dead && (is_outermost || !liveness::is_alive(continuation.caller()));
        at = continuation.previous();
    }
    if is_dead { Survival::Leaving } else { Survival::Abroad }
}

/// The shared objects that the callee of `continuation` borrows.
fn borrows(continuation: &Continuation) -> impl Iterator<Item = NonNull<u8>> + use<> {
    let values = match continuation.borrows() {
        (_, 0) => &[],
        // SAFETY: the proxy's frame holds the list for as long as it holds the continuation.
        (first, count) => unsafe { core::slice::from_raw_parts(first, count) },
    };
    values.iter().filter_map(|&value| NonNull::new(value.cast_mut()))
}

/// Takes back the resources of an instance that has ended and that no thread is in. Returns true if a kernel
/// thread follows the termination up at once.
fn reclaim(domain: &'static Domain, victim: DomainId, follow_up: FollowUp) -> bool {
    #[cfg(feature = "testing")]
    mutation::at_death(victim);
    // Before any of its memory gets another owner.
    device::quiesce(domain.slot, &domain.manifest.name, victim);
    // SAFETY: `terminate` stopped the world and evicted every thread.
    let sweep = unsafe { shared_heap::sweep(victim) };
    // The sweep's own handles among them.
    reaper::discard(domain.slot);
    let pages = domain.free_heap();
    supervision_tree::unreserve(domain);
    trace::record(trace::Kind::Sweep, victim, (sweep.freed as u64) << 32 | sweep.returned as u64);
    trace::record(trace::Kind::Visit, victim, sweep.visited as u64);
    trace::record(trace::Kind::Pages, victim, pages as u64);
    post_mortem::keep(victim);
    if follow_up != FollowUp::Restart && domain.manifest.restart == Restart::Never {
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
    follow_up == FollowUp::Policy && (policy().after_death)(domain)
}

/// Continues at an earlier continuation. A proxy goes here if its caller died during the call.
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

/// Releases the objects and the proxy that [`evict`] retained for a call whose caller had died.
fn release(continuation: &Continuation) {
    // SAFETY: `evict` retained them.
    unsafe { shared_heap::release(borrows(continuation)) };
    // SAFETY: as above.
    unsafe { proxy::release_call(continuation.core()) };
}

/// Leaves the dead domain that this thread is in: continues at the innermost continuation whose caller is
/// alive. Ends the outermost section.
pub(crate) fn unwind() -> ! {
    let control = thread::current().control();
    let mut callee = control.current();
    let mut at = control.top();
    let target = loop {
        // SAFETY: C1; the outermost continuation's caller is the kernel, which is alive, so the loop ends
        // here.
        let continuation = unsafe { &mut *at };
        if liveness::is_alive(continuation.caller()) {
            break continuation;
        }
        if continuation.status() & Status::CALLER_DIED != 0 {
            release(continuation);
        }
        callee = continuation.caller();
        at = continuation.previous();
    };
    // SAFETY: the error is true: `callee` is dead, or this thread would not leave it.
    let error = unsafe { RpcError::new(callee, crash_log::cause(callee)) };
    // SAFETY: C4: this thread's own continuation, inside a section, and it resumes there below.
    unsafe { target.fail(error) };
    // SAFETY: C3: as above.
    unsafe { control.return_to(target) };
    thread::restore_priority(target.stack_pointer());
    // SAFETY: the caller's outermost section, which nothing else ends.
    drop(unsafe { Section::take_over() });
    // SAFETY: the continuation is complete (C2). Frames below it are the dead domain's or hold nothing to
    // drop: kernel code blocks and ends domains only where it owns nothing (`wait`, `crash`).
    unsafe { crossing::resume(target) }
}
