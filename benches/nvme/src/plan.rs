//! [`Plan`]: the figures and the time for each, from the options of the command line.

use alloc::vec::Vec;
use core::ops::Deref;

use coppice_bench_harness::{Bench, Budget};
use coppice_interfaces::Text;

use crate::load::{Mix, Workload};

/// The default of the option `seconds`: the time for all figures, apart from those of crashes.
pub(crate) const DEFAULT_SECONDS: u32 = 90;
const SIZES: [u32; 2] = [4096, 512];
const DEPTHS: [usize; 4] = [1, 8, 32, 128];
const BATCHES: [usize; 2] = [1, 32];

/// The selection of figures and their times, by the options of the benchmark, to which it dereferences.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a>(pub(crate) &'a Bench);

impl Deref for Plan<'_> {
    type Target = Bench;

    fn deref(&self) -> &Bench {
        self.0
    }
}

impl Plan<'_> {
    /// Returns the time for all figures of the null queues.
    pub(crate) fn null_seconds(&self) -> u32 {
        (self.seconds() / 15).max(1)
    }

    /// Returns the workloads for busy cycles: random reads at each depth and batch, and in a full run also
    /// writes and smaller requests.
    pub(crate) fn busy_workloads(&self) -> impl Iterator<Item = Workload> + use<> {
        let (is_short, more) = (self.counts_instructions, !self.is_quick && !self.counts_instructions);
        let kinds = [(4096, Mix::Read), (4096, Mix::Write), (512, Mix::Read)];
        let kinds = kinds.into_iter().take(if more { 3 } else { 1 });
        kinds.flat_map(move |(bytes, mix)| {
            let shapes = shapes().filter(move |&(depth, _)| !is_short || depth == 1 || depth == 32);
            shapes.map(move |(depth, batch)| Workload { bytes, is_random: true, mix, depth, batch })
        })
    }

    /// Returns the time for one of them on one configuration.
    pub(crate) fn busy_budget(&self) -> Budget {
        Budget::new((self.seconds() / 4).max(1), (self.busy_workloads().count() * 3) as u32)
    }

    /// Returns all combinations, or for a quick run random ones of 4 KiB.
    pub(crate) fn stream_workloads(&self) -> impl Iterator<Item = Workload> {
        let mut workloads = Vec::new();
        for bytes in SIZES {
            for is_random in [false, true] {
                for mix in [Mix::Read, Mix::Write, Mix::Mixed] {
                    let all = shapes().map(|(depth, batch)| Workload { bytes, is_random, mix, depth, batch });
                    let is_quick = bytes == SIZES[0] && is_random && mix != Mix::Mixed;
                    workloads.extend(all.filter(|_| is_quick || !self.is_quick));
                }
            }
        }
        workloads
            .into_iter()
            .filter(|workload| self.wants(&Text::<64>::format(format_args!("stream/{workload}/"))))
    }

    /// Returns the time for all of them on all configurations.
    pub(crate) fn stream_ns(&self) -> u64 {
        u64::from(self.seconds()) * 1_000_000_000 * 2 / 3
    }

    /// Returns the workloads during which the driver crashes.
    pub(crate) fn crash_workloads(&self) -> impl Iterator<Item = Workload> + use<> {
        let workload = |mix| Workload { bytes: 4096, is_random: true, mix, depth: 32, batch: 32 };
        [Mix::Read, Mix::Write].into_iter().map(workload)
    }
}

/// Returns each depth with each batch up to it: a call never submits more than the depth.
fn shapes() -> impl Iterator<Item = (usize, usize)> {
    DEPTHS.into_iter().flat_map(|depth| {
        let batches = BATCHES.into_iter().filter(move |&batch| batch == 1 || depth > 1);
        batches.map(move |batch| (depth, batch))
    })
}
