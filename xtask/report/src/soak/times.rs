//! [`Times`]: counts of times in the soak's buckets, which are exact within 1 %.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::measurement::Measurement;

/// Counts by time in nanoseconds.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Times {
    counts: BTreeMap<u64, u64>,
}

/// Some percentiles, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Percentiles {
    /// The number of times.
    pub n: u64,
    /// The smallest time.
    pub min: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    /// The largest time.
    pub max: u64,
}

impl Times {
    /// Adds the counts of one line.
    pub fn add(&mut self, counts: &[(u64, u64)]) {
        for &(ns, count) in counts {
            *self.counts.entry(ns).or_default() += count;
        }
    }

    /// The sum of all `parts`.
    pub fn all<'a>(parts: impl Iterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for part in parts {
            part.counts.iter().for_each(|(&ns, &count)| all.add(&[(ns, count)]));
        }
        all
    }

    /// The number of times.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// The time that the fraction `share` of all times does not exceed.
    fn at(&self, share: f64) -> u64 {
        let rank = ((self.total() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let found = self.counts.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map_or(0, |(&ns, _)| ns)
    }

    /// Returns `None` if there are no times.
    pub fn percentiles(&self) -> Option<Percentiles> {
        let (&min, _) = self.counts.first_key_value()?;
        let (&max, _) = self.counts.last_key_value()?;
        let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|share| self.at(share));
        Some(Percentiles { n: self.total(), min, p50, p90, p99, p999, max })
    }

    /// The figure of these times for a report.
    pub fn figure(&self, id: &str) -> Option<Measurement> {
        let Percentiles { n, min, p50, p90, p99, p999, max } = self.percentiles()?;
        let rest = [("p90", p90), ("p999", p999), ("max", max)];
        Some(Measurement {
            id: id.to_owned(),
            unit: "ns".to_owned(),
            n,
            median: p50 as f64,
            p99: Some(p99 as f64),
            min: Some(min as f64),
            rest: rest.map(|(name, ns)| (name.to_owned(), ns.into())).into_iter().collect(),
        })
    }

    /// Fractions of all times by coarser buckets, `per_octave` to each power of two: bucket `b` begins at
    /// 2^(b / `per_octave`) ns.
    pub fn shares(&self, per_octave: u32) -> BTreeMap<i64, f64> {
        let mut shares = BTreeMap::new();
        let all = self.total() as f64;
        for (&ns, &count) in &self.counts {
            let bucket = ((ns.max(1) as f64).log2() * f64::from(per_octave)).floor() as i64;
            *shares.entry(bucket).or_default() += count as f64 / all;
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_all_parts() {
        let mut parts = [Times::default(), Times::default()];
        parts[0].add(&[(100, 49), (200, 1)]);
        parts[1].add(&[(200, 48), (9000, 2)]);
        let all = Times::all(parts.iter());
        let expected = Percentiles { n: 100, min: 100, p50: 200, p90: 200, p99: 9000, p999: 9000, max: 9000 };
        assert_eq!(all.percentiles(), Some(expected));
        assert_eq!(parts[0].percentiles().map(|percentiles| percentiles.p50), Some(100));
        assert_eq!(Times::default().percentiles(), None);
    }

    #[test]
    fn shares_add_up() {
        let mut times = Times::default();
        times.add(&[(1000, 1), (1010, 1), (4000, 2)]);
        let shares = times.shares(4);
        assert_eq!(shares.len(), 2);
        assert!((shares.values().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}
