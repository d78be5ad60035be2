//! [`AdaptiveSpin`]: the time for which spinning pays before a driver sleeps.

/// A spin time that follows how long recent completions took. While completions arrive quickly, the driver
/// spins for about twice their mean time. When they do not, it sleeps at once, and the times that it then
/// measures (its wake-up included) show when spinning pays again.
#[derive(Debug)]
pub struct AdaptiveSpin {
    /// The running mean of wait times; the last wait has a weight of one eighth.
    recent_ns: u64,
    limit_ns: u64,
}

impl AdaptiveSpin {
    /// Creates a spin time of at most `limit_ns`.
    pub fn new(limit_ns: u64) -> Self {
        Self { recent_ns: limit_ns / 2, limit_ns }
    }

    /// Returns the time to spin in the next wait.
    pub fn spin_ns(&self) -> u64 {
        if self.recent_ns <= self.limit_ns { (2 * self.recent_ns).min(self.limit_ns) } else { 0 }
    }

    /// Records that a wait took `waited_ns`.
    pub fn record(&mut self, waited_ns: u64) {
        // Without the cap, one wait of a second would end spinning for hundreds of later short waits.
        let waited_ns = waited_ns.min(4 * self.limit_ns);
        self.recent_ns = (7 * self.recent_ns + waited_ns) / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_time_follows_short_waits_up_to_the_limit() {
        let mut spin = AdaptiveSpin::new(20_000);
        for _ in 0..100 {
            spin.record(3_000);
        }
        assert!((3_000..=6_000).contains(&spin.spin_ns()), "{spin:?}");
        for _ in 0..100 {
            spin.record(15_000);
        }
        assert_eq!(spin.spin_ns(), 20_000);
    }

    #[test]
    fn long_waits_end_spinning_and_short_ones_resume_it() {
        let mut spin = AdaptiveSpin::new(20_000);
        for _ in 0..20 {
            spin.record(5_000_000_000);
        }
        assert_eq!(spin.spin_ns(), 0);
        for _ in 0..20 {
            spin.record(8_000);
        }
        assert!(spin.spin_ns() > 0);
        assert_eq!(AdaptiveSpin::new(0).spin_ns(), 0);
    }
}
