//! The crossing: how a call gets into another domain and back, or back without an answer.
//!
//! On the caller's stack, with interrupts on: (1) is there stack for the callee, (2) a continuation, (3) is the
//! callee alive, (4) ownership of what moves, (5) whose code runs now, (6) the call, (7) all of it in reverse. No
//! lock, no atomic read-modify-write, no allocation; what that leaves out, a termination does
//! (coppice_abi::crossing, docs/architecture.md).
//!
//! The continuation is a part of the proxy's stack frame. One piece of assembly stores the registers that a callee must
//! keep, changes whose code runs, calls [`deliver`], and changes that back; after a crash the kernel loads the registers
//! again and jumps behind it. For the compiler it is one call that returns once, so nothing here returns twice, as
//! `setjmp` would. What both ways need afterwards is in registers: through memory, each crossing would wait for the stores
//! of the one before.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "the frame is reached through a raw pointer, and each of its fields would count"
)]

use core::arch::asm;
use core::mem::{ManuallyDrop, MaybeUninit, offset_of};
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use coppice_abi::crossing::{
    Continuation, CpuBlock, ProxyCore, RpcError, Status, ThreadControl, enter, leave, thread,
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
struct Frame<A, R, F> {
    /// First, so that one register names both.
    continuation: Continuation,
    callee: DomainId,
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
    let mut frame = MaybeUninit::<Frame<A, R, F>>::uninit();
    let place = frame.as_mut_ptr();
    // SAFETY: a proxy runs on a thread, whose control block lives as long as it runs.
    let ThreadControl { top: previous, stack_limit, current: caller, .. } = unsafe { &*thread };
    let (previous, caller) = (*previous, *caller);
    if place.addr() < *stack_limit {
        return no_stack(core);
    }
    let callee = DomainId::from_bits(core.domain.load(Ordering::Acquire));
    // SAFETY: `place` is this function's own frame. Fields are written one by one so that `result` and the registers
    // are not touched.
    unsafe {
        (&raw mut (*place).continuation.previous).write(previous);
        (&raw mut (*place).continuation.caller).write(caller);
        (&raw mut (*place).continuation.status).write(Status::RETURNED);
        (&raw mut (*place).continuation.borrow_count).write(borrows.len() as u32);
        if !borrows.is_empty() {
            (&raw mut (*place).continuation.borrows).write(borrows.as_ptr());
        }
        (&raw mut (*place).continuation.core).write(core);
        (&raw mut (*place).callee).write(callee);
        (&raw mut (*place).arguments).write(ManuallyDrop::new(arguments));
        (&raw mut (*place).body).write(ManuallyDrop::new(body));
    }
    // A kill between the change of an object's owner and that of the thread's domain would lose the object or free
    // it twice; a call that moves nothing can be cut anywhere (C2, C3). `deliver` ends the section.
    if A::ROOTS {
        // SAFETY: pairs with the `leave` in `deliver`, or in `look_closer`.
        unsafe { enter() };
    }
    // SAFETY: `deliver` gets a frame whose fields it needs are written. The registers stored are those that the
    // System V ABI has a callee keep, so at label 2 they are right either way: kept by the call, or loaded by
    // `coppice_abi::crossing::resume`. The order of the stores is C2 and C3.
    let registers = unsafe {
        let (low, high);
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
            "mov [r12 + {top}], rdi",
            "mov [r12 + {current}], rsi",
            "cmp [rdx], rsi",
            "jne 3f",
            "mov eax, esi",
            "inc qword ptr gs:[rax * 8 + {calls}]",
            "cmp qword ptr [rip + {observer}], 0",
            "jne 4f",
            "5:",
            "call {deliver}",
            "mov [r12 + {current}], r13",
            "mov [r12 + {top}], r14",
            "2:",
            ".pushsection .text.coppice_crossing, \"ax\", @progbits",
            "3:",
            "mov [r12 + {current}], r13",
            "mov [r12 + {top}], r14",
            "or dword ptr [rdi + {status}], {refused}",
            "jmp 2b",
            // The stack is aligned to 16 bytes here, as for any call.
            "4:",
            "push rdi",
            "push rdi",
            "mov rdi, rsi",
            "call {observed}",
            "pop rdi",
            "pop rdi",
            "jmp 5b",
            ".popsection",
            deliver = sym deliver::<I, A, R, F>,
            observer = sym OBSERVER,
            observed = sym observed,
            rip = const offset_of!(Continuation, rip),
            rsp = const offset_of!(Continuation, rsp),
            rbx = const offset_of!(Continuation, rbx),
            rbp = const offset_of!(Continuation, rbp),
            r12 = const offset_of!(Continuation, r12),
            r13 = const offset_of!(Continuation, r13),
            r14 = const offset_of!(Continuation, r14),
            r15 = const offset_of!(Continuation, r15),
            status = const offset_of!(Continuation, status),
            refused = const Status::REFUSED,
            top = const offset_of!(ThreadControl, top),
            current = const offset_of!(ThreadControl, current),
            calls = const offset_of!(CpuBlock, calls),
            in("rdi") place,
            in("rsi") callee.to_bits(),
            in("rdx") core.alive,
            in("r12") thread,
            in("r13") caller.to_bits(),
            in("r14") previous,
            lateout("rax") low,
            lateout("rdx") high,
            clobber_abi("C"),
        );
        Registers(low, high)
    };
    // SAFETY: the frame is still ours; `status` was written above.
    let status = unsafe { (&raw const (*place).continuation.status).read() };
    if status != Status::RETURNED {
        if in_registers::<R>() {
            // SAFETY: the frame's own place, which nothing else uses for such a result.
            unsafe { (*place).result = registers.bytes() };
        }
        // SAFETY: the frame is as the crossing left it, but for that.
        return unsafe { look_closer(thread, &mut *place) };
    }
    if R::ROOTS {
        // SAFETY: pairs with the `enter` in `deliver`.
        unsafe { leave() };
    }
    if in_registers::<R>() {
        // SAFETY: `deliver` made them of a result.
        unsafe { registers.bytes().assume_init() }
    } else {
        // SAFETY: `deliver` wrote it.
        unsafe { (*place).result.assume_init_read() }
    }
}

/// A small result, in the two registers that the System V ABI returns: it need not go through memory, and the call of
/// the target can be the last thing that `deliver` does.
#[derive(Clone, Copy)]
#[repr(C)]
struct Registers(MaybeUninit<u64>, MaybeUninit<u64>);

/// Whether a result of `R` travels in [`Registers`].
const fn in_registers<R>() -> bool {
    size_of::<RpcResult<R>>() <= size_of::<Registers>()
        && align_of::<RpcResult<R>>() <= align_of::<Registers>()
}

#[repr(C)]
union RegistersOr<R> {
    registers: Registers,
    result: ManuallyDrop<MaybeUninit<RpcResult<R>>>,
}

impl Registers {
    const NONE: Self = Self(MaybeUninit::uninit(), MaybeUninit::uninit());

    #[inline(always)]
    fn of<R>(result: RpcResult<R>) -> Self {
        let mut both = RegistersOr { registers: Self::NONE };
        both.result = ManuallyDrop::new(MaybeUninit::new(result));
        // SAFETY: any bytes are a value of `Registers`.
        unsafe { both.registers }
    }

    /// What [`Self::of`] was given, if it was.
    #[inline(always)]
    fn bytes<R>(self) -> MaybeUninit<RpcResult<R>> {
        let both = RegistersOr { registers: self };
        // SAFETY: any bytes are a value of it.
        ManuallyDrop::into_inner(unsafe { both.result })
    }
}

/// The callee's side: what moves, the call itself, and what moves back. Answers with a small result; writes any other to
/// the frame.
///
/// # Safety
/// All fields of `frame` that [`call`] writes are written, and the thread is inside a live callee.
unsafe extern "C" fn deliver<I, A, R, F>(frame: *mut Frame<A, R, F>) -> Registers
where
    I: Interface + ?Sized,
    A: Shareable,
    R: Shareable,
    F: FnOnce(&I, A) -> RpcResult<R>,
{
    // SAFETY: `call` wrote it, and this is the only place that takes it.
    let arguments = unsafe { ManuallyDrop::take(&mut (*frame).arguments) };
    // SAFETY: as above.
    let body = unsafe { ManuallyDrop::take(&mut (*frame).body) };
    if A::ROOTS {
        // SAFETY: `call` wrote it.
        let callee = unsafe { (*frame).callee };
        // SAFETY: R3: the caller's, and a kill of it or of the callee waits for `leave`.
        arguments.for_each_root(&mut |root| unsafe { root.set_owner(callee) });
        // SAFETY: pairs with the `enter` in `call`.
        unsafe { leave() };
    }
    // SAFETY: `call` wrote it, and a core outlives the calls through it.
    let core = unsafe { &*(*frame).continuation.core };
    // SAFETY: the target belongs to a instance of the callee that is alive; if it dies from here on, this thread does not
    // come back to this code.
    let target = unsafe { *core.target.get() };
    // SAFETY: as above; the interface is the promise of `call`'s caller.
    let result = body(unsafe { &*I::from_raw(target) }, arguments);
    if R::ROOTS {
        // SAFETY: pairs with the `leave` in `call`, or with the one below.
        unsafe { enter() };
        // SAFETY: C4: it does not change inside the section.
        if unsafe { (*frame).continuation.status } & Status::CALLER_DIED != 0 {
            // The caller has died. The result is dropped as the callee's: were it the dead caller's for a moment, the
            // sweep that goes on meanwhile might find it too, and free it a second time.
            // SAFETY: pairs with the `enter` above.
            unsafe { leave() };
            drop(result);
            return Registers::NONE;
        }
        // SAFETY: `call` wrote it.
        let caller = unsafe { (*frame).continuation.caller };
        // SAFETY: R3: the callee's, and a kill of it or of the caller waits for `leave`.
        result.for_each_root(&mut |root| unsafe { root.set_owner(caller) });
    }
    if in_registers::<R>() {
        return Registers::of(result);
    }
    // SAFETY: the frame's own place.
    unsafe { (*frame).result.write(result) };
    Registers::NONE
}

/// Ends a crossing that may bring no result: the callee was not alive or died, or the caller did; or it took so long
/// that a watch tick has marked it.
///
/// # Safety
/// `thread` is the running one, and `frame` as [`call`]'s assembly left it; a small result is in its place there too.
#[cold]
#[inline(never)]
unsafe fn look_closer<A: Shareable, R: Shareable, F>(
    thread: *mut ThreadControl,
    frame: &mut Frame<A, R, F>,
) -> RpcResult<R> {
    let Continuation { status, error, .. } = frame.continuation;
    if status & Status::OUTCOME == Status::RETURNED {
        // A mark and nothing else.
        if R::ROOTS {
            // SAFETY: pairs with the `enter` in `deliver`.
            unsafe { leave() };
        }
        // SAFETY: the call has returned.
        return unsafe { frame.result.assume_init_read() };
    }
    if status & Status::FAILED != 0 {
        return Err(error);
    }
    if status & Status::CALLER_DIED != 0 {
        // (With arguments to move there was no kill before the callee was found dead: that is one section.)
        // SAFETY: C1: the continuation is `call`'s, and nothing below it is left to drop: `deliver` has seen to the
        // result, and arguments that were not moved are the dead caller's.
        unsafe { ((*thread).abandon)(&raw mut frame.continuation) }
    }
    if A::ROOTS {
        // SAFETY: pairs with `call`'s `enter`. If the caller dies now, this does not come back: `current` names it, and
        // the sweep takes what it owns.
        unsafe { leave() };
    }
    // What was to move is still the caller's, so this is an ordinary drop of its own.
    // SAFETY: `call` wrote it, and `deliver` has not run.
    unsafe { ManuallyDrop::drop(&mut frame.arguments) };
    // SAFETY: the truth: that instance of the domain is over.
    Err(unsafe { RpcError::new(frame.callee, CrashKind::NotRunning) })
}

#[cold]
#[inline(never)]
fn no_stack<R>(core: &ProxyCore) -> RpcResult<R> {
    let callee = DomainId::from_bits(core.domain.load(Ordering::Acquire));
    // SAFETY: the truth, as `call` has just found.
    Err(unsafe { RpcError::new(callee, CrashKind::NoStack) })
}

#[cold]
extern "C" fn observed(callee: DomainId) {
    let observer = OBSERVER.load(Ordering::Relaxed);
    if !observer.is_null() {
        // SAFETY: `observe` stores functions of this type or null.
        let observer = unsafe { core::mem::transmute::<*mut (), extern "C" fn(DomainId)>(observer) };
        observer(callee);
    }
}
