//! Samples of the time-stamp counter, and their figure.

use alloc::vec::Vec;

use coppice_experiment::Figure;

/// Sorted ticks.
pub(crate) struct Samples(Vec<u64>);

impl Samples {
    pub(crate) fn new(mut ticks: Vec<u64>) -> Self {
        ticks.sort_unstable();
        Self(ticks)
    }

    /// Returns the value that this share of all samples does not exceed.
    pub(crate) fn at(&self, share: f64) -> u64 {
        self.0[((self.0.len() - 1) as f64 * share) as usize]
    }

    /// Returns the figure that `cargo xtask bench` collects.
    pub(crate) fn figure(&self, id: &str) -> Figure {
        let [min, median, p99] = [0.0, 0.5, 0.99].map(|share| self.at(share) as f64);
        Figure::new(id, "tsc_cycles", self.0.len() as u64, median).with_spread(min, p99)
    }
}

/// Returns the figure of a fault that this machine cannot raise.
pub(crate) fn absent(id: &str) -> Figure {
    Figure::new(id, "tsc_cycles", 0, 0.0)
}
