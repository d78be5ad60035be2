//! Samples of the time-stamp counter, and their output line.

use alloc::vec::Vec;

use coppice_interfaces::Text;

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

    /// Returns the line that `cargo xtask bench` collects, with `more` at its end.
    pub(crate) fn line(&self, id: &str, more: &str) -> Text<256> {
        let (n, min, median, p99) = (self.0.len(), self.at(0.0), self.at(0.5), self.at(0.99));
        Text::format(format_args!(
            "@bench {{\"id\": \"{id}\", \"unit\": \"tsc_cycles\", \"n\": {n}, \"min\": {min}, \"median\": {median}, \
             \"p99\": {p99}{more}}}"
        ))
    }
}

/// Returns the line of a fault that this machine cannot raise.
pub(crate) fn absent(id: &str) -> Text<256> {
    Text::format(format_args!(
        "@bench {{\"id\": \"{id}\", \"unit\": \"tsc_cycles\", \"n\": 0, \"median\": 0}}"
    ))
}
