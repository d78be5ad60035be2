//! [`Patience`]: for how long it pays to spin before sleeping.

/// Follows how long completions have taken of late. While they come soon, whoever waits spins for about as long; when they
/// don't, it sleeps at once, and what it then measures (its wake-up included) says when spinning pays again.
#[derive(Debug)]
pub struct Patience {
    /// Mean, with the last wait counted by an eighth.
    recent_ns: u64,
    limit_ns: u64,
}

impl Patience {
    /// Never spins for longer than `limit_ns`.
    pub fn new(limit_ns: u64) -> Self {
        Self { recent_ns: limit_ns / 2, limit_ns }
    }

    /// How long to spin now.
    pub fn spin_ns(&self) -> u64 {
        if self.recent_ns <= self.limit_ns { (2 * self.recent_ns).min(self.limit_ns) } else { 0 }
    }

    /// A wait took that long.
    pub fn record(&mut self, waited_ns: u64) {
        // A wait of a second is one bad wait and not the end of spinning for hundreds of good ones.
        let waited_ns = waited_ns.min(4 * self.limit_ns);
        self.recent_ns = (7 * self.recent_ns + waited_ns) / 8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_spins_while_waits_are_short_and_never_for_longer_than_it_may() {
        let mut patience = Patience::new(20_000);
        for _ in 0..100 {
            patience.record(3_000);
        }
        assert!((3_000..=6_000).contains(&patience.spin_ns()), "{patience:?}");
        for _ in 0..100 {
            patience.record(15_000);
        }
        assert_eq!(patience.spin_ns(), 20_000);
    }

    #[test]
    fn it_sleeps_at_once_when_waits_are_long_and_learns_again() {
        let mut patience = Patience::new(20_000);
        for _ in 0..20 {
            patience.record(5_000_000_000);
        }
        assert_eq!(patience.spin_ns(), 0);
        for _ in 0..20 {
            patience.record(8_000);
        }
        assert!(patience.spin_ns() > 0);
        assert_eq!(Patience::new(0).spin_ns(), 0);
    }
}
