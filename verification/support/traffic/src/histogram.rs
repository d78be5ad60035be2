//! [`Histogram`]: the distribution of times in a fixed number of counters.

use crate::Latency;

/// The number of counters for each power of two, so the resolution is one eighth.
const STEPS: usize = 8;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Each number below `2 * STEPS` has a counter of its own.
const COUNTERS: usize = (64 - STEP_BITS as usize) * STEPS + STEPS;

/// Counts numbers by their size, without allocation: one increment each.
#[derive(Clone, Debug)]
pub struct Histogram {
    counters: [u64; COUNTERS],
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

impl Histogram {
    /// Returns an empty histogram.
    pub const fn new() -> Self {
        Self { counters: [0; COUNTERS], count: 0, max: 0 }
    }

    /// Counts a number.
    #[inline]
    pub fn add(&mut self, number: u64) {
        self.counters[index(number)] += 1;
        self.count += 1;
        self.max = self.max.max(number);
    }

    /// Adds all counts of another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.counters.iter_mut().zip(&other.counters).for_each(|(mine, theirs)| *mine += theirs);
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Returns the count of numbers.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the largest number; 0 if the histogram is empty.
    pub const fn max(&self) -> u64 {
        self.max
    }

    /// Returns a bound that at least `times` out of `of` numbers do not exceed, at most an eighth above the
    /// least such bound; 0 if the histogram is empty.
    pub fn quantile(&self, times: u64, of: u64) -> u64 {
        let wanted = (u128::from(self.count) * u128::from(times)).div_ceil(u128::from(of.max(1))).max(1);
        let mut seen = 0;
        for (index, counter) in self.counters.iter().enumerate() {
            seen += u128::from(*counter);
            if seen >= wanted {
                return upper(index).min(self.max);
            }
        }
        self.max
    }

    /// Clears all counts.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// Returns the quantiles for a report.
    pub fn latency(&self) -> Latency {
        Latency {
            p50_ns: self.quantile(1, 2),
            p99_ns: self.quantile(99, 100),
            p999_ns: self.quantile(999, 1000),
            max_ns: self.max,
        }
    }
}

#[inline]
fn index(number: u64) -> usize {
    // The position of the highest bit selects the group, the bits below it the counter.
    let shift = (63 - (number | STEPS as u64).leading_zeros()) - STEP_BITS;
    shift as usize * STEPS + (number >> shift) as usize
}

/// Returns the largest number of that counter.
fn upper(index: usize) -> u64 {
    if index < 2 * STEPS {
        return index as u64;
    }
    let shift = index / STEPS - 1;
    let leading = (index % STEPS + STEPS) as u128;
    (((leading + 1) << shift) - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_has_a_counter_within_an_eighth() {
        let mut last = 0;
        for bits in 0..64 {
            for number in [1u64 << bits, (1 << bits) + (1 << bits) / 3, (1 << bits) - 1 + (1 << bits)] {
                let place = index(number);
                assert!(place < COUNTERS && place >= last);
                last = place;
                let bound = upper(place);
                assert!(bound >= number && bound - number <= number / STEPS as u64, "{number}: {bound}");
            }
        }
        assert_eq!(index(0), 0);
    }

    #[test]
    fn quantiles_match_the_counted_numbers() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile(1, 2), 0);
        (1..=1000).for_each(|number| histogram.add(number));
        let Latency { p50_ns, p99_ns, p999_ns, max_ns } = histogram.latency();
        assert!((500..=563).contains(&p50_ns), "{p50_ns}");
        assert!((990..=1000).contains(&p99_ns) && (999..=1000).contains(&p999_ns) && max_ns == 1000);
        let mut both = Histogram::new();
        both.add(7);
        both.merge(&histogram);
        assert_eq!((both.count(), both.max(), both.quantile(1, 1001)), (1001, 1000, 1));
    }
}
