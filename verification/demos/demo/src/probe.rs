//! [`ReadProbe`]: the reads by which the killer thread measures when the driver serves requests again.

use alloc::vec::Vec;

use coppice_block::{Operation, Request, RequestHead};
use coppice_experiment::{Failure, Random};
use coppice_rref::RRef;
use coppice_runtime::time;
use coppice_trial::Probe;

use crate::context::Context;
use crate::queue::{Completion, Queue};

/// The stream of the probe's random numbers, distinct from those of the writers.
const RANDOM_STREAM: u64 = 1 << 32;

/// Reads random single blocks of the image, one at a time.
pub(crate) struct ReadProbe<'a> {
    context: &'a Context,
    queue: Queue<'a>,
    request: Option<RRef<Request>>,
    completions: Vec<Completion>,
    random: Random,
}

impl<'a> ReadProbe<'a> {
    pub(crate) fn open(context: &'a Context) -> Result<Self, Failure> {
        let head = RequestHead::new(Operation::Read, 0, 1);
        Ok(Self {
            context,
            queue: Queue::open(context, 1)?,
            request: Some(RRef::with_capacity(head, context.disk.block_bytes as usize)),
            completions: Vec::new(),
            random: Random::new(context.trial.schedule.seed, RANDOM_STREAM),
        })
    }
}

impl Probe for ReadProbe<'_> {
    /// Reads a random block of the image and returns the time of its completion. The read may span a
    /// crash of the driver.
    fn last_reply_ns(&mut self) -> Result<u64, Failure> {
        let blocks = (self.context.plan.image_bytes / u64::from(self.context.disk.block_bytes)).max(1);
        let mut request = self.request.take().expect("the probe holds its request between reads");
        request.head_mut().set(Operation::Read, self.random.below(blocks), 1);
        self.queue.submit(0, request);
        while self.completions.is_empty() {
            self.queue.exchange(true, &mut self.completions)?;
        }
        let now = time::now();
        self.request = self.completions.pop().map(|(_, request)| request);
        Ok(now.as_nanos() as u64)
    }
}
