//! [`IrqLock`]: a spin lock for data that interrupt handlers and ordinary code share.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, Ordering};

use coppice_kernel::InterruptsOff;
use crossbeam_utils::Backoff;
use x86_64::instructions::interrupts;

use crate::cpu;

/// A spin lock whose holder has interrupts off, so that no handler of the same CPU finds it held. A waiting
/// CPU keeps its interrupt state, so it still handles TLB shootdowns.
///
/// # Invariants
/// - **L1** Only the CPU that changed `held` from false to true accesses `value`, until it changes it back.
pub(crate) struct IrqLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: L1 admits one CPU at a time to the value, which `T: Send` allows.
unsafe impl<T: Send> Sync for IrqLock<T> {}

impl<T> IrqLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `f` on the value, with interrupts off.
    #[track_caller]
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with_attempt_limit(u64::MAX, f)
    }

    /// Runs `f` like [`Self::with`], but takes the value from its holder after `attempts` attempts. For the
    /// last output of a kernel that is about to end: the holder may be the code that panicked.
    #[track_caller]
    pub(crate) fn with_attempt_limit<R>(&self, attempts: u64, f: impl FnOnce(&mut T) -> R) -> R {
        let were_on = interrupts::are_enabled();
        let mut attempts_left = attempts;
        let backoff = Backoff::new();
        loop {
            interrupts::disable();
            if !self.held.swap(true, Ordering::Acquire) || attempts_left == 0 {
                break;
            }
            attempts_left -= 1;
            if were_on {
                interrupts::enable();
            }
            backoff.spin();
        }
        let time = if were_on && cpu::is_attached() { Some(InterruptsOff::begin()) } else { None };
        // SAFETY: L1: this CPU has just taken the lock. (After the last attempt it breaks L1 knowingly; the
        // only such caller prints on a port and never returns.)
        let result = f(unsafe { &mut *self.value.get() });
        self.held.store(false, Ordering::Release);
        drop(time);
        if were_on {
            interrupts::enable();
        }
        result
    }
}
