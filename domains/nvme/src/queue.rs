//! [`Queue`]: turns requests of the interface into commands of the driver, and completions into results.
//!
//! A request whose command failed for a reason that may pass, or was in flight during a reset of the
//! controller, is submitted again here. A crash of this domain is the shadow's to recover from.

use alloc::sync::Arc;
use alloc::vec::Vec;

use coppice_block as block;
use coppice_block::{Batch, BlockError, BlockQueue, Operation, Request};
use coppice_interfaces::RpcResult;
use coppice_rref::{Lent, RRef};
use coppice_runtime::sync::ThreadBound;
use coppice_runtime::time;
use nvme_driver::{CommandError, Completion, Fault, IoQueue};

use crate::disk::Disk;
use crate::translate::{Disposition, command, failure, refusal};

/// The object that a client opens.
pub(crate) struct Queue(ThreadBound<InFlight>);

impl Queue {
    pub(crate) fn new(disk: Arc<Disk>, queue: IoQueue<Lent<Request>>) -> Self {
        Self(ThreadBound::new(InFlight { disk, queue, retries: Vec::new(), finished: Vec::new() }))
    }
}

impl BlockQueue for Queue {
    fn exchange(
        &self,
        mut batch: RRef<Batch>,
        wait_until_ns: u64,
    ) -> RpcResult<Result<RRef<Batch>, block::Busy>> {
        let Ok(mut in_flight) = self.0.enter() else { return Ok(Err(block::Busy { batch })) };
        in_flight.submit(&mut batch);
        in_flight.collect(&mut batch);
        if batch.is_empty() && wait_until_ns > 0 {
            in_flight.wait(&mut batch, wait_until_ns);
        }
        Ok(Ok(batch))
    }
}

/// The requests in flight in one queue. A request's cookie counts its earlier submissions.
struct InFlight {
    disk: Arc<Disk>,
    queue: IoQueue<Lent<Request>>,
    /// Requests to submit again.
    retries: Vec<Lent<Request>>,
    /// Answered requests that a reset returned: all at once, so that they may not fit the batch.
    finished: Vec<Lent<Request>>,
}

impl InFlight {
    /// Submits all requests of the batch. Requests that are refused stay in it, answered.
    fn submit(&mut self, batch: &mut RRef<Batch>) {
        for _ in 0..batch.len() {
            let Some(mut request) = batch.pop_front() else { break };
            request.head_mut().set_cookie(0);
            if let Some(refused) = self.submit_one(request) {
                put(batch, refused);
            }
        }
        self.queue.ring();
    }

    /// Submits a request. Returns it, answered, if it is refused.
    #[inline]
    fn submit_one(&mut self, mut request: Lent<Request>) -> Option<Lent<Request>> {
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
        let mut request = refused.buffer.expect("a refused command returns its buffer");
        // `collect` resets a queue at fault before it does anything else; the request is submitted after
        // that.
        if let nvme_driver::SubmitError::Faulted(_) = refused.error {
            self.retries.push(request);
            return None;
        }
        let most = self.queue.most_blocks(command.operation);
        let error = refusal(refused.error, most, request.head());
        request.head_mut().answer(Err(error));
        Some(request)
    }

    /// Moves answered requests into the batch, as far as it has room.
    fn collect(&mut self, batch: &mut RRef<Batch>) {
        while !batch.is_full()
            && let Some(request) = self.finished.pop()
        {
            put(batch, request);
        }
        let room = block::BATCH - batch.len();
        let (disk, retries) = (&*self.disk, &mut self.retries);
        let polled = self.queue.poll(room, |completion| {
            if let Some(request) = finish(disk, retries, completion) {
                put(batch, request);
            }
        });
        if let Err(fault) = polled {
            self.recover(fault);
        }
        self.resubmit();
    }

    /// Submits the requests that are worth another try.
    fn resubmit(&mut self) {
        if self.retries.is_empty() {
            return;
        }
        for request in core::mem::take(&mut self.retries) {
            let refused = self.submit_one(request);
            self.finished.extend(refused);
        }
        self.queue.ring();
    }

    /// Blocks until the batch has an answer, no request is in flight, or the clock passes `wait_until_ns`.
    fn wait(&mut self, batch: &mut RRef<Batch>, wait_until_ns: u64) {
        let now = time::now().as_nanos() as u64;
        let until = wait_until_ns.min(now.saturating_add(self.disk.settings.wait.as_nanos() as u64));
        while batch.is_empty() {
            if !self.finished.is_empty() {
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

    /// Resets the controller and takes its commands back.
    #[cold]
    fn recover(&mut self, fault: Fault) {
        self.disk.record_fault(fault);
        let (disk, retries, finished) = (&*self.disk, &mut self.retries, &mut self.finished);
        let reset = self.queue.reset(|completion| finished.extend(finish(disk, retries, completion)));
        if let Err(error) = reset {
            // The requests in flight stay where they are until the kernel has stopped the device; then they
            // return to their lenders.
            panic!("{fault}, and the reset failed: {error}");
        }
        log::warn!("reset: {} requests are submitted again", self.retries.len());
    }
}

/// Stores the result in the request of a completion and returns it, or adds it to `retries`.
#[inline]
fn finish(
    disk: &Disk,
    retries: &mut Vec<Lent<Request>>,
    completion: Completion<Lent<Request>>,
) -> Option<Lent<Request>> {
    let mut request = completion.buffer.expect("each command was submitted with its request");
    match completion.outcome {
        Ok(()) => request.head_mut().answer(Ok(())),
        Err(error) => match dispose(disk, error, &mut request) {
            Disposition::Fail(error) => request.head_mut().answer(Err(error)),
            Disposition::Retry => {
                retries.push(request);
                return None;
            }
        },
    }
    Some(request)
}

/// Decides about a request whose command has failed, and counts the attempt.
#[cold]
fn dispose(disk: &Disk, error: CommandError, request: &mut Lent<Request>) -> Disposition {
    let tries = request.head().cookie();
    request.head_mut().set_cookie(tries.saturating_add(1));
    let settings = &disk.settings;
    let disposition =
        failure(error, request.head(), tries, settings.retries, settings.timeout.as_nanos() as u64);
    if let Disposition::Fail(answer) = disposition {
        log::warn!("{:?}: {answer}", request.head());
    }
    disposition
}

fn put(batch: &mut RRef<Batch>, request: Lent<Request>) {
    let full = batch.push_back(request);
    assert!(full.is_ok(), "the batch has no room for an answer");
}

/// The set of the interface's operations that the controller supports.
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
