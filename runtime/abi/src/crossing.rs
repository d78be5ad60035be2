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

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::offset_of;
use core::num::NonZeroU64;
use core::sync::atomic::AtomicU64;

use crate::{CrashKind, DomainId, RawObject, SLOT_LIMIT};

/// Bit of [`CpuBlock::critical`]: a trap has requested the checkpoint.
pub const PENDING: u32 = 1 << 31;

/// Per-CPU block, reached through `gs` at offsets that are compiled into proxies.
#[repr(C, align(64))]
pub struct CpuBlock {
    /// The thread that runs on this CPU.
    pub thread: *mut ThreadControl,
    /// Section depth, and [`PENDING`].
    pub critical: u32,
    /// This CPU's number.
    pub cpu: u32,
    /// Crossings into each domain slot, counted on this CPU.
    pub calls: [u64; SLOT_LIMIT],
}

/// The part of a thread that crossings touch.
#[repr(C)]
pub struct ThreadControl {
    /// Innermost continuation; null when no crossing is under way.
    pub top: *mut Continuation,
    /// The lowest stack pointer at which a crossing may begin. It lies between the two words that each
    /// crossing writes, so that the compiler does not read both at once: a wide load of two recent narrow
    /// stores waits for the cache (measured: 15 cycles a crossing).
    pub stack_limit: usize,
    /// The domain instance whose code runs.
    pub current: DomainId,
    /// The checkpoint that leaves the outermost section with [`PENDING`] set.
    pub checkpoint: extern "C" fn(),
    /// Continues a proxy whose caller died during the call at an earlier continuation.
    pub abandon: unsafe extern "C" fn(continuation: *mut Continuation) -> !,
    /// The instance whose panic handler this thread entered last, and the location of that panic. Owned by
    /// the handler; meaningless once that instance has ended, so nothing resets it.
    pub panicking: (DomainId, Option<&'static core::panic::Location<'static>>),
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
    pub rip: usize,
    /// Stack pointer at `rip`.
    pub rsp: usize,
    /// Callee-saved register.
    pub rbx: usize,
    /// Callee-saved register.
    pub rbp: usize,
    /// Callee-saved register.
    pub r15: usize,
    /// The next older continuation.
    pub previous: *mut Continuation,
    /// Outcome, in bits of [`Status`], and timestamp.
    pub status: u32,
    /// Number of entries in `borrows`.
    pub borrow_count: u32,
    /// The calling instance.
    pub caller: DomainId,
    /// The proxy that was called.
    pub core: *const ProxyCore,
    /// Values of the shared objects that the callee has borrowed for this call.
    pub borrows: *const *const u8,
    /// Valid when `status` has [`Status::FAILED`].
    pub error: RpcError,
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
#[repr(C)]
pub struct ProxyCore {
    /// The instance that the target belongs to. Written after `target` when a restart moves both.
    pub domain: AtomicU64,
    /// The current instance of that domain's slot, or [`DomainId::NONE`] bits while it has none. It lies in
    /// the kernel's domain table, which is never freed.
    pub alive: &'static AtomicU64,
    /// The object that receives the calls. Read only inside the instance that `domain` names; written only
    /// after that instance has ended and its threads have left.
    pub target: UnsafeCell<RawObject>,
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
