//! [`LoadedPath`]: the client of a driver that crashes, with a load through its shadow.

use coppice_bench_harness::CrashClient;
use coppice_block::BlockInfo;
use coppice_runtime::time::tsc;

use crate::load::{Client, Generator, Workload, now_ns};
use crate::path::{Failure, RequestPath};

/// The longest wait of one exchange.
const WAIT_NS: u64 = 3_000_000;

/// A path through a shadow, and its load.
pub(crate) struct LoadedPath<'a> {
    path: &'a mut dyn RequestPath,
    workload: Workload,
    client: Client,
    generator: Generator,
}

impl<'a> LoadedPath<'a> {
    /// Returns `None` if the disk is too small for the load.
    pub(crate) fn new(path: &'a mut dyn RequestPath, workload: Workload, info: &BlockInfo) -> Option<Self> {
        let generator = Generator::new(workload, info, 0)?;
        Some(Self { path, workload, client: Client::new(workload.depth, workload.bytes), generator })
    }

    /// Waits for the requests in flight.
    pub(crate) fn drain(mut self) -> Result<(), Failure> {
        self.client.drain(self.path)
    }
}

impl CrashClient for LoadedPath<'_> {
    type Error = Failure;

    fn work_until(&mut self, end: u64) -> Result<u64, Failure> {
        let batch = self.workload.batch;
        let mut answered = 0;
        while tsc() < end {
            let wait_until_ns = if self.client.idle() > batch { 0 } else { now_ns() + WAIT_NS };
            let step = self.client.exchange(self.path, &mut self.generator, batch, wait_until_ns, |_| ())?;
            answered += step.answered as u64;
        }
        Ok(answered)
    }

    /// All requests are in flight afterwards, except those answered in this exchange.
    fn fill(&mut self) -> Result<(), Failure> {
        self.client.exchange(self.path, &mut self.generator, self.workload.depth, 0, |_| ())?;
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<u64>, Failure> {
        let (depth, wait_until_ns) = (self.workload.depth, now_ns() + WAIT_NS);
        let step = self.client.exchange(self.path, &mut self.generator, depth, wait_until_ns, |_| ())?;
        Ok((step.answered > 0).then_some(step.now))
    }

    fn silence(&self) -> Failure {
        Failure::Silence { missing: self.client.in_flight() }
    }
}
