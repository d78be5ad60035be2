//! [`RequestPath`]: a path for requests. The same load runs on each: the driver as a library, a driver's
//! domain, a domain behind its shadow.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use coppice_bench_harness::KillError;
use coppice_block::{Batch, BlockError, BlockInfo, BlockQueue, Busy, OpenError, Request};
use coppice_hardware::DeviceRefusal;
use coppice_interfaces::{RpcError, RpcResult};
use coppice_rref::{Loan, RRef};
use nvme_driver::{CommandError, Fault, NvmeError, SubmitError};

/// The reasons why a figure is missing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call failed.
    Rpc(RpcError),
    /// No queue could be opened.
    Open(OpenError),
    /// A queue of this benchmark was in use, although it has no other user.
    Busy,
    /// A request failed.
    Answer {
        /// The tag of the request.
        tag: u64,
        /// The error of the request.
        error: BlockError,
    },
    /// A completion has an unknown tag, or came twice.
    Foreign {
        /// The tag of the completion.
        tag: u64,
    },
    /// The machine refuses access to our own device.
    Device(DeviceRefusal),
    /// Our controller does not change its state.
    Stuck {
        /// CSTS, as last read.
        csts: u32,
    },
    /// The driver as a library cannot start its controller.
    Driver(NvmeError),
    /// Its controller violates the specification.
    Fault(Fault),
    /// It refuses a request.
    Refused {
        /// The tag of the request.
        tag: u64,
        /// The reason of the refusal.
        error: SubmitError,
    },
    /// Its controller failed a command.
    Command {
        /// The tag of the request.
        tag: u64,
        /// The error of the command.
        error: CommandError,
    },
    /// Its controller has no namespace.
    NoDisk,
    /// Its disk differs from that of the driver's domain.
    Unlike {
        /// The bytes of a block.
        block_bytes: u32,
        /// The number of blocks.
        blocks: u64,
    },
    /// The driver cannot be killed.
    Kill(KillError),
    /// No request was answered within the limit.
    Silence {
        /// The number of unanswered requests.
        missing: usize,
    },
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<KillError> for Failure {
    fn from(error: KillError) -> Self {
        Self::Kill(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Busy => f.write_str("the queue is in use by another thread"),
            Self::Answer { tag, error } => write!(f, "request {tag} failed: {error}"),
            Self::Foreign { tag } => write!(f, "request {tag} came back, which was not in flight"),
            Self::Device(refusal) => refusal.fmt(f),
            Self::Stuck { csts } => write!(f, "the controller does not follow CC.EN (CSTS {csts:#x})"),
            Self::Driver(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Refused { tag, error } => write!(f, "request {tag} was refused: {error}"),
            Self::Command { tag, error } => write!(f, "request {tag} failed: {error:?}"),
            Self::NoDisk => f.write_str("the controller has no usable namespace"),
            Self::Unlike { block_bytes, blocks } => {
                write!(f, "the disks differ: ours has {blocks} blocks of {block_bytes} bytes")
            }
            Self::Kill(error) => error.fmt(f),
            Self::Silence { missing } => write!(f, "{missing} requests were not answered"),
        }
    }
}

/// Requests that are not in flight: to be submitted, or answered.
pub(crate) type Requests = Vec<RRef<Request>>;

/// A path that performs requests.
pub(crate) trait RequestPath {
    /// Submits all of `ready`, which must fit the queue, and appends answered requests to `done`. If there
    /// are none, may wait until one is answered or the clock passes `wait_until_ns`.
    fn exchange(
        &mut self,
        ready: &mut Requests,
        done: &mut Requests,
        wait_until_ns: u64,
    ) -> Result<(), Failure>;
}

/// A [`BlockQueue`] behind any kind of pointer, and the state of its client. Its table of loans is the least
/// that a client needs, because it is part of each figure; `coppice-block-client` also finds changed tags and
/// redeems after crashes.
pub(crate) struct Queue<Q> {
    queue: Q,
    /// `None` while a call has it, or after a failed call.
    batch: Option<RRef<Batch>>,
    /// The loans of the requests in flight, by tag.
    loans: Box<[Option<Loan<Request>>]>,
}

impl<Q: Deref<Target = dyn BlockQueue>> Queue<Q> {
    /// Creates the client state for requests with tags below `tags`.
    pub(crate) fn new(queue: Q, tags: usize) -> Self {
        let loans = (0..tags).map(|_| None).collect();
        Self { queue, batch: Some(RRef::new(Batch::new())), loans }
    }
}

impl<Q: Deref<Target = dyn BlockQueue>> RequestPath for Queue<Q> {
    #[inline]
    fn exchange(
        &mut self,
        ready: &mut Requests,
        done: &mut Requests,
        wait_until_ns: u64,
    ) -> Result<(), Failure> {
        let mut batch = self.batch.take().unwrap_or_else(|| RRef::new(Batch::new()));
        for request in ready.drain(..) {
            let tag = request.tag();
            let (loan, lent) = request.lend();
            let position = self.loans.get_mut(tag as usize).ok_or(Failure::Foreign { tag })?;
            *position = Some(loan);
            batch.push_back(lent).map_err(|_| Failure::Busy)?;
        }
        let mut batch = self.queue.exchange(batch, wait_until_ns)?.map_err(|_| Failure::Busy)?;
        while let Some(lent) = batch.pop_front() {
            let tag = lent.tag();
            let loan = self.loans.get_mut(tag as usize).and_then(Option::take);
            let request = loan.and_then(|loan| loan.settle(lent).ok()).ok_or(Failure::Foreign { tag })?;
            request.result().map_err(|error| Failure::Answer { tag, error })?;
            done.push(request);
        }
        self.batch = Some(batch);
        Ok(())
    }
}

/// A queue that completes requests at their submission, without a domain around it: the baseline of
/// `verification/fixtures/null-block`, which does the same.
pub(crate) struct NullQueue(pub(crate) BlockInfo);

impl BlockQueue for NullQueue {
    fn exchange(&self, mut batch: RRef<Batch>, _: u64) -> RpcResult<Result<RRef<Batch>, Busy>> {
        for _ in 0..batch.len() {
            let Some(mut request) = batch.pop_front() else { break };
            let result = request.check(&self.0, request.capacity()).map(|_| ());
            request.head_mut().answer(result);
            if batch.push_back(request).is_err() {
                break;
            }
        }
        Ok(Ok(batch))
    }
}
