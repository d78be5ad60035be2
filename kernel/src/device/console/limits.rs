//! The rate of each domain's log records, and the number of those that were dropped.

use core::sync::atomic::{AtomicU64, Ordering};

use coppice_abi::SLOT_LIMIT;
use spin::Once;

use super::KERNEL;

const SECOND_NS: u64 = 1_000_000_000;

/// The pause between two reports of dropped records of one domain.
const REPORT_PAUSE_NS: u64 = SECOND_NS;

/// The limit and the counters of one domain.
pub(super) struct Limit {
    name: Once<&'static str>,
    /// Nanoseconds per record; 0 for no limit.
    interval_ns: AtomicU64,
    /// The time up to which the records so far use the rate.
    used_until_ns: AtomicU64,
    dropped: AtomicU64,
    reported: AtomicU64,
    report_after_ns: AtomicU64,
}

/// The limits, by slot.
static LIMITS: [Limit; SLOT_LIMIT] = [const { Limit::new() }; SLOT_LIMIT];

impl Limit {
    const fn new() -> Self {
        Self {
            name: Once::new(),
            interval_ns: AtomicU64::new(0),
            used_until_ns: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            reported: AtomicU64::new(0),
            report_after_ns: AtomicU64::new(0),
        }
    }

    fn set(&self, name: &'static str, per_second: Option<u32>) {
        self.name.call_once(|| name);
        let interval_ns = per_second.map_or(0, |rate| SECOND_NS / u64::from(rate.max(1)));
        self.interval_ns.store(interval_ns, Ordering::Relaxed);
    }

    /// Counts a record at `now_ns`. Returns false if it exceeds the rate: then it is not counted. As many
    /// records as the rate allows in a second are accepted at once.
    fn admit(&self, now_ns: u64) -> bool {
        let interval_ns = self.interval_ns.load(Ordering::Relaxed);
        if interval_ns == 0 {
            return true;
        }
        let use_rate = |until_ns: u64| {
            let until_ns = until_ns.max(now_ns) + interval_ns;
            (until_ns - now_ns <= SECOND_NS.max(interval_ns)).then_some(until_ns)
        };
        self.used_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, use_rate).is_ok()
    }

    /// Returns the number of records that were dropped since the last report, if it is time for another one.
    fn take_report(&self, now_ns: u64, is_last: bool) -> Option<u64> {
        let dropped = self.dropped.load(Ordering::Relaxed);
        let unreported = dropped - self.reported.load(Ordering::Relaxed);
        if unreported == 0 || (!is_last && now_ns < self.report_after_ns.load(Ordering::Relaxed)) {
            return None;
        }
        self.reported.store(dropped, Ordering::Relaxed);
        self.report_after_ns.store(now_ns + REPORT_PAUSE_NS, Ordering::Relaxed);
        Some(unreported)
    }
}

/// Sets the limit of the domain in `slot`.
pub(super) fn set(slot: usize, name: &'static str, per_second: Option<u32>) {
    LIMITS[slot].set(name, per_second);
}

/// Counts a record of `slot`. Returns false, and counts it as dropped, if it exceeds the rate.
pub(super) fn admit(slot: usize, now_ns: u64) -> bool {
    let admitted = LIMITS[slot].admit(now_ns);
    if !admitted {
        count_dropped(slot);
    }
    admitted
}

/// Counts a record of `slot` that was dropped.
pub(super) fn count_dropped(slot: usize) {
    LIMITS[slot].dropped.fetch_add(1, Ordering::Relaxed);
}

/// The number of records of `slot` that were dropped.
pub(super) fn dropped(slot: usize) -> u64 {
    LIMITS[slot].dropped.load(Ordering::Relaxed)
}

/// Takes the name of a domain with unreported drops, and their number; of one that was reported within the
/// last second only if this `is_last`.
pub(super) fn take_report(now_ns: u64, is_last: bool) -> Option<(&'static str, u64)> {
    let of_domain = |limit: &Limit| {
        let count = limit.take_report(now_ns, is_last)?;
        Some((*limit.name.get().unwrap_or(&KERNEL), count))
    };
    LIMITS.iter().find_map(of_domain)
}

/// The time of the next report; `u64::MAX` if no drops are unreported.
pub(super) fn next_report_ns() -> u64 {
    let is_pending =
        |limit: &&Limit| limit.dropped.load(Ordering::Relaxed) != limit.reported.load(Ordering::Relaxed);
    let times = LIMITS.iter().filter(is_pending).map(|limit| limit.report_after_ns.load(Ordering::Relaxed));
    times.min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(limit: &Limit, times_ns: impl Iterator<Item = u64>) -> usize {
        times_ns.filter(|&now_ns| limit.admit(now_ns)).count()
    }

    #[test]
    fn a_rate_allows_a_burst_of_one_second_and_its_records_per_second_afterwards() {
        let limit = Limit::new();
        limit.set("a", Some(100));
        let start = 7 * SECOND_NS;
        assert_eq!(admitted(&limit, (0..1000).map(|_| start)), 100);
        // A record each millisecond for ten seconds.
        assert_eq!(admitted(&limit, (1..=10_000).map(|ms| start + ms * 1_000_000)), 1000);
        assert_eq!(admitted(&limit, (0..1000).map(|_| 60 * SECOND_NS)), 100, "after a pause");
    }

    #[test]
    fn extreme_rates_are_kept() {
        let limit = Limit::new();
        assert_eq!(admitted(&limit, (0..5000).map(|_| 0)), 5000, "no limit");
        limit.set("a", Some(1));
        assert_eq!(admitted(&limit, (0..50).map(|tenth| tenth * SECOND_NS / 10)), 5);
        limit.set("a", Some(u32::MAX));
        assert_eq!(admitted(&limit, (0..5000).map(|_| 100 * SECOND_NS)), 5000);
    }

    #[test]
    fn drops_are_reported_once_and_at_most_once_a_second() {
        let limit = Limit::new();
        assert_eq!(limit.take_report(0, true), None);
        limit.dropped.store(5, Ordering::Relaxed);
        assert_eq!(limit.take_report(10, false), Some(5));
        limit.dropped.store(7, Ordering::Relaxed);
        assert_eq!(limit.take_report(20, false), None);
        assert_eq!(limit.take_report(20 + REPORT_PAUSE_NS, false), Some(2));
        limit.dropped.store(8, Ordering::Relaxed);
        assert_eq!(limit.take_report(30 + REPORT_PAUSE_NS, true), Some(1), "the last report");
    }
}
