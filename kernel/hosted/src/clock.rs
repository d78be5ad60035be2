//! Time: the time-stamp counter, scaled to the host's clock.

use std::arch::x86_64::_rdtsc;
use std::time::{Duration, Instant};

/// Duration of the comparison with the host's clock at the start.
const CALIBRATION: Duration = Duration::from_millis(10);

/// The clock since boot.
pub(crate) struct Clock {
    start: u64,
    hz: u64,
    /// Nanoseconds per tick, times 2^32.
    scale: u64,
}

impl Clock {
    pub(crate) fn new() -> Self {
        let (began, start) = (Instant::now(), tsc());
        let mut elapsed = began.elapsed();
        while elapsed < CALIBRATION {
            std::hint::spin_loop();
            elapsed = began.elapsed();
        }
        let ticks = u128::from(tsc() - start);
        let hz = (ticks * 1_000_000_000 / elapsed.as_nanos()) as u64;
        Self { start, hz, scale: ((1_000_000_000_u128 << 32) / u128::from(hz)) as u64 }
    }

    pub(crate) fn now_ns(&self) -> u64 {
        // Counters of two CPUs may differ by a few ticks: a time before the start counts as the start.
        let ticks = tsc().saturating_sub(self.start);
        ((u128::from(ticks) * u128::from(self.scale)) >> 32) as u64
    }

    pub(crate) fn hz(&self) -> u64 {
        self.hz
    }
}

fn tsc() -> u64 {
    // SAFETY: every x86_64 CPU has it.
    unsafe { _rdtsc() }
}
