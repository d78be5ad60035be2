//! [`Reads`]: what the killer asks of the disk, to see when the driver answers.

use alloc::vec::Vec;

use coppice_block::{Operation, Request, RequestHead};
use coppice_experiment::{Failure, Random};
use coppice_rref::RRef;
use coppice_runtime::time;
use coppice_trial::Probe;

use crate::queue::{Answer, Queue};
use crate::stage::Stage;

/// What the killer's own chance is, beside those of the writers.
const STREAM: u64 = 1 << 32;

/// Reads single blocks of the image, one at a time.
pub(crate) struct Reads<'a> {
    stage: &'a Stage,
    queue: Queue<'a>,
    request: Option<RRef<Request>>,
    answers: Vec<Answer>,
    random: Random,
}

impl<'a> Reads<'a> {
    pub(crate) fn open(stage: &'a Stage) -> Result<Self, Failure> {
        let head = RequestHead::new(Operation::Read, 0, 1);
        Ok(Self {
            stage,
            queue: Queue::open(stage, 1)?,
            request: Some(RRef::with_capacity(head, stage.disk.block_bytes as usize)),
            answers: Vec::new(),
            random: Random::new(stage.trial.schedule.seed, STREAM),
        })
    }
}

impl Probe for Reads<'_> {
    /// Reads a block, through whatever happens to the driver meanwhile.
    fn last_reply_ns(&mut self) -> Result<u64, Failure> {
        let blocks = (self.stage.plan.image_bytes / u64::from(self.stage.disk.block_bytes)).max(1);
        let mut request = self.request.take().expect("it is here between reads");
        request.head_mut().set(Operation::Read, self.random.below(blocks), 1);
        self.queue.submit(0, request);
        while self.answers.is_empty() {
            self.queue.exchange(true, &mut self.answers)?;
        }
        let now = time::now();
        self.request = self.answers.pop().map(|(_, request)| request);
        Ok(now.as_nanos() as u64)
    }
}
