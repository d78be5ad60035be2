//! [`Queue`]: requests to commands, and back.

use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_block as block;
use coppice_block::{Batch, BlockError, BlockQueue, Operation, Request};
use coppice_interfaces::RpcResult;
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::ThreadBound;
use coppice_runtime::time;
use nvme_driver::{CommandError, Completion, Fault, IoQueue};

use crate::answer::{Verdict, command, failure, refusal};
use crate::disk::Disk;

/// The exported object.
pub(crate) struct Queue(ThreadBound<Requests>);

impl Queue {
    pub(crate) fn new(disk: Arc<Disk>, queue: IoQueue<Lent<Request>>) -> Self {
        Self(ThreadBound::new(Requests { disk, queue, again: Vec::new(), answered: Vec::new() }))
    }
}

impl BlockQueue for Queue {
    fn exchange(
        &self,
        mut batch: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<RRef<Batch>, block::Busy>> {
        let Ok(mut requests) = self.0.enter() else { return Ok(Err(block::Busy { batch })) };
        requests.submit(&mut batch);
        requests.collect(&mut batch);
        if batch.is_empty() && wait_until_ns > 0 {
            requests.wait(&mut batch, wait_until_ns);
        }
        Ok(Ok(batch))
    }
}

/// What is under way in a queue. A request's cookie says how often it was submitted before.
struct Requests {
    disk: Arc<Disk>,
    queue: IoQueue<Lent<Request>>,
    /// To be submitted once more.
    again: Vec<Lent<Request>>,
    /// Answered by a reset, which cannot be told when to stop.
    answered: Vec<Lent<Request>>,
}

impl Requests {
    /// Takes all requests out of the batch. Those that cannot be submitted are back in it, answered.
    fn submit(&mut self, batch: &mut RRef<Batch>) {
        for _ in 0..batch.len() {
            let Some(mut request) = batch.pop_front() else { break };
            request.head_mut().set_cookie(0);
            if let Some(refused) = self.begin(request) {
                put(batch, refused);
            }
        }
        self.queue.ring();
    }

    /// Submits a request, or answers it.
    #[inline]
    fn begin(&mut self, mut request: Lent<Request>) -> Option<Lent<Request>> {
        let command = match command(request.head()) {
            Ok(command) => command,
            Err(error) => {
                request.head_mut().answer(Err(error));
                return Some(request);
            }
        };
        if self.queue.namespace().write_protected() && command.operation.changes_blocks() {
            request.head_mut().answer(Err(BlockError::WriteProtected { lba: command.lba }));
            return Some(request);
        }
        let Err(refused) = self.queue.submit(command, Some(request), 0) else { return None };
        let mut request = refused.buffer.expect("who refuses a command gives its buffer back");
        // A queue at fault is reset before anything else, by `collect`; so this would not be submitted otherwise.
        if let nvme_driver::SubmitError::Faulted(_) = refused.error {
            self.again.push(request);
            return None;
        }
        let most = self.queue.most_blocks(command.operation);
        let error = refusal(refused.error, most, request.head());
        request.head_mut().answer(Err(error));
        Some(request)
    }

    /// Puts what has ended into the batch, as much as fits.
    fn collect(&mut self, batch: &mut RRef<Batch>) {
        while !batch.is_full()
            && let Some(request) = self.answered.pop()
        {
            put(batch, request);
        }
        let room = block::BATCH - batch.len();
        let (disk, again) = (&*self.disk, &mut self.again);
        let polled = self.queue.poll(room, |completion| {
            if let Some(request) = finish(disk, again, completion) {
                put(batch, request);
            }
        });
        if let Err(fault) = polled {
            self.recover(fault);
        }
        self.resubmit();
    }

    /// Submits once more what is worth it.
    fn resubmit(&mut self) {
        if self.again.is_empty() {
            return;
        }
        for request in core::mem::take(&mut self.again) {
            let answered = self.begin(request);
            self.answered.extend(answered);
        }
        self.queue.ring();
    }

    /// Waits until there is something for the batch, or nothing under way, or the time is up.
    fn wait(&mut self, batch: &mut RRef<Batch>, wait_until_ns: u64) {
        let now = time::now().as_nanos() as u64;
        let until = wait_until_ns.min(now.saturating_add(self.disk.settings.wait.as_nanos() as u64));
        while batch.is_empty() {
            if !self.answered.is_empty() {
                self.collect(batch);
                break;
            }
            match self.queue.wait(until) {
                Ok(true) => self.collect(batch),
                Ok(false) => break,
                Err(fault) => {
                    self.recover(fault);
                    self.resubmit();
                }
            }
        }
    }

    /// Has the controller reset, and takes its commands back.
    #[cold]
    fn recover(&mut self, fault: Fault) {
        self.disk.judge(fault);
        let (disk, again, answered) = (&*self.disk, &mut self.again, &mut self.answered);
        let reset = self.queue.reset(|completion| answered.extend(finish(disk, again, completion)));
        if let Err(error) = reset {
            // What is under way stays where it is until the kernel has stopped the device; then it is its lender's again.
            panic!("{fault}, and a reset does not help: {error}");
        }
        log::warn!("reset: {} requests are submitted again", self.again.len());
    }
}

/// The request of a completion, answered; or none, if it is to be submitted again.
#[inline]
fn finish(
    disk: &Disk,
    again: &mut Vec<Lent<Request>>,
    completion: Completion<Lent<Request>>,
) -> Option<Lent<Request>> {
    let mut request = completion.buffer.expect("each command was submitted with its request");
    match completion.outcome {
        Ok(()) => request.head_mut().answer(Ok(())),
        Err(error) => match judge(disk, error, &mut request) {
            Verdict::Answer(error) => request.head_mut().answer(Err(error)),
            Verdict::Again => {
                again.push(request);
                return None;
            }
        },
    }
    Some(request)
}

#[cold]
fn judge(disk: &Disk, error: CommandError, request: &mut Lent<Request>) -> Verdict {
    let tries = request.head().cookie();
    request.head_mut().set_cookie(tries.saturating_add(1));
    let settings = &disk.settings;
    let verdict = failure(error, request.head(), tries, settings.retries, settings.timeout.as_nanos() as u64);
    if let Verdict::Answer(answer) = verdict {
        log::warn!("{:?}: {answer}", request.head());
    }
    verdict
}

fn put(batch: &mut RRef<Batch>, request: Lent<Request>) {
    let full = batch.push_back(request);
    assert!(full.is_ok(), "more answers than the batch has room for");
}

/// The operations of the interface, as a set, that the controller has.
pub(crate) fn operations(info: &nvme_driver::ControllerInfo) -> block::Operations {
    let mut operations =
        block::Operations::NONE.with(Operation::Read).with(Operation::Write).with(Operation::Flush);
    if info.write_zeroes {
        operations = operations.with(Operation::WriteZeroes);
    }
    if info.deallocate {
        operations = operations.with(Operation::Deallocate);
    }
    operations
}
