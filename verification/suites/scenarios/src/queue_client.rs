//! [`QueueClient`]: a client of a block device that submits requests and returns each answer to the scenario.

use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_block::{Batch, BlockDevice, BlockQueue, Operation, Request, RequestHead};
use coppice_block_client::{InFlightTable, Settled};
use coppice_interfaces::{Handle, RpcError};
use coppice_rref::{Loan, RRef};
use coppice_runtime::time;

use crate::context::{Failure, Outcome, SOON, ensure};

/// The most requests in flight: more than any queue is deep, since scenarios also submit too many.
const SLOTS: usize = 1024;

/// One queue, and the requests in flight in it.
pub(crate) struct QueueClient {
    pub(crate) queue: Handle<dyn BlockQueue>,
    /// The requests with their tags, which belong to the scenario and not to the table.
    pub(crate) in_flight: InFlightTable<Loan<Request>, u64>,
}

impl QueueClient {
    pub(crate) fn open(disk: &Handle<dyn BlockDevice>, depth: u32) -> Outcome<Self> {
        let queue = disk.open(depth)?.map_err(|error| Failure(format!("{error}")))?;
        Ok(Self::new(queue))
    }

    pub(crate) fn new(queue: Handle<dyn BlockQueue>) -> Self {
        Self { queue, in_flight: InFlightTable::new(SLOTS, 0) }
    }

    /// Submits `requests` and returns the answered requests, after `wait` at the latest.
    pub(crate) fn exchange(
        &mut self,
        requests: Vec<RRef<Request>>,
        wait: Duration,
    ) -> Outcome<Result<Vec<RRef<Request>>, RpcError>> {
        let mut batch = RRef::new(Batch::new());
        for request in requests {
            let tag = request.tag();
            let (loan, lent) = request.lend();
            ensure!(self.in_flight.insert(loan, tag).is_ok(), "more than {SLOTS} requests in flight");
            ensure!(batch.push_back(lent).is_ok(), "more requests than a batch holds");
        }
        let until = if wait.is_zero() { 0 } else { (time::now() + wait).as_nanos() as u64 };
        let mut batch = match self.queue.exchange(batch, until) {
            Ok(answer) => answer.map_err(|busy| Failure(format!("{busy:?}")))?,
            Err(error) => return Ok(Err(error)),
        };
        let mut answered = Vec::new();
        while let Some(lent) = batch.pop_front() {
            // No slot has this number, so the table finds the request by its identity.
            let settled = self.in_flight.settle(u64::MAX, lent);
            let Settled { request, context: tag, .. } =
                settled.map_err(|lent| Failure(format!("answered twice: {:?}", lent.head())))?;
            ensure!(request.tag() == tag, "the tag of another request: {:?}, not {tag}", request.head());
            ensure!(!request.is_pending(), "not answered: {:?}", request.head());
            answered.push(request);
        }
        Ok(Ok(answered))
    }

    /// Submits `requests` and does not wait.
    pub(crate) fn submit(&mut self, requests: Vec<RRef<Request>>) -> Outcome<Vec<RRef<Request>>> {
        Ok(self.exchange(requests, Duration::ZERO)??)
    }

    /// Waits until all requests in flight are answered.
    pub(crate) fn collect(&mut self) -> Outcome<Vec<RRef<Request>>> {
        let deadline = time::now() + SOON;
        let mut answered = Vec::new();
        while self.in_flight.in_flight() > 0 {
            answered.append(&mut self.exchange(Vec::new(), Duration::from_millis(20))??);
            let left = self.in_flight.in_flight();
            ensure!(time::now() < deadline, "after {SOON:?} {left} requests are not answered");
        }
        Ok(answered)
    }
}

/// Returns a request for `operation` on `blocks` blocks of 512 bytes from `lba`, which is also its tag, with
/// room for their data.
pub(crate) fn request(operation: Operation, lba: u64, blocks: u32) -> RRef<Request> {
    RRef::with_capacity(RequestHead::new(operation, lba, blocks).with_tag(lba), blocks as usize * 512)
}

/// Returns a request that writes [`pattern`] to one block.
pub(crate) fn write(lba: u64, version: u64) -> RRef<Request> {
    let mut request = request(Operation::Write, lba, 1);
    request.bytes_mut().copy_from_slice(&pattern(lba, version));
    request
}

/// Returns the content of a block. Its words differ from each other, between blocks and between versions.
pub(crate) fn pattern(lba: u64, version: u64) -> [u8; 512] {
    let mut bytes = [0; 512];
    for (index, word) in bytes.chunks_exact_mut(8).enumerate() {
        let number = lba << 32 | version << 8 | index as u64;
        word.copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    }
    bytes
}
