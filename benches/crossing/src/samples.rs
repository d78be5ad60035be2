//! Samples of the time-stamp counter, and what they come to.

use alloc::vec::Vec;

use coppice_interfaces::Text;
use coppice_runtime::time::tsc;

/// Calls in a batch.
const BATCH: u32 = 200;
/// Batches in a figure.
const BATCHES: u32 = 5000;
/// Batches before the first one that counts.
const WARM_UP: u32 = 50;

/// Sorted cycles per call.
pub(crate) struct Samples {
    cycles: Vec<f64>,
    n: u32,
}

impl Samples {
    /// Means of batches of `call`.
    pub(crate) fn of_batches(mut call: impl FnMut()) -> Self {
        let mut batch = || {
            let start = tsc();
            for _ in 0..BATCH {
                call();
            }
            (tsc() - start) as f64 / f64::from(BATCH)
        };
        for _ in 0..WARM_UP {
            batch();
        }
        Self::sorted((0..BATCHES).map(|_| batch()).collect(), BATCHES * BATCH)
    }

    /// Single calls, for what takes long.
    pub(crate) fn one_by_one(count: u32, mut call: impl FnMut()) -> Self {
        let mut once = || {
            let start = tsc();
            call();
            (tsc() - start) as f64
        };
        once();
        Self::sorted((0..count).map(|_| once()).collect(), count)
    }

    fn sorted(mut cycles: Vec<f64>, n: u32) -> Self {
        cycles.sort_by(f64::total_cmp);
        Self { cycles, n }
    }

    /// As if each call had been several of what is measured.
    pub(crate) fn divided_by(mut self, parts: f64) -> Self {
        self.cycles.iter_mut().for_each(|cycles| *cycles /= parts);
        self
    }

    fn at(&self, share: f64) -> f64 {
        self.cycles[((self.cycles.len() - 1) as f64 * share) as usize]
    }

    /// The line that `cargo xtask bench` collects.
    pub(crate) fn line(&self, id: &str) -> Text<256> {
        let (min, median, p99) = (self.at(0.0), self.at(0.5), self.at(0.99));
        Text::format(format_args!(
            "@bench {{\"id\": \"{id}\", \"unit\": \"tsc_cycles\", \"n\": {}, \"min\": {min:.1}, \
             \"median\": {median:.1}, \"p99\": {p99:.1}}}",
            self.n
        ))
    }
}
