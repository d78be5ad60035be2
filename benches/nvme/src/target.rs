//! [`Target`]: what requests are made to. The same load runs on each: the driver as a library, a driver's domain, one behind
//! its shadow.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use coppice_block::{Batch, BlockError, BlockInfo, BlockQueue, Busy, OpenError, Request};
use coppice_experiment::Spared;
use coppice_hardware::DeviceRefusal;
use coppice_interfaces::{RpcError, RpcResult};
use coppice_rref::{Loan, RRef};
use nvme_driver::{CommandError, Fault, NvmeError, SubmitError};

/// Why there is no figure.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call did not come back.
    Rpc(RpcError),
    /// There is no queue.
    Open(OpenError),
    /// Nobody else uses our queues, and yet one was in use.
    Busy,
    /// A request was not done.
    Answer {
        /// Which.
        tag: u64,
        /// Why not.
        error: BlockError,
    },
    /// What came back is none of ours, or did so twice.
    Foreign {
        /// What it says that it is.
        tag: u64,
    },
    /// The machine refuses something of the device that is ours.
    Device(DeviceRefusal),
    /// Our device does not change its state.
    Stuck {
        /// CSTS, as last read.
        csts: u32,
    },
    /// The driver as a library does not bring its controller up.
    Driver(NvmeError),
    /// Its controller breaks the rules.
    Fault(Fault),
    /// It does not take a request.
    Refused {
        /// Which.
        tag: u64,
        /// Why not.
        error: SubmitError,
    },
    /// Its controller does not do a request.
    Command {
        /// Which.
        tag: u64,
        /// Why not.
        error: CommandError,
    },
    /// Its controller has no namespace.
    NoDisk,
    /// Its disk is not like that of the driver's domain.
    Unlike {
        /// Bytes of a block.
        block_bytes: u32,
        /// How many blocks.
        blocks: u64,
    },
    /// The driver cannot be ended.
    Kill(Spared),
    /// Nothing came back for so long.
    Silence {
        /// How many requests are missing.
        missing: usize,
    },
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Self {
        Self::Rpc(error)
    }
}

impl From<Spared> for Failure {
    fn from(error: Spared) -> Self {
        Self::Kill(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::Busy => f.write_str("the queue is in use by somebody else"),
            Self::Answer { tag, error } => write!(f, "request {tag} was not done: {error}"),
            Self::Foreign { tag } => write!(f, "request {tag} came back, which was not under way"),
            Self::Device(refusal) => refusal.fmt(f),
            Self::Stuck { csts } => write!(f, "the controller does not follow CC.EN (CSTS {csts:#x})"),
            Self::Driver(error) => error.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
            Self::Refused { tag, error } => write!(f, "request {tag} was not taken: {error}"),
            Self::Command { tag, error } => write!(f, "request {tag} was not done: {error:?}"),
            Self::NoDisk => f.write_str("the controller has no namespace that can be used"),
            Self::Unlike { block_bytes, blocks } => {
                write!(f, "the disks differ: ours has {blocks} blocks of {block_bytes} bytes")
            }
            Self::Kill(error) => error.fmt(f),
            Self::Silence { missing } => write!(f, "{missing} requests are not answered"),
        }
    }
}

/// Requests that nobody works on: to be handed in, or answered.
pub(crate) type Pile = Vec<RRef<Request>>;

/// What does requests.
pub(crate) trait Target {
    /// Hands in all of `ready`, which are not more than fit, and adds what is answered to `done`. If nothing is, waits until
    /// something is or the clock passes `wait_until_ns`, or not as long.
    fn exchange(&mut self, ready: &mut Pile, done: &mut Pile, wait_until_ns: u64) -> Result<(), Failure>;
}

/// A [`BlockQueue`], reached by whatever kind of pointer, and what its client has to keep.
pub(crate) struct Queue<Q> {
    queue: Q,
    /// `None` while a call has it, or has lost it.
    batch: Option<RRef<Batch>>,
    /// The claims to what is under way, by tag.
    loans: Box<[Option<Loan<Request>>]>,
}

impl<Q: Deref<Target = dyn BlockQueue>> Queue<Q> {
    /// For requests tagged with numbers below `tags`.
    pub(crate) fn new(queue: Q, tags: usize) -> Self {
        let loans = (0..tags).map(|_| None).collect();
        Self { queue, batch: Some(RRef::new(Batch::new())), loans }
    }
}

impl<Q: Deref<Target = dyn BlockQueue>> Target for Queue<Q> {
    #[inline]
    fn exchange(&mut self, ready: &mut Pile, done: &mut Pile, wait_until_ns: u64) -> Result<(), Failure> {
        let mut batch = self.batch.take().unwrap_or_else(|| RRef::new(Batch::new()));
        for request in ready.drain(..) {
            let tag = request.tag();
            let (loan, lent) = request.lend();
            let place = self.loans.get_mut(tag as usize).ok_or(Failure::Foreign { tag })?;
            *place = Some(loan);
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

/// A queue whose requests are done as soon as they are handed in, without a domain around it: the baseline of
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
