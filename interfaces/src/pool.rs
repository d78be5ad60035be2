//! [`Pool`]: work that is done by threads of the callee's own.

use coppice_interface_macros::interface;
use coppice_rref::{Flat, RRef, Shareable};

use crate::RpcResult;

/// A piece of work: mix the numbers below `limit` with the tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Job {
    /// The submitter's name for it.
    pub tag: u64,
    /// How many numbers are mixed.
    pub limit: u64,
    /// Written by the worker.
    pub sum: u64,
}

/// Why the pool does not take a job, with the job.
#[derive(Debug, Shareable)]
pub enum PoolError {
    /// As many jobs are waiting as the pool has places for.
    Full {
        /// The job, unchanged.
        job: RRef<Job>,
        /// How many places there are.
        capacity: u32,
    },
}

/// Takes jobs now and has the answers later.
#[interface]
pub trait Pool {
    /// Queues `job` for the workers.
    ///
    /// # Errors
    /// [`PoolError::Full`].
    fn submit(&self, job: RRef<Job>) -> RpcResult<Result<(), PoolError>>;
    /// Waits for the next job to be done, in no particular order; `None` when none was submitted.
    fn collect(&self) -> RpcResult<Option<RRef<Job>>>;
    /// Makes one of the workers panic.
    fn break_worker(&self) -> RpcResult<()>;
}
