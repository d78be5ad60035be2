//! State shared by cross-domain calls and the kernel: the running domain of each thread and its
//! continuations.
//!
//! # Kernel sections
//! Each CPU counts its nesting depth in code that must not be interrupted ([`CpuBlock::critical`]). A trap
//! that finds the count above zero only sets a bit in the same word ([`PENDING`]); the code that brings the
//! count back to zero sees the bit and goes to the kernel's *checkpoint*, where preemption, termination and
//! wake-ups happen. A trap that finds the count at zero diverts the interrupted code to the same checkpoint.
//! So outside a section a thread can be stopped, moved or ended between any two instructions, and inside one
//! it cannot.
//!
//! Only single instructions of its own CPU change the word, so it needs no lock prefix.
//!
//! # Continuations
//! Invariants, kept by [`Continuation`]'s users in `interfaces::crossing` and by the kernel:
//! - **C1** A thread's continuations form a stack through `previous`, `ThreadControl::top` first. Each lies
//!   in the frame of a proxy that is on the thread's stack.
//! - **C2** A continuation's registers are complete before it becomes `top`, and it is `top` before
//!   `ThreadControl::current` names the callee.
//! - **C3** On the way back `current` names the caller before the continuation stops being `top`. So whenever
//!   `current` names a domain that was entered by a crossing, a complete continuation for it is on the stack.
//! - **C4** The kernel writes `status` only while the thread is stopped: with the world, in its CPU's own
//!   checkpoint, or under the lock that keeps it off its CPU. So `status` does not change inside one of the
//!   thread's own sections.
//!
//! # Timestamps
//! A proxy writes the whole of `status` for each call, so its upper bits always belong to this call: the time
//! of the watch tick that first saw it ([`Status::TIMESTAMP_SHIFT`]). Deadlines need no more than that from a
//! crossing, and a call that no tick sees pays nothing for it.

#![expect(
    clippy::multiple_unsafe_ops_per_block,
    reason = "a continuation in a frame is reached through a raw pointer, and each of its fields would count"
)]

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{CrashKind, DomainId, RawObject, SLOT_LIMIT};

/// Bit of [`CpuBlock::critical`]: a trap has requested the checkpoint.
pub const PENDING: u32 = 1 << 31;

/// Per-CPU block, reached through `gs` at offsets that are compiled into proxies.
///
/// Only the kernel makes one. Its own code reaches the fields by the offsets, which are constants here.
#[repr(C, align(64))]
pub struct CpuBlock {
    /// The thread that runs on this CPU.
    thread: *mut ThreadControl,
    /// Section depth, and [`PENDING`].
    critical: u32,
    /// This CPU's number.
    cpu: u32,
    /// Crossings into each domain slot, counted on this CPU.
    calls: [u64; SLOT_LIMIT],
}

impl CpuBlock {
    /// Offset of the running thread's address.
    pub const THREAD: usize = offset_of!(Self, thread);
    /// Offset of the section depth, 32 bits.
    pub const CRITICAL: usize = offset_of!(Self, critical);
    /// Offset of the CPU's number, 32 bits.
    pub const CPU: usize = offset_of!(Self, cpu);
    /// Offset of the call counters, 64 bits for each slot.
    pub const CALLS: usize = offset_of!(Self, calls);

    /// Makes the block of CPU number `cpu`, which runs `thread` inside `critical` sections.
    ///
    /// # Safety
    /// `thread` is the block of a thread that lives as long as it runs there, or null on a CPU that makes no
    /// crossing before the kernel gives it another block.
    pub const unsafe fn new(thread: *mut ThreadControl, critical: u32, cpu: u32) -> Self {
        Self { thread, critical, cpu, calls: [0; SLOT_LIMIT] }
    }

    /// Returns the address of the word with the running thread.
    ///
    /// # Safety
    /// `block` is a live block.
    pub const unsafe fn thread_word(block: *mut Self) -> *mut *mut ThreadControl {
        // SAFETY: the caller's promise.
        unsafe { &raw mut (*block).thread }
    }

    /// Returns the address of the word with the section depth and [`PENDING`].
    ///
    /// # Safety
    /// `block` is a live block.
    pub const unsafe fn critical_word(block: *mut Self) -> *mut u32 {
        // SAFETY: the caller's promise.
        unsafe { &raw mut (*block).critical }
    }

    /// Returns the address of the counter of crossings into `slot`.
    ///
    /// # Safety
    /// `block` is a live block.
    ///
    /// # Panics
    /// When there is no such slot.
    pub const unsafe fn call_counter(block: *const Self, slot: usize) -> *const u64 {
        // SAFETY: the caller's promise; an index out of bounds panics.
        unsafe { &raw const (*block).calls[slot] }
    }
}

/// The part of a thread that crossings touch.
#[repr(C)]
pub struct ThreadControl {
    /// Innermost continuation; null when no crossing is under way.
    top: *mut Continuation,
    /// The lowest stack pointer at which a crossing may begin. It lies between the two words that each
    /// crossing writes, so that the compiler does not read both at once: a wide load of two recent narrow
    /// stores waits for the cache (measured: 15 cycles a crossing).
    stack_limit: usize,
    /// The domain instance whose code runs.
    current: DomainId,
    /// The checkpoint that leaves the outermost section with [`PENDING`] set.
    checkpoint: extern "C" fn(),
    /// Continues a proxy whose caller died during the call at an earlier continuation.
    abandon: Abandon,
    /// The instance whose panic handler this thread entered last, and the location of that panic. Owned by
    /// the handler; meaningless once that instance has ended, so nothing resets it.
    panicking: Panicking,
}

/// Continues a proxy whose caller died during the call at an earlier continuation.
pub type Abandon = unsafe extern "C" fn(continuation: *mut Continuation) -> !;

/// An instance, and the location of a panic in it.
pub type Panicking = (DomainId, Option<&'static core::panic::Location<'static>>);

impl ThreadControl {
    /// Offset of the innermost continuation's address.
    pub const TOP: usize = offset_of!(Self, top);
    /// Offset of the lowest stack pointer at which a crossing may begin.
    pub const STACK_LIMIT: usize = offset_of!(Self, stack_limit);
    /// Offset of the instance whose code runs.
    pub const CURRENT: usize = offset_of!(Self, current);

    /// Makes the block of a thread that begins in the kernel.
    ///
    /// # Safety
    /// `stack_limit` leaves room on the thread's stack for a callee. The functions are the kernel's.
    pub const unsafe fn new(stack_limit: usize, checkpoint: extern "C" fn(), abandon: Abandon) -> Self {
        Self {
            top: core::ptr::null_mut(),
            stack_limit,
            current: DomainId::KERNEL,
            checkpoint,
            abandon,
            panicking: (DomainId::NONE, None),
        }
    }

    /// The innermost continuation; null when no crossing is under way.
    #[inline(always)]
    pub const fn top(&self) -> *mut Continuation {
        self.top
    }

    /// The lowest stack pointer at which a crossing may begin.
    #[inline(always)]
    pub const fn stack_limit(&self) -> usize {
        self.stack_limit
    }

    /// The domain instance whose code runs.
    #[inline(always)]
    pub const fn current(&self) -> DomainId {
        self.current
    }

    /// Returns to the caller of `continuation`, which becomes the current instance.
    ///
    /// # Safety
    /// `continuation` is one of this thread's, and the thread resumes there next (C3).
    pub const unsafe fn return_to(&mut self, continuation: &Continuation) {
        self.current = continuation.caller;
        self.top = continuation.previous;
    }

    /// Continues at an earlier continuation than `continuation`, whose caller has died.
    ///
    /// # Safety
    /// `thread` is the running one, and `continuation` its innermost (C1). Nothing below it is left to drop.
    pub unsafe fn abandon(thread: *const Self, continuation: *mut Continuation) -> ! {
        // SAFETY: the running thread's block is alive.
        let abandon = unsafe { (*thread).abandon };
        // SAFETY: the caller's promise.
        unsafe { abandon(continuation) }
    }

    /// The instance whose panic handler this thread entered last, and the location of that panic.
    ///
    /// # Safety
    /// `thread` is the running one, and its panic handler is the caller.
    pub unsafe fn panicking<'a>(thread: *mut Self) -> &'a mut Panicking {
        // SAFETY: the handler is the only user of the field, on its own thread.
        unsafe { &mut (*thread).panicking }
    }
}

/// Bits of [`Continuation::status`]. A type of its own only to hold the constants.
pub struct Status;

impl Status {
    /// The callee returned, and its caller is alive.
    pub const RETURNED: u32 = 0;
    /// The callee died before it returned; `Continuation::error` has the instance and the reason. Written by
    /// the kernel.
    pub const FAILED: u32 = 1;
    /// The caller died during the call. When the callee returns, the thread continues at an earlier
    /// continuation. Written by the kernel.
    pub const CALLER_DIED: u32 = 2;
    /// The callee was not alive. Set by the proxy.
    pub const REFUSED: u32 = 4;
    /// Mask of all outcome bits. The bits above it are the timestamp.
    pub const OUTCOME: u32 = (1 << Self::TIMESTAMP_SHIFT) - 1;
    /// Lowest bit of the timestamp: the watch tick that first saw the call under way; 0 until then. Written
    /// by the kernel.
    pub const TIMESTAMP_SHIFT: u32 = 8;
}

/// Saved state of a caller, to which its thread returns if the callee dies.
///
/// The registers are those that the System V ABI has a callee preserve; all others are dead across a call.
/// Three of these are not stored, because a proxy has values in them that are known anyway: the thread's
/// control block (r12), the caller (r13) and the previous continuation (r14).
#[repr(C)]
pub struct Continuation {
    /// Resume address, in a proxy.
    rip: usize,
    /// Stack pointer at `rip`.
    rsp: usize,
    /// Callee-saved register.
    rbx: usize,
    /// Callee-saved register.
    rbp: usize,
    /// Callee-saved register.
    r15: usize,
    /// The next older continuation.
    previous: *mut Continuation,
    /// Outcome, in bits of [`Status`], and timestamp.
    status: u32,
    /// Number of entries in `borrows`.
    borrow_count: u32,
    /// The calling instance.
    caller: DomainId,
    /// The proxy that was called.
    core: *const ProxyCore,
    /// Values of the shared objects that the callee has borrowed for this call.
    borrows: *const *const u8,
    /// Valid when `status` has [`Status::FAILED`].
    error: RpcError,
}

impl Continuation {
    /// Offset of the resume address.
    pub const RIP: usize = offset_of!(Self, rip);
    /// Offset of the stack pointer.
    pub const RSP: usize = offset_of!(Self, rsp);
    /// Offset of a callee-saved register.
    pub const RBX: usize = offset_of!(Self, rbx);
    /// Offset of a callee-saved register.
    pub const RBP: usize = offset_of!(Self, rbp);
    /// Offset of a callee-saved register.
    pub const R15: usize = offset_of!(Self, r15);
    /// Offset of the status word, 32 bits.
    pub const STATUS: usize = offset_of!(Self, status);

    /// Writes all fields of a new continuation but the registers and the error.
    ///
    /// # Safety
    /// `place` is in the calling proxy's frame. `previous` is the thread's innermost continuation, `caller`
    /// its current instance, and `core` the proxy's. The values of `borrows` are live shared objects.
    #[inline(always)]
    pub unsafe fn begin(
        place: *mut Self,
        previous: *mut Self,
        caller: DomainId,
        borrows: &[*const u8],
        core: *const ProxyCore,
    ) {
        // SAFETY: the caller's own memory. Field by field, so that the registers are not touched.
        unsafe {
            (&raw mut (*place).previous).write(previous);
            (&raw mut (*place).caller).write(caller);
            (&raw mut (*place).status).write(Status::RETURNED);
            (&raw mut (*place).borrow_count).write(borrows.len() as u32);
            if !borrows.is_empty() {
                (&raw mut (*place).borrows).write(borrows.as_ptr());
            }
            (&raw mut (*place).core).write(core);
        }
    }

    /// Reads the status of a continuation in a frame.
    ///
    /// # Safety
    /// [`Self::begin`] wrote it.
    #[inline(always)]
    pub const unsafe fn status_of(place: *const Self) -> u32 {
        // SAFETY: the caller's promise.
        unsafe { (&raw const (*place).status).read() }
    }

    /// Reads the calling instance of a continuation in a frame.
    ///
    /// # Safety
    /// [`Self::begin`] wrote it.
    #[inline(always)]
    pub const unsafe fn caller_of(place: *const Self) -> DomainId {
        // SAFETY: the caller's promise.
        unsafe { (&raw const (*place).caller).read() }
    }

    /// Reads the proxy of a continuation in a frame.
    ///
    /// # Safety
    /// [`Self::begin`] wrote it.
    #[inline(always)]
    pub const unsafe fn core_of(place: *const Self) -> *const ProxyCore {
        // SAFETY: the caller's promise.
        unsafe { (&raw const (*place).core).read() }
    }

    /// The stack pointer of the proxy that waits here.
    pub const fn stack_pointer(&self) -> usize {
        self.rsp
    }

    /// The next older continuation.
    pub const fn previous(&self) -> *mut Self {
        self.previous
    }

    /// The outcome, in bits of [`Status`], and the timestamp.
    pub const fn status(&self) -> u32 {
        self.status
    }

    /// Adds bits to the status.
    ///
    /// # Safety
    /// C4, and what the bits say is true.
    pub const unsafe fn mark(&mut self, bits: u32) {
        self.status |= bits;
    }

    /// Marks the call as failed with `error`.
    ///
    /// # Safety
    /// C4, and the thread continues here next.
    pub const unsafe fn fail(&mut self, error: RpcError) {
        self.error = error;
        self.status |= Status::FAILED;
    }

    /// The error of a call that has [`Status::FAILED`].
    #[inline(always)]
    pub const fn error(&self) -> RpcError {
        self.error
    }

    /// The calling instance.
    pub const fn caller(&self) -> DomainId {
        self.caller
    }

    /// The proxy that was called.
    pub const fn core(&self) -> *const ProxyCore {
        self.core
    }

    /// The values of the shared objects that the callee has borrowed: their first address, and their number.
    pub const fn borrows(&self) -> (*const *const u8, usize) {
        (self.borrows, self.borrow_count as usize)
    }

    /// Makes a continuation that no thread resumes, for tests of code that reads one.
    ///
    /// # Safety
    /// It becomes no thread's innermost one.
    pub const unsafe fn unused(caller: DomainId, error: RpcError) -> Self {
        Self {
            rip: 0,
            rsp: 0,
            rbx: 0,
            rbp: 0,
            r15: 0,
            previous: core::ptr::null_mut(),
            status: Status::RETURNED,
            borrow_count: 0,
            caller,
            core: core::ptr::null(),
            borrows: core::ptr::null(),
            error,
        }
    }
}

/// The reason why a call did not return.
///
/// Only trusted code can make one, so a domain can neither forge its own death nor replay another's. It is
/// one word, so that `Result<u64, RpcError>` travels in two registers: generation, kind, slot, from the top.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct RpcError(NonZeroU64);

impl RpcError {
    /// Returns an error that reports that `domain` ended because of `kind`.
    ///
    /// # Safety
    /// The report is true. (Domains cannot call this: they forbid unsafe code.)
    pub const unsafe fn new(domain: DomainId, kind: CrashKind) -> Self {
        const { assert!(SLOT_LIMIT <= 1 << 16) };
        let slot = domain.slot() as u64 & 0xffff;
        let bits = ((domain.generation() as u64) << 32) | ((kind as u64) << 16) | slot;
        Self(NonZeroU64::new(bits).expect("slot 0 names no domain, so it cannot die"))
    }

    /// The domain instance that failed.
    pub fn domain(&self) -> DomainId {
        DomainId::new(self.0.get() as u32 & 0xffff, (self.0.get() >> 32) as u32)
    }

    /// The cause of its end.
    pub fn kind(&self) -> CrashKind {
        CrashKind::from_number((self.0.get() >> 16) as u16)
    }
}

impl core::fmt::Debug for RpcError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} did not answer: {:?}", self.domain(), self.kind())
    }
}

impl core::fmt::Display for RpcError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for RpcError {}

/// The part of a proxy that is the same for all interfaces.
///
/// A call through it is a virtual call on two words, so only trusted code makes one.
#[repr(C)]
pub struct ProxyCore {
    /// The instance that the target belongs to. Written after `target` when a restart moves both.
    domain: AtomicU64,
    /// The current instance of that domain's slot, or [`DomainId::NONE`] bits while it has none. It lies in
    /// the kernel's domain table, which is never freed.
    alive: &'static AtomicU64,
    /// The object that receives the calls. Read only inside the instance that `domain` names; written only
    /// after that instance has ended and its threads have left.
    target: UnsafeCell<RawObject>,
}

impl ProxyCore {
    /// Makes the core of a proxy to `target`, an object of `instance`.
    ///
    /// # Safety
    /// `alive` is the word of the instance's slot in the kernel's domain table. `target` is an object of the
    /// interface whose proxy this becomes, in `instance`; or nothing is called through the proxy.
    pub const unsafe fn new(instance: DomainId, alive: &'static AtomicU64, target: RawObject) -> Self {
        Self { domain: AtomicU64::new(instance.to_bits()), alive, target: UnsafeCell::new(target) }
    }

    /// The instance that the target belongs to.
    #[inline(always)]
    pub fn instance(&self) -> DomainId {
        DomainId::from_bits(self.domain.load(Ordering::Acquire))
    }

    /// Returns true while the instance is alive. Orders no other access.
    #[inline(always)]
    pub fn is_open(&self) -> bool {
        self.domain.load(Ordering::Relaxed) == self.alive.load(Ordering::Relaxed)
    }

    /// The current instance of the target's slot, or [`DomainId::NONE`].
    #[inline(always)]
    pub fn living(&self) -> DomainId {
        DomainId::from_bits(self.alive.load(Ordering::SeqCst))
    }

    /// The address of the word that [`Self::living`] reads, for the crossing's assembly.
    #[inline(always)]
    pub const fn alive_word(&self) -> *const AtomicU64 {
        core::ptr::from_ref(self.alive)
    }

    /// The object that receives the calls.
    ///
    /// # Safety
    /// No other code changes it during the call: the caller is inside the instance, or holds the lock under
    /// which it changes.
    #[inline(always)]
    pub const unsafe fn target(&self) -> RawObject {
        // SAFETY: the caller's promise.
        unsafe { *self.target.get() }
    }

    /// Moves the proxy on to `target`, an object of the same interface in `instance`.
    ///
    /// # Safety
    /// The instance that the proxy named has ended, and its threads have left. No other code changes it.
    pub unsafe fn follow(&self, instance: DomainId, target: RawObject) {
        // SAFETY: no call reads the target any more. A call that read the old instance and resumes only now
        // finds it dead, and does not read the target.
        unsafe { *self.target.get() = target };
        // A reader of the new instance (Acquire) reads its target too.
        self.domain.store(instance.to_bits(), Ordering::Release);
    }
}

// SAFETY: the raw words are an object of an interface, which is `Send`.
unsafe impl Send for ProxyCore {}
// SAFETY: by its contract `target` is written only when no thread can be reading it.
unsafe impl Sync for ProxyCore {}

/// Returns the running thread's control block.
#[inline(always)]
pub fn thread() -> *mut ThreadControl {
    let thread;
    // SAFETY: `gs` points to the CPU's block from the moment that the CPU runs threads (kernel::cpu), and the
    // result is the same on every CPU that this thread may move to, hence `pure`.
    unsafe {
        asm!("mov {}, gs:[{offset}]", out(reg) thread, offset = const offset_of!(CpuBlock, thread),
            options(pure, nomem, nostack, preserves_flags));
    }
    thread
}

/// Begins a kernel section on this CPU.
///
/// # Safety
/// Pairs with a [`leave`] on the same thread after a short time: until then nothing can end the thread.
#[inline(always)]
pub unsafe fn enter() {
    // SAFETY: one instruction on this CPU's own word. No `nomem`: the effects of the section stay inside it.
    unsafe {
        asm!("inc dword ptr gs:[{offset}]", offset = const offset_of!(CpuBlock, critical), options(nostack));
    }
}

/// Ends a kernel section. Runs the checkpoint if a trap requested it during the section.
///
/// # Safety
/// Pairs with an [`enter`] on the same thread.
#[inline(always)]
pub unsafe fn leave() {
    // SAFETY: as `enter`; the label is reached only when the word is not zero afterwards.
    unsafe {
        asm!("dec dword ptr gs:[{offset}]", "jnz {more}", offset = const offset_of!(CpuBlock, critical),
            more = label { still_inside_or_pending() }, options(nostack));
    }
}

#[cold]
#[inline(never)]
fn still_inside_or_pending() {
    let word: u32;
    // SAFETY: reads this CPU's own word.
    unsafe {
        asm!("mov {:e}, gs:[{offset}]", out(reg) word, offset = const offset_of!(CpuBlock, critical),
            options(nostack, preserves_flags, readonly));
    }
    if word == PENDING {
        // SAFETY: `thread` is this thread's block, which is valid as long as the thread runs.
        let checkpoint = unsafe { (*thread()).checkpoint };
        checkpoint();
    }
}

/// Resumes at `continuation`, on its stack. All frames below that one are abandoned.
///
/// # Safety
/// `continuation` is complete (C2) and on the running thread's stack, and no frame below it has anything to
/// drop.
pub unsafe fn resume(continuation: *const Continuation) -> ! {
    // SAFETY: by the caller's promise the registers are those of a proxy that waits in
    // `interfaces::crossing`.
    unsafe {
        asm!(
            "mov rbx, [rdi + {rbx}]",
            "mov rbp, [rdi + {rbp}]",
            "mov r12, gs:[{thread}]",
            "mov r13, [rdi + {caller}]",
            "mov r14, [rdi + {previous}]",
            "mov r15, [rdi + {r15}]",
            "mov rsp, [rdi + {rsp}]",
            "jmp [rdi + {rip}]",
            in("rdi") continuation,
            rbx = const offset_of!(Continuation, rbx),
            rbp = const offset_of!(Continuation, rbp),
            thread = const offset_of!(CpuBlock, thread),
            caller = const offset_of!(Continuation, caller),
            previous = const offset_of!(Continuation, previous),
            r15 = const offset_of!(Continuation, r15),
            rsp = const offset_of!(Continuation, rsp),
            rip = const offset_of!(Continuation, rip),
            options(noreturn),
        )
    }
}
