//! [`ResetBudget`]: the number of faults after which a driver gives its device up.

/// The time without a fault after which earlier faults no longer count.
const FORGIVE_AFTER_NS: u64 = 10_000_000_000;

/// A counter of device faults, each of which a reset has repaired.
#[derive(Clone, Copy, Default, Debug)]
pub struct ResetBudget {
    count: u32,
    last_ns: u64,
}

impl ResetBudget {
    /// Creates a budget with no fault recorded.
    pub const fn new() -> Self {
        Self { count: 0, last_ns: 0 }
    }

    /// Records a fault and returns the number of recent faults, this one included.
    pub fn record_fault(&mut self, now_ns: u64) -> u32 {
        if now_ns.saturating_sub(self.last_ns) > FORGIVE_AFTER_NS {
            self.count = 0;
        }
        *self = Self { count: self.count + 1, last_ns: now_ns };
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_forgiven_after_a_long_time_without_one() {
        let mut budget = ResetBudget::new();
        assert_eq!((budget.record_fault(1), budget.record_fault(2)), (1, 2));
        assert_eq!(budget.record_fault(2 + FORGIVE_AFTER_NS), 3);
        assert_eq!(budget.record_fault(3 + 2 * FORGIVE_AFTER_NS), 1);
    }
}
