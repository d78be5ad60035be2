//! The crossing: a call into another domain and back, with the callee's result or with an error.
//!
//! The steps run on the caller's stack with interrupts on:
//!
//! 1. check that there is stack for the callee;
//! 2. write a continuation;
//! 3. check that the callee is alive;
//! 4. pass ownership of the arguments;
//! 5. make the callee the thread's current domain;
//! 6. call the target;
//! 7. undo all of it in reverse order.
//!
//! There is no lock, no atomic read-modify-write and no allocation; a termination does the work that this
//! leaves out (coppice_abi::crossing, docs/architecture.md).
//!
//! The continuation is a part of the proxy's stack frame. One piece of assembly stores the callee-saved
//! registers, sets the current domain, calls [`deliver`], and resets the current domain. After a crash the
//! kernel loads those registers again and jumps behind the assembly. For the compiler it is one call that
//! returns once; nothing here returns twice, as `setjmp` would. The values that both ways out need are in
//! registers: through memory, each crossing would wait for the stores of the previous one.

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

/// The function that is called with the callee before each crossing: the trace ring while tracing is on, else
/// null.
static OBSERVER: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Sets the function to call at each crossing; `None` removes it.
///
/// # Safety
/// The function is part of this image, and returns after a short time. It neither crosses nor allocates.
pub unsafe fn observe(observer: Option<extern "C" fn(DomainId)>) {
    OBSERVER.store(observer.map_or(ptr::null_mut(), |function| function as *mut ()), Ordering::Relaxed);
}

/// A crossing in progress, in its proxy's stack frame.
#[repr(C)]
struct Frame<A, R, F> {
    /// First, so that one register holds the address of both.
    continuation: Continuation,
    /// Second, at the same offset for all types. Written only if the callee is found dead.
    callee: DomainId,
    arguments: ManuallyDrop<A>,
    body: ManuallyDrop<F>,
    result: MaybeUninit<RpcResult<R>>,
}

/// Calls `body` with the object behind `core`, inside its domain.
///
/// `arguments` move to the callee and its result moves back. `borrows` are the values of shared objects that
/// the callee reads during the call.
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
    // SAFETY: a proxy runs on a thread, whose control block exists as long as it runs.
    let control = unsafe { &*thread };
    let (previous, caller) = (control.top(), control.current());
    if place.addr() < control.stack_limit() {
        return no_stack(core);
    }
    // SAFETY: `place` is this function's own frame. Fields are written one by one so that `result` and the
    // registers are not touched.
    unsafe {
        Continuation::begin(&raw mut (*place).continuation, previous, caller, borrows, core);
        (&raw mut (*place).arguments).write(ManuallyDrop::new(arguments));
        (&raw mut (*place).body).write(ManuallyDrop::new(body));
    }
    // A kill between the change of an object's owner and that of the thread's domain would lose the object or
    // free it twice; a call that moves nothing can be interrupted anywhere (C2, C3). `deliver` ends the
    // section.
    if A::ROOTS {
        // SAFETY: pairs with the `leave` in `deliver`, or in `finish_abnormal`.
        unsafe { enter() };
    }
    const { assert!(offset_of!(Frame<A, R, F>, callee) == size_of::<Continuation>()) };
    // Read last, because the register that it goes to holds an argument of the proxy until here.
    let callee = core.instance();
    // SAFETY: the fields of the frame that `deliver` reads are written. At label 2 the callee-saved registers
    // of the System V ABI are right on both ways: preserved by the call, or loaded by
    // `coppice_abi::crossing::resume`, which knows the values of r12 to r14. The order of the stores is C2
    // and C3.
    let registers = unsafe {
        let (low, high);
        asm!(
            "lea rax, [rip + 2f]",
            "mov [rdi + {rip}], rax",
            "mov [rdi + {rsp}], rsp",
            "mov [rdi + {rbx}], rbx",
            "mov [rdi + {rbp}], rbp",
            "mov [rdi + {r15}], r15",
            "mov [r12 + {top}], rdi",
            "mov [r12 + {current}], rsi",
            "cmp [rdx], rsi",
            "jne 3f",
            // The slot is the lower half of the id.
            "inc qword ptr gs:[esi * 8 + {calls}]",
            "cmp qword ptr [rip + {observer}], 0",
            "jne 4f",
            "5:",
            "call {deliver}",
            "mov [r12 + {current}], r13",
            "mov [r12 + {top}], r14",
            "2:",
            ".pushsection .text.coppice_crossing, \"ax\", @progbits",
            "3:",
            "mov [rdi + {callee}], rsi",
            "mov [r12 + {current}], r13",
            "mov [r12 + {top}], r14",
            "or dword ptr [rdi + {status}], {refused}",
            "jmp 2b",
            // The stack is aligned to 16 bytes here, as for any call.
            "4:",
            "push rdi",
            "push rsi",
            "mov rdi, rsi",
            "call {observed}",
            "pop rsi",
            "pop rdi",
            "jmp 5b",
            ".popsection",
            deliver = sym deliver::<I, A, R, F>,
            observer = sym OBSERVER,
            observed = sym observed,
            rip = const Continuation::RIP,
            rsp = const Continuation::RSP,
            rbx = const Continuation::RBX,
            rbp = const Continuation::RBP,
            r15 = const Continuation::R15,
            status = const Continuation::STATUS,
            refused = const Status::REFUSED,
            top = const ThreadControl::TOP,
            current = const ThreadControl::CURRENT,
            calls = const CpuBlock::CALLS,
            callee = const size_of::<Continuation>(),
            in("rdi") place,
            in("rsi") callee.to_bits(),
            in("rdx") core.alive_word(),
            in("r12") thread,
            in("r13") caller.to_bits(),
            in("r14") previous,
            lateout("rax") low,
            lateout("rdx") high,
            clobber_abi("C"),
        );
        Registers(low, high)
    };
    // SAFETY: the frame is this function's own; `status` was written above.
    let status = unsafe { Continuation::status_of(&raw const (*place).continuation) };
    if status != Status::RETURNED {
        if in_registers::<R>() {
            // SAFETY: the frame's own field, which nothing else uses for a result that travels in registers.
            unsafe { (*place).result = registers.bytes() };
        }
        // SAFETY: the frame is as the assembly left it, except for `result`.
        return unsafe { finish_abnormal(thread, &mut *place) };
    }
    if R::ROOTS {
        // SAFETY: pairs with the `enter` in `deliver`.
        unsafe { leave() };
    }
    if in_registers::<R>() {
        // SAFETY: `deliver` made the registers from a result.
        unsafe { registers.bytes().assume_init() }
    } else {
        // SAFETY: `deliver` wrote the result.
        unsafe { (*place).result.assume_init_read() }
    }
}

/// A small result, in the two registers in which the System V ABI returns values. It need not go through
/// memory, and `deliver` can end with the call of the target.
#[derive(Clone, Copy)]
#[repr(C)]
struct Registers(MaybeUninit<u64>, MaybeUninit<u64>);

/// Returns true if a result of `R` travels in [`Registers`].
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

    /// The argument of [`Self::of`]; uninitialized if the registers were not made by it.
    #[inline(always)]
    fn bytes<R>(self) -> MaybeUninit<RpcResult<R>> {
        let both = RegistersOr { registers: self };
        // SAFETY: any bytes are a value of `MaybeUninit`.
        ManuallyDrop::into_inner(unsafe { both.result })
    }
}

/// The callee's side: takes ownership of the arguments, calls the target, and passes ownership of the result.
/// Returns a small result; writes any other to the frame.
///
/// # Safety
/// All fields of `frame` that [`call`] writes are written, and the thread is inside `callee`, which is alive.
unsafe extern "C" fn deliver<I, A, R, F>(frame: *mut Frame<A, R, F>, callee: DomainId) -> Registers
where
    I: Interface + ?Sized,
    A: Shareable,
    R: Shareable,
    F: FnOnce(&I, A) -> RpcResult<R>,
{
    // SAFETY: `call` wrote the arguments, and nothing else takes them.
    let arguments = unsafe { ManuallyDrop::take(&mut (*frame).arguments) };
    // SAFETY: as above, for the body.
    let body = unsafe { ManuallyDrop::take(&mut (*frame).body) };
    if A::ROOTS {
        // SAFETY: R3: the caller owns the roots, and a kill of it or of the callee waits for `leave`.
        arguments.for_each_root(&mut |root| unsafe { root.pass_to(callee) });
        // SAFETY: pairs with the `enter` in `call`.
        unsafe { leave() };
    }
    // SAFETY: `call` wrote the field, and a core outlives the calls through it.
    let core = unsafe { &*Continuation::core_of(&raw const (*frame).continuation) };
    // SAFETY: the target belongs to a live instance of the callee; if it dies from here on, this thread does
    // not come back to this code.
    let target = unsafe { core.target() };
    // SAFETY: the caller of `call` vouches for the interface.
    let target = unsafe { I::from_raw(target) };
    // SAFETY: as above.
    let result = body(unsafe { &*target }, arguments);
    if R::ROOTS {
        // SAFETY: pairs with the `leave` in `call`, or with the one below.
        unsafe { enter() };
        // SAFETY: C4: the status does not change inside the section.
        if unsafe { Continuation::status_of(&raw const (*frame).continuation) } & Status::CALLER_DIED != 0 {
            // The caller has died. The result is dropped as the callee's: if the dead caller owned it for a
            // moment, a concurrent sweep might find it too and free it a second time. SAFETY: pairs with the
            // `enter` above.
            unsafe { leave() };
            drop(result);
            return Registers::NONE;
        }
        // SAFETY: `call` wrote the field.
        let caller = unsafe { Continuation::caller_of(&raw const (*frame).continuation) };
        // SAFETY: R3: the callee owns the roots, and a kill of it or of the caller waits for `leave`.
        result.for_each_root(&mut |root| unsafe { root.pass_to(caller) });
    }
    if in_registers::<R>() {
        return Registers::of(result);
    }
    // SAFETY: the frame's own field, which nothing reads until `deliver` returns.
    unsafe { (*frame).result.write(result) };
    Registers::NONE
}

/// Ends a crossing that may have no result: the callee was not alive or died, the
/// caller died, or a watchdog tick has marked the call because of its duration.
///
/// # Safety
/// `thread` is the running one, and `frame` is as [`call`]'s assembly left it, with a small result copied to
/// `result`.
#[cold]
#[inline(never)]
unsafe fn finish_abnormal<A: Shareable, R: Shareable, F>(
    thread: *mut ThreadControl,
    frame: &mut Frame<A, R, F>,
) -> RpcResult<R> {
    let status = frame.continuation.status();
    if status & Status::OUTCOME == Status::RETURNED {
        // A watchdog mark and nothing else.
        if R::ROOTS {
            // SAFETY: pairs with the `enter` in `deliver`.
            unsafe { leave() };
        }
        // SAFETY: the call has returned.
        return unsafe { frame.result.assume_init_read() };
    }
    if status & Status::FAILED != 0 {
        return Err(frame.continuation.error());
    }
    if status & Status::CALLER_DIED != 0 {
        // With arguments to move, no kill took effect before the callee was found dead: that is one section.
        // SAFETY: C1: the continuation is `call`'s, and nothing below it is left to drop: `deliver` has
        // dropped the result, and arguments that were not moved belong to the dead caller.
        unsafe { ThreadControl::abandon(thread, &raw mut frame.continuation) }
    }
    if A::ROOTS {
        // SAFETY: pairs with `call`'s `enter`. If the caller dies now, `leave` does not return: `current`
        // names the caller, and the sweep takes its objects.
        unsafe { leave() };
    }
    // The caller still owns the arguments, so it drops objects of its own.
    // SAFETY: `call` wrote the arguments, and `deliver` has not run.
    unsafe { ManuallyDrop::drop(&mut frame.arguments) };
    // SAFETY: the error is true: that instance of the domain has ended.
    Err(unsafe { RpcError::new(frame.callee, CrashKind::NotRunning) })
}

#[cold]
#[inline(never)]
fn no_stack<R>(core: &ProxyCore) -> RpcResult<R> {
    let callee = core.instance();
    // SAFETY: the error is true: `call` has just checked the stack.
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
