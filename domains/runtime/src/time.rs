//! Time.

use core::time::Duration;

use coppice_abi::services;

/// Time since boot.
pub fn now() -> Duration {
    Duration::from_nanos((services().now_ns)())
}

/// Lets others run until `time` has passed.
pub fn sleep(time: Duration) {
    sleep_until(now().saturating_add(time));
}

/// Lets others run until the clock passes `deadline`.
pub fn sleep_until(deadline: Duration) {
    (services().thread_sleep_until)(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
}

/// The time-stamp counter, for measuring. It counts at a constant rate, and under an instruction-counting emulator it
/// counts instructions.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: the fence and the counter are in every x86_64 CPU. The fence keeps the measured code on its side.
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
    // SAFETY: as above.
    unsafe { core::arch::x86_64::_rdtsc() }
}
