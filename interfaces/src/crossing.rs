//! The crossing: how a call gets into another domain and back, or back without an answer.
//!
//! On the caller's stack, with interrupts on: (1) is there stack for the callee, (2) a continuation, (3) is the
//! callee alive, (4) ownership of what moves, (5) whose code runs now, (6) the call, (7) all of it in reverse. No
//! lock, no atomic read-modify-write, no allocation; what that leaves out, a termination does
//! (coppice_abi::crossing, docs/architecture.md).
//!
//! The continuation is a part of the proxy's stack frame. Assembly stores the registers that a callee must keep
//! and calls [`deliver`]; after a crash the kernel loads them again and jumps to the instruction behind that call.
//! For the compiler it is one call that returns once, so nothing here returns twice, as `setjmp` would.

use core::arch::asm;
use core::mem::{ManuallyDrop, MaybeUninit, offset_of};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering, compiler_fence};

use coppice_abi::crossing::{
    Continuation, ProxyCore, RpcError, Status, ThreadControl, count_call, enter, leave, thread,
};
use coppice_abi::{CrashKind, DomainId};
use coppice_rref::Shareable;

use crate::{Interface, RpcResult};

/// Called with the callee before each crossing while it is set: the trace ring, when it is on.
static OBSERVER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Calls `observer` at each crossing from now on; `None` stops that.
pub fn observe(observer: Option<extern "C" fn(DomainId)>) {
    OBSERVER.store(observer.map_or(ptr::null_mut(), |function| function as *mut ()), Ordering::Relaxed);
}

/// A crossing under way, in its proxy's frame.
#[repr(C)]
struct Frame<'a, A, R, F> {
    /// First, so that one register names both.
    continuation: Continuation,
    thread: *mut ThreadControl,
    core: &'a ProxyCore,
    arguments: ManuallyDrop<A>,
    body: ManuallyDrop<F>,
    result: MaybeUninit<RpcResult<R>>,
}

/// Calls `body` with the object behind `core`, inside its domain.
///
/// `arguments` move to the callee and its result moves back. `borrows` are the values of shared objects that the
/// callee reads meanwhile.
///
/// # Safety
/// `core` is that of an object of interface `I`. `body` owns nothing that needs dropping: a crash forgets it.
/// `borrows` are live shared objects of the caller.
#[inline(always)]
pub unsafe fn call<I, A, R, F>(core: &ProxyCore, arguments: A, borrows: &[*const u8], body: F) -> RpcResult<R>
where
    I: Interface + ?Sized,
    A: Shareable,
    R: Shareable,
    F: FnOnce(&I, A) -> RpcResult<R>,
{
    const {
        assert!(
            (A::ROOTS || !core::mem::needs_drop::<A>()) && (R::ROOTS || !core::mem::needs_drop::<R>()),
            "a shareable type without references inside may not have a destructor: a crash would skip it"
        );
    }
    let thread = thread();
    let mut frame = MaybeUninit::<Frame<'_, A, R, F>>::uninit();
    let place = frame.as_mut_ptr();
    // SAFETY: a proxy runs on a thread, whose control block lives as long as it runs.
    let (limit, caller, previous) = unsafe { ((*thread).stack_limit, (*thread).current, (*thread).top) };
    if place.addr() < limit {
        return no_stack(core);
    }
    // SAFETY: `place` is this function's own frame. Fields are written one by one so that `result` and the registers
    // are not touched.
    unsafe {
        (&raw mut (*place).continuation.previous).write(previous);
        (&raw mut (*place).continuation.caller).write(caller);
        (&raw mut (*place).continuation.status).write(Status::Returned);
        (&raw mut (*place).continuation.borrow_count).write(borrows.len() as u32);
        if !borrows.is_empty() {
            (&raw mut (*place).continuation.borrows).write(borrows.as_ptr());
        }
        (&raw mut (*place).thread).write(thread);
        (&raw mut (*place).core).write(core);
        (&raw mut (*place).arguments).write(ManuallyDrop::new(arguments));
        (&raw mut (*place).body).write(ManuallyDrop::new(body));
    }
    // SAFETY: `deliver` gets a frame whose fields it needs are written. The registers stored are those that the
    // System V ABI has a callee keep, so at label 2 they are right either way: kept by the call, or loaded by
    // `coppice_abi::crossing::resume`.
    unsafe {
        asm!(
            "lea rax, [rip + 2f]",
            "mov [rdi + {rip}], rax",
            "mov [rdi + {rsp}], rsp",
            "mov [rdi + {rbx}], rbx",
            "mov [rdi + {rbp}], rbp",
            "mov [rdi + {r12}], r12",
            "mov [rdi + {r13}], r13",
            "mov [rdi + {r14}], r14",
            "mov [rdi + {r15}], r15",
            "call {deliver}",
            "2:",
            deliver = sym deliver::<I, A, R, F>,
            rip = const offset_of!(Continuation, rip),
            rsp = const offset_of!(Continuation, rsp),
            rbx = const offset_of!(Continuation, rbx),
            rbp = const offset_of!(Continuation, rbp),
            r12 = const offset_of!(Continuation, r12),
            r13 = const offset_of!(Continuation, r13),
            r14 = const offset_of!(Continuation, r14),
            r15 = const offset_of!(Continuation, r15),
            in("rdi") place,
            clobber_abi("C"),
        );
    }
    // SAFETY: the frame is still ours; `status` was written above.
    let status = unsafe { (&raw const (*place).continuation.status).read() };
    match status {
        // SAFETY: `deliver` returned, and it writes the result before it does.
        Status::Returned => unsafe { (*place).result.assume_init_read() },
        // SAFETY: the kernel or `deliver` wrote the error with this status.
        Status::Failed => Err(unsafe { (&raw const (*place).continuation.error).read() }),
        Status::CallerDied => {
            // SAFETY: C1: the continuation is this frame's, and nothing below it is left to drop.
            unsafe { ((*thread).abandon)(&raw mut (*place).continuation) }
        }
    }
}

/// The callee's side of a proxy's frame: steps 2 to 7.
///
/// # Safety
/// All fields of `frame` that [`call`] writes are written, and the continuation's registers are complete.
unsafe extern "C" fn deliver<I, A, R, F>(frame: *mut Frame<'_, A, R, F>)
where
    I: Interface + ?Sized,
    A: Shareable,
    R: Shareable,
    F: FnOnce(&I, A) -> RpcResult<R>,
{
    // SAFETY: `call` wrote these.
    let (thread, core) = unsafe { ((*frame).thread, (*frame).core) };
    // A kill between the change of an object's owner and that of the thread's domain would lose the object or free
    // it twice; a call that moves nothing can be cut anywhere (C2, C3).
    if A::ROOTS {
        // SAFETY: pairs with the `leave` below, or in `refuse`.
        unsafe { enter() };
    }
    // SAFETY: C1: this frame stays on the stack while it is `top`.
    unsafe { (*thread).top = &raw mut (*frame).continuation };
    let callee = DomainId::from_bits(core.domain.load(Ordering::Acquire));
    compiler_fence(Ordering::SeqCst); // C2
    // SAFETY: our own thread's block.
    unsafe { (*thread).current = callee };
    compiler_fence(Ordering::SeqCst);
    if core.alive.load(Ordering::Acquire) != callee.to_bits() {
        // SAFETY: the frame is as it was handed to us.
        return unsafe { refuse(frame, callee) };
    }
    if !OBSERVER.load(Ordering::Relaxed).is_null() {
        observed(callee);
    }
    // SAFETY: only a domain has lives, and domains have slots below the limit.
    unsafe { count_call(callee.slot()) };
    // SAFETY: `call` wrote it, and this is the only place that takes it.
    let arguments = unsafe { ManuallyDrop::take(&mut (*frame).arguments) };
    // SAFETY: as above.
    let body = unsafe { ManuallyDrop::take(&mut (*frame).body) };
    if A::ROOTS {
        // SAFETY: R3: the caller's, and a kill of it or of the callee waits for `leave`.
        arguments.for_each_root(&mut |root| unsafe { root.set_owner(callee) });
        // SAFETY: pairs with the `enter` above.
        unsafe { leave() };
    }
    // SAFETY: the target belongs to a life of the callee that is alive, by the check above; if it dies from here on,
    // this thread does not come back to this code. The interface is the caller's promise.
    let target = unsafe { &*I::from_raw(*core.target.get()) };
    let result = body(target, arguments);
    // SAFETY: `call` wrote these.
    let (caller, previous) = unsafe { ((*frame).continuation.caller, (*frame).continuation.previous) };
    if R::ROOTS {
        // SAFETY: pairs with the `leave` below, or in `discard`.
        unsafe { enter() };
        // SAFETY: C4: it does not change inside the section.
        if unsafe { (*frame).continuation.status } == Status::CallerDied {
            // SAFETY: the result has gone nowhere yet.
            return unsafe { discard(frame, result) };
        }
        // SAFETY: R3: the callee's, and a kill of it or of the caller waits for `leave`.
        result.for_each_root(&mut |root| unsafe { root.set_owner(caller) });
    }
    // SAFETY: the frame's own place.
    unsafe { (*frame).result.write(result) };
    compiler_fence(Ordering::SeqCst);
    // SAFETY: our own thread's block.
    unsafe { (*thread).current = caller };
    compiler_fence(Ordering::SeqCst); // C3
    // SAFETY: as above.
    unsafe { (*thread).top = previous };
    if R::ROOTS {
        // SAFETY: pairs with the `enter` above.
        unsafe { leave() };
    }
}

/// The caller died meanwhile: drops the result and ends the crossing.
///
/// Still as the callee, and the result the callee's: if it were the dead caller's for a moment, the sweep that goes on
/// meanwhile might find it too, and free it a second time.
///
/// # Safety
/// As [`deliver`], inside its second section.
#[cold]
unsafe fn discard<A, R, F>(frame: *mut Frame<'_, A, R, F>, result: RpcResult<R>) {
    // SAFETY: pairs with `deliver`'s `enter`.
    unsafe { leave() };
    drop(result);
    // SAFETY: `call` wrote these.
    let (thread, caller, previous) =
        unsafe { ((*frame).thread, (*frame).continuation.caller, (*frame).continuation.previous) };
    compiler_fence(Ordering::SeqCst);
    // SAFETY: our own thread's block.
    unsafe { (*thread).current = caller };
    compiler_fence(Ordering::SeqCst); // C3
    // SAFETY: as above.
    unsafe { (*thread).top = previous };
}

/// The callee is not alive: undoes what `deliver` did so far and leaves an error.
///
/// # Safety
/// As [`deliver`], inside its first section.
#[cold]
unsafe fn refuse<I: ?Sized, A: Shareable, R, F: FnOnce(&I, A) -> RpcResult<R>>(
    frame: *mut Frame<'_, A, R, F>,
    callee: DomainId,
) {
    // SAFETY: `call` wrote these.
    let (thread, caller, previous) =
        unsafe { ((*frame).thread, (*frame).continuation.caller, (*frame).continuation.previous) };
    // SAFETY: our own thread's block.
    unsafe { (*thread).current = caller };
    compiler_fence(Ordering::SeqCst); // C3
    // SAFETY: as above.
    unsafe { (*thread).top = previous };
    compiler_fence(Ordering::SeqCst);
    // A kill of the caller may have said `CallerDied` just before; then the answer is for nobody. From here on it does
    // not: the continuation is not on the stack any more.
    // SAFETY: the frame is this thread's.
    if unsafe { (*frame).continuation.status } == Status::Returned {
        // SAFETY: the truth: that life of the domain is over.
        let error = unsafe { RpcError::new(callee, CrashKind::NotRunning) };
        // SAFETY: as above.
        unsafe { (&raw mut (*frame).continuation.error).write(error) };
        // SAFETY: as above.
        unsafe { (*frame).continuation.status = Status::Failed };
    }
    if A::ROOTS {
        // SAFETY: pairs with `deliver`'s `enter`.
        unsafe { leave() };
    }
    // What was to move is still the caller's, so this is an ordinary drop of its own.
    // SAFETY: `call` wrote it, and `deliver` has not taken it.
    unsafe { ManuallyDrop::drop(&mut (*frame).arguments) };
}

#[cold]
#[inline(never)]
fn no_stack<R>(core: &ProxyCore) -> RpcResult<R> {
    let callee = DomainId::from_bits(core.domain.load(Ordering::Acquire));
    // SAFETY: the truth, as `call` has just found.
    Err(unsafe { RpcError::new(callee, CrashKind::NoStack) })
}

#[cold]
#[inline(never)]
fn observed(callee: DomainId) {
    let observer = OBSERVER.load(Ordering::Relaxed);
    if !observer.is_null() {
        // SAFETY: `observe` stores functions of this type or null.
        let observer = unsafe { core::mem::transmute::<*mut (), extern "C" fn(DomainId)>(observer) };
        observer(callee);
    }
}
