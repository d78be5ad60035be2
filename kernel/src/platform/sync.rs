//! [`Section`] and [`Lock`]: mutual exclusion of kernel code.

use core::marker::PhantomData;
use core::panic::Location;

use coppice_abi::crossing::{self, CpuBlock, PENDING};

use crate::platform::latency;
use crate::platform::machine::machine;

/// A kernel section that ends when this value is dropped (see [`coppice_abi::crossing`]).
pub struct Section {
    /// [`latency`] times it.
    is_timed: bool,
    /// A section belongs to the thread that runs on this CPU.
    not_send: PhantomData<*mut ()>,
}

impl Section {
    /// Begins a section.
    #[inline(always)]
    #[track_caller]
    pub fn enter() -> Self {
        // SAFETY: pairs with the `leave` of `Drop`, on the same thread because the type is not `Send`.
        unsafe { crossing::enter() };
        let section = Self { is_timed: true, not_send: PhantomData };
        if section.is_outermost() {
            latency::begin_section(Location::caller());
        }
        section
    }

    /// Has the section timed from here on, because it takes longer than most of its kind.
    #[track_caller]
    pub(crate) fn begin_timing(&mut self) {
        if !self.is_timed {
            self.is_timed = true;
            if self.is_outermost() {
                latency::begin_section(Location::caller());
            }
        }
    }

    /// As [`Self::enter`], for sections that are so short that to time them would cost more than they do: no
    /// loop, no lock that is ever held for long, no call of other code.
    #[inline(always)]
    pub(crate) fn enter_short() -> Self {
        // SAFETY: as in `enter`.
        unsafe { crossing::enter() };
        Self { is_timed: false, not_send: PhantomData }
    }
}

impl Section {
    /// Takes over the running thread's section from a guard that was forgotten.
    ///
    /// # Safety
    /// The thread is in a section that nothing else ends.
    #[inline(always)]
    pub(crate) unsafe fn take_over() -> Self {
        Self { is_timed: true, not_send: PhantomData }
    }

    /// Returns true if the thread leaves the kernel when this section ends.
    #[inline(always)]
    pub fn is_outermost(&self) -> bool {
        let depth: u32;
        // SAFETY: reads this CPU's own word; the section keeps the thread on it.
        unsafe {
            core::arch::asm!("mov {:e}, gs:[{offset}]", out(reg) depth, offset = const CpuBlock::CRITICAL,
                options(nostack, preserves_flags, readonly));
        }
        depth & !PENDING == 1
    }
}

impl Drop for Section {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_timed && self.is_outermost() {
            latency::end_section();
        }
        // SAFETY: pairs with `enter`; the type is not `Send`, so this is the same thread.
        unsafe { crossing::leave() };
    }
}

/// Runs `body` outside the caller's section, which is the outermost one, and enters a section again.
#[track_caller]
pub(crate) fn outside_section<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: the caller's section ends here; the one that begins below takes its place.
    drop(unsafe { Section::take_over() });
    let result = body();
    core::mem::forget(Section::enter());
    result
}

/// Returns true if a checkpoint was requested on this CPU and the caller is in its outermost section.
#[inline]
pub(crate) fn is_checkpoint_requested() -> bool {
    let word: u32;
    // SAFETY: reads this CPU's own word; the section keeps the thread on it.
    unsafe {
        core::arch::asm!("mov {:e}, gs:[{offset}]", out(reg) word, offset = const CpuBlock::CRITICAL,
            options(nostack, preserves_flags, readonly));
    }
    word == PENDING | 1
}

/// Requests a checkpoint on this CPU for the end of the present section.
pub(crate) fn request_checkpoint() {
    // SAFETY: one instruction on this CPU's own word (the rule of coppice_abi::crossing).
    unsafe {
        core::arch::asm!("or dword ptr gs:[{offset}], {pending}", offset = const CpuBlock::CRITICAL,
            pending = const PENDING, options(nostack));
    }
}

/// A spin lock. It is taken inside a section only, so its holder always runs.
///
/// Order, outermost first: the world ([`crate::sched::world`]); a domain's fields; the thread table; a wait
/// bucket; the deferred work; a CPU's timers; a CPU's run queue; the watchdog's suspects; the kernel's calls;
/// the shared heap's classes, then its spans; a domain's account; frames; the console.
pub struct Lock<T>(spin::mutex::SpinMutex<T, Relax>);

/// A held [`Lock`].
pub type Guard<'a, T> = spin::mutex::SpinMutexGuard<'a, T, Relax>;

/// Spins as the machine provides.
pub struct Relax;

impl spin::RelaxStrategy for Relax {
    fn relax() {
        machine().relax();
    }
}

impl<T> Lock<T> {
    /// An unlocked lock.
    pub const fn new(value: T) -> Self {
        Self(spin::mutex::SpinMutex::new(value))
    }

    /// Takes the lock; spins while it is held.
    #[inline(always)]
    pub fn lock(&self) -> Guard<'_, T> {
        self.0.lock()
    }

    /// Takes the lock if it is free.
    pub fn try_lock(&self) -> Option<Guard<'_, T>> {
        self.0.try_lock()
    }

    /// Unlocks a lock whose guard was forgotten: the run queue's, across a switch.
    ///
    /// # Safety
    /// The calling CPU holds it.
    pub unsafe fn force_unlock(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.0.force_unlock() };
    }
}

/// Data of one CPU, accessed by its own kernel sections only.
pub struct PerCpu<T>(core::cell::UnsafeCell<T>);

// SAFETY: by contract only its own CPU accesses the content, inside a section.
unsafe impl<T: Send> Sync for PerCpu<T> {}

impl<T> PerCpu<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    /// Returns the content.
    ///
    /// # Safety
    /// The caller runs on the CPU that the data belongs to, inside a section that outlives the returned
    /// reference, or no CPU but the caller's runs; and no other reference to the content is in use.
    #[allow(clippy::mut_from_ref, reason = "exclusive by the contract: one CPU, one section, one reference")]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: the caller's promise.
        unsafe { &mut *self.0.get() }
    }
}
