//! Does work on threads of its own.

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

/// Jobs that may wait.
const CAPACITY: usize = 64;

/// The domain.
pub struct PoolDomain;

impl Domain for PoolDomain {
    type Imports = ();
    type Export = Handle<dyn Pool>;

    /// `workers=N` among the arguments sets how many threads work; by default two.
    fn start(environment: &Environment<'_>, (): ()) -> Result<Self::Export, StartError> {
        let workers = environment.number("workers", 2)?;
        let yard = Arc::new(Yard::default());
        for _ in 0..workers {
            let yard = yard.clone();
            thread::spawn(move || yard.work())?;
        }
        Ok(<dyn Pool>::export(Service { yard }))
    }
}

struct Service {
    yard: Arc<Yard>,
}

/// What callers and workers share.
#[derive(Default)]
struct Yard {
    jobs: Mutex<Jobs>,
    submitted: Event,
    finished: Event,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<RRef<Job>>,
    done: VecDeque<RRef<Job>>,
    /// Submitted and not collected.
    out: usize,
    broken: bool,
}

impl Yard {
    fn work(&self) {
        loop {
            let ticket = self.submitted.ticket();
            let job = {
                let mut jobs = self.jobs.lock();
                assert!(!jobs.broken, "a worker was told to break");
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
        let mut jobs = self.yard.jobs.lock();
        if jobs.out == CAPACITY {
            return Ok(Err(PoolError::Full { job, capacity: CAPACITY as u32 }));
        }
        jobs.out += 1;
        jobs.waiting.push_back(job);
        drop(jobs);
        self.yard.submitted.notify_one();
        Ok(Ok(()))
    }

    fn collect(&self) -> RpcResult<Option<RRef<Job>>> {
        loop {
            let ticket = self.yard.finished.ticket();
            {
                let mut jobs = self.yard.jobs.lock();
                if jobs.out == 0 {
                    return Ok(None);
                }
                if let Some(job) = jobs.done.pop_front() {
                    jobs.out -= 1;
                    return Ok(Some(job));
                }
            }
            self.yard.finished.wait(ticket);
        }
    }

    fn break_worker(&self) -> RpcResult<()> {
        self.yard.jobs.lock().broken = true;
        self.yard.submitted.notify_one();
        Ok(())
    }
}
