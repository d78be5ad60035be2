//! [`Histogram`]: the distribution of a set of times.

use alloc::vec::Vec;

/// Each power of two has two to this many buckets, so a bucket's middle is less than 1 % from all its values.
const BITS: u32 = 6;
/// Times from two to this on count as the longest: 18 minutes in nanoseconds.
const LONGEST: u32 = 40;
const BUCKETS: usize = ((LONGEST - BITS + 1) as usize) << BITS;

/// Counts of times in logarithmic buckets.
pub struct Histogram {
    counts: Vec<u32>,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Returns an empty histogram.
    pub fn new() -> Self {
        Self { counts: alloc::vec![0; BUCKETS] }
    }

    /// Counts a time.
    pub fn record(&mut self, ns: u64) {
        self.counts[index(ns)] += 1;
    }

    /// Returns the number of times.
    pub fn len(&self) -> u64 {
        self.counts.iter().map(|&count| u64::from(count)).sum()
    }

    /// Returns true if no time was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }

    /// Returns the quantile `share` to the width of a bucket; 0 if the histogram is empty.
    pub fn at(&self, share: f64) -> u64 {
        let wanted = (self.len().saturating_sub(1) as f64 * share) as u64;
        let mut before = 0;
        self.counts()
            .find_map(|(ns, count)| {
                before += u64::from(count);
                (before > wanted).then_some(ns)
            })
            .unwrap_or(0)
    }

    /// Returns the middle of each bucket that is not empty with its count.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u32)> {
        let full = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        full.map(|(index, &count)| (middle(index), count))
    }
}

fn index(ns: u64) -> usize {
    let ns = ns.min((1 << LONGEST) - 1);
    // Below two to `BITS` each number has its own bucket.
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(BITS + 1);
    ((shift as usize) << BITS) + (ns >> shift) as usize
}

fn middle(index: usize) -> u64 {
    let shift = (index >> BITS).saturating_sub(1);
    let first = ((index - (shift << BITS)) as u64) << shift;
    first + (1 << shift) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buckets_middle_is_within_one_percent_of_all_its_times() {
        for ns in
            (0..2_000).chain((0..34).flat_map(|power| [1000 << power, (1003 << power) - 1, 999 << power]))
        {
            let ns: u64 = ns.min((1 << LONGEST) - 1);
            let error = middle(index(ns)).abs_diff(ns);
            assert!(error * 100 <= ns, "{ns} counts as {}", middle(index(ns)));
        }
    }

    #[test]
    fn longer_times_have_the_same_or_a_later_bucket() {
        let mut last = 0;
        for power in 0..64 {
            for ns in [1 << power, (1_u64 << power) + (1 << power) / 3] {
                assert!(index(ns) >= last && index(ns) < BUCKETS, "{ns}");
                last = index(ns);
            }
        }
        assert_eq!(index(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn recorded_times_are_counted() {
        let mut histogram = Histogram::new();
        [5, 5, 1_000_000].into_iter().for_each(|ns| histogram.record(ns));
        assert_eq!(histogram.counts().map(|(_, count)| count).collect::<Vec<_>>(), [2, 1]);
        assert!(histogram.counts().all(|(ns, _)| ns == 5 || ns.abs_diff(1_000_000) <= 10_000));
    }

    #[test]
    fn quantiles_match_the_recorded_times() {
        let mut histogram = Histogram::new();
        assert_eq!((histogram.at(0.5), histogram.is_empty()), (0, true));
        (1..=50).for_each(|ns| histogram.record(ns));
        assert_eq!(
            (histogram.at(0.0), histogram.at(0.5), histogram.at(1.0), histogram.len()),
            (1, 25, 50, 50)
        );
    }
}
