//! [`IrqLock`]: a spin lock for what handlers and ordinary code share.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::interrupts;

/// A spin lock whose holder has interrupts off, so that no handler of the same CPU finds it held. Whoever waits
/// for it has interrupts as they were, so a CPU that waits still answers TLB shootdowns.
///
/// # Invariants
/// - **L1** `value` is accessed only by whoever changed `held` from false to true, until it changes it back.
pub(crate) struct IrqLock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: L1 lets one CPU at a time at the value, which is what `T: Send` allows.
unsafe impl<T: Send> Sync for IrqLock<T> {}

impl<T> IrqLock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `f` on the value, with interrupts off.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with_patience(u64::MAX, f)
    }

    /// As [`Self::with`], but after `spins` attempts takes the value from its holder. For the last words of a
    /// kernel that is about to end: the holder may be the very code that panicked.
    pub(crate) fn with_patience<R>(&self, spins: u64, f: impl FnOnce(&mut T) -> R) -> R {
        let were_on = interrupts::are_enabled();
        let mut spins_left = spins;
        loop {
            interrupts::disable();
            if !self.held.swap(true, Ordering::Acquire) || spins_left == 0 {
                break;
            }
            spins_left -= 1;
            if were_on {
                interrupts::enable();
            }
            spin_loop();
        }
        // SAFETY: L1: this CPU has just taken the lock. (With its patience at an end it breaks L1 knowingly; the
        // only such caller prints on a port and never returns.)
        let result = f(unsafe { &mut *self.value.get() });
        self.held.store(false, Ordering::Release);
        if were_on {
            interrupts::enable();
        }
        result
    }
}
