//! [`Pool`]: work that is done by threads of the callee.

use coppice_interfaces::{RpcResult, interface};
use coppice_rref::{Flat, RRef, Shareable};

/// A unit of work: mix the numbers below `limit` with the tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Shareable, Flat)]
pub struct Job {
    /// The submitter's tag.
    pub tag: u64,
    /// The number of numbers to mix.
    pub limit: u64,
    /// The result, written by the worker.
    pub sum: u64,
}

/// The reason why the pool refuses a job; it returns the job.
#[derive(Debug, Shareable)]
pub enum PoolError {
    /// The queue of waiting jobs is full.
    Full {
        /// The job, unchanged.
        job: RRef<Job>,
        /// The capacity of the queue.
        capacity: u32,
    },
}

/// A pool of worker threads.
#[interface]
pub trait Pool {
    /// Queues `job` for the workers.
    ///
    /// # Errors
    /// [`PoolError::Full`] when the queue is full.
    fn submit(&self, job: RRef<Job>) -> RpcResult<Result<(), PoolError>>;
    /// Waits for the next job to be done, in no particular order. Returns `None` when no job is queued.
    fn collect(&self) -> RpcResult<Option<RRef<Job>>>;
    /// Makes one of the workers panic.
    fn break_worker(&self) -> RpcResult<()>;
}
