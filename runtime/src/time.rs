//! The clock, sleep, and the time options of manifests.

use core::time::Duration;

use coppice_abi::services;

/// Returns the time since boot.
pub fn now() -> Duration {
    Duration::from_nanos((services().now_ns)())
}

/// Blocks until `time` has passed.
pub fn sleep(time: Duration) {
    sleep_until(now().saturating_add(time));
}

/// Blocks until the clock passes `deadline`.
pub fn sleep_until(deadline: Duration) {
    (services().thread_sleep_until)(u64::try_from(deadline.as_nanos()).unwrap_or(u64::MAX));
}

/// Parses a time as manifests and options write it: a whole number and, without a space, `us`, `ms` or `s`.
pub fn parse(text: &str) -> Option<Duration> {
    let digits = text.find(|character: char| !character.is_ascii_digit())?;
    let number = text[..digits].parse().ok()?;
    match &text[digits..] {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

/// Reads the time-stamp counter, for measuring. It counts at a constant rate; under an instruction-counting
/// emulator it counts instructions.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: every x86_64 CPU has the fence and the counter. The fence keeps the measured code on its side.
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
    // SAFETY: as above.
    unsafe { core::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_number_and_a_unit() {
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(parse("20us"), Some(Duration::from_micros(20)));
        assert_eq!(parse("3s"), Some(Duration::from_secs(3)));
        for bad in ["", "500", "ms", "-1s", "1h", "1.5s", "99999999999999999999s"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
