//! A worker pool: computes jobs on threads of its own.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use coppice_example_interfaces::{Job, Pool, PoolError};
use coppice_interfaces::{Handle, RpcResult};
use coppice_rref::RRef;
use coppice_runtime::sync::{Event, Mutex};
use coppice_runtime::{Domain, Environment, StartError, thread};

/// The maximum number of jobs that are submitted and not collected.
const CAPACITY: usize = 64;

/// The domain.
pub struct PoolDomain;

impl Domain for PoolDomain {
    type Imports = ();
    type Export = Handle<dyn Pool>;

    /// The argument `workers=N` sets the number of worker threads; the default is two.
    fn start(environment: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        let workers = environment.number("workers", 2)?;
        let queue = Arc::new(WorkQueue::default());
        for _ in 0..workers {
            let queue = queue.clone();
            thread::spawn(move || queue.work())?;
        }
        Ok(<dyn Pool>::export(Service { queue }))
    }
}

struct Service {
    queue: Arc<WorkQueue>,
}

/// The state that callers and workers share.
#[derive(Default)]
struct WorkQueue {
    jobs: Mutex<Jobs>,
    submitted: Event,
    finished: Event,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<RRef<Job>>,
    done: VecDeque<RRef<Job>>,
    /// The number of jobs that are submitted and not collected.
    outstanding: usize,
    broken: bool,
}

impl WorkQueue {
    fn work(&self) {
        loop {
            let ticket = self.submitted.ticket();
            let job = {
                let mut jobs = self.jobs.lock();
                assert!(!jobs.broken, "a worker was requested to panic");
                jobs.waiting.pop_front()
            };
            let Some(mut job) = job else {
                self.submitted.wait(ticket);
                continue;
            };
            job.sum = (0..job.limit).fold(0, |sum, number| sum ^ number.wrapping_mul(job.tag));
            self.jobs.lock().done.push_back(job);
            self.finished.notify_one();
        }
    }
}

impl Pool for Service {
    fn submit(&self, job: RRef<Job>) -> RpcResult<Result<(), PoolError>> {
        let mut jobs = self.queue.jobs.lock();
        if jobs.outstanding == CAPACITY {
            return Ok(Err(PoolError::Full { job, capacity: CAPACITY as u32 }));
        }
        jobs.outstanding += 1;
        jobs.waiting.push_back(job);
        drop(jobs);
        self.queue.submitted.notify_one();
        Ok(Ok(()))
    }

    fn collect(&self) -> RpcResult<Option<RRef<Job>>> {
        loop {
            let ticket = self.queue.finished.ticket();
            {
                let mut jobs = self.queue.jobs.lock();
                if jobs.outstanding == 0 {
                    return Ok(None);
                }
                if let Some(job) = jobs.done.pop_front() {
                    jobs.outstanding -= 1;
                    return Ok(Some(job));
                }
            }
            self.queue.finished.wait(ticket);
        }
    }

    fn break_worker(&self) -> RpcResult<()> {
        self.queue.jobs.lock().broken = true;
        self.queue.submitted.notify_one();
        Ok(())
    }
}
