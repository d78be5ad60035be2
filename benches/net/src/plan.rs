//! [`Plan`]: the figures and the time for each, from the options of the command line.

use alloc::vec::Vec;
use core::ops::Deref;

use coppice_bench_harness::{Bench, Budget};
use coppice_interfaces::Text;

use crate::load::{Load, Way};

/// The default of the option `seconds`: the time for all figures, apart from those of crashes.
pub(crate) const DEFAULT_SECONDS: u32 = 120;
/// Frame sizes in bytes, without FCS. The shortest frame on a wire is 60 bytes; 64 is the same size by the
/// convention that includes the FCS.
const SIZES: [usize; 7] = [60, 64, 128, 256, 512, 1024, 1514];
const BATCHES: [usize; 4] = [1, 8, 32, 256];
/// The size used where one size is enough.
pub(crate) const SHORT: usize = 60;
const USUAL: usize = 32;

/// The rate of a wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    pub(crate) name: &'static str,
    /// Bits per second; `None` is as fast as its ends.
    pub(crate) bits: Option<u64>,
}

/// 10 Gigabit Ethernet.
pub(crate) const TEN: Rate = Rate { name: "10g", bits: Some(10_000_000_000) };
/// A wire that is as fast as its ends.
pub(crate) const UNLIMITED: Rate = Rate { name: "unlimited", bits: None };

impl Rate {
    /// Returns the line rate for frames of `bytes` without FCS, in frames per second. Preamble, FCS and gap
    /// are 24 bytes more (IEEE 802.3, 3.1.1 and 4.4.2).
    pub(crate) fn frames(self, bytes: usize) -> Option<f64> {
        self.bits.map(|bits| bits as f64 / (8 * (bytes + 24)) as f64)
    }
}

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
    pub(crate) fn batches(&self) -> [usize; 4] {
        BATCHES
    }

    /// Returns the time for one figure of the null queues.
    pub(crate) fn null_budget(&self) -> Budget {
        Budget::new((self.seconds() / 15).max(1), BATCHES.len() as u32 * 5)
    }

    /// Returns the loads for busy cycles: all batches with the shortest frames, and longer frames with one
    /// batch.
    pub(crate) fn busy_loads(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for way in [Way::Forward, Way::Receive, Way::Transmit] {
            let batches =
                BATCHES.into_iter().filter(|&batch| way == Way::Forward || batch == 1 || batch == USUAL);
            loads.extend(batches.map(|batch| Load { way, bytes: SHORT, batch }));
        }
        let long = [512, 1514].map(|bytes| Load { way: Way::Forward, bytes, batch: USUAL });
        loads.extend(long.into_iter().filter(|_| !self.is_quick));
        loads
    }

    /// Returns the loads for packets per second: forwarding with all sizes and batches; the other ways with
    /// all sizes, and with all batches. A quick run has the shortest and longest frames, one by one and in
    /// batches.
    pub(crate) fn stream_loads(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for way in [Way::Forward, Way::Receive, Way::Transmit] {
            for bytes in SIZES {
                for batch in BATCHES {
                    let is_quick = [SHORT, 1514].contains(&bytes) && [1, USUAL].contains(&batch);
                    let is_usual = way == Way::Forward || bytes == SHORT || batch == USUAL;
                    if is_quick || (is_usual && !self.is_quick) {
                        loads.push(Load { way, bytes, batch });
                    }
                }
            }
        }
        loads
    }

    /// Returns the length of one run of a load, for a total of `runs`.
    pub(crate) fn run_ns(&self, runs: usize) -> u64 {
        (u64::from(self.seconds()) * 1_000_000_000 * 2 / 3 / runs.max(1) as u64).max(1_000_000)
    }

    /// Returns the percentages of the line rate of a 10 Gb/s wire at which no frame may be lost.
    pub(crate) fn shares(&self) -> [u64; 3] {
        [10, 50, 90]
    }

    /// Returns the load during which the driver crashes.
    pub(crate) fn crash_load(&self) -> Load {
        Load { way: Way::Forward, bytes: SHORT, batch: USUAL }
    }
}

/// Returns the name of a figure.
pub(crate) fn id(kind: &str, rate: Rate, load: Load, configuration: &str) -> Text<64> {
    let Load { bytes, batch, .. } = load;
    Text::format(format_args!("{kind}/{}/{bytes}/b{batch}/{configuration}", rate.name))
}
