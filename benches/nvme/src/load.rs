//! [`Workload`]: the requests for a disk. [`Client`]: submits them and keeps up to the workload's depth in
//! flight.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use coppice_block::{BlockInfo, Operation, Request, RequestHead};
use coppice_experiment::Random;
use coppice_rref::RRef;
use coppice_runtime::time::{self, tsc};

use crate::path::{Failure, RequestPath, Requests};

/// The limit for the wait for an answer of the disk.
const TIMEOUT_NS: u64 = 5_000_000_000;
/// The percentage of reads in a mixed load.
const READS: u64 = 70;

/// The operations of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mix {
    Read,
    Write,
    /// [`READS`] percent reads.
    Mixed,
}

/// The requests for a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// The size of a request.
    pub(crate) bytes: u32,
    /// At random positions, or sequential.
    pub(crate) is_random: bool,
    pub(crate) mix: Mix,
    /// The maximum number of requests in flight.
    pub(crate) depth: usize,
    /// The maximum number of requests submitted by one call.
    pub(crate) batch: usize,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, is_random, mix, depth, batch } = *self;
        let (size, unit) = if bytes < 1024 { (bytes, "b") } else { (bytes / 1024, "k") };
        let order = if is_random { "rand" } else { "seq" };
        let what = match mix {
            Mix::Read => "read",
            Mix::Write => "write",
            Mix::Mixed => "mixed",
        };
        write!(f, "{size}{unit}/{order}/{what}/d{depth}/b{batch}")
    }
}

/// Generates the requests of a workload.
pub(crate) struct Generator {
    workload: Workload,
    chance: Random,
    blocks: u32,
    /// The number of consecutive requests that the disk has room for.
    positions: u64,
    next: u64,
}

impl Generator {
    /// Creates a generator for a disk that `info` describes, or `None` if the size is no multiple of its
    /// blocks.
    pub(crate) fn new(workload: Workload, info: &BlockInfo, seed: u64) -> Option<Self> {
        let blocks = workload.bytes / info.block_bytes;
        let fits = blocks > 0 && workload.bytes.is_multiple_of(info.block_bytes);
        let positions = info.blocks / u64::from(blocks.max(1));
        (fits && positions > 0).then(|| Self {
            workload,
            chance: Random::new(seed, 0),
            blocks,
            positions,
            next: 0,
        })
    }

    #[inline]
    fn prepare(&mut self, request: &mut RequestHead) {
        let operation = match self.workload.mix {
            Mix::Read => Operation::Read,
            Mix::Write => Operation::Write,
            Mix::Mixed if self.chance.below(100) < READS => Operation::Read,
            Mix::Mixed => Operation::Write,
        };
        let position = if self.workload.is_random {
            self.chance.below(self.positions)
        } else {
            self.next = if self.next + 1 < self.positions { self.next + 1 } else { 0 };
            self.next
        };
        request.set(operation, position * u64::from(self.blocks), self.blocks);
    }
}

/// Submits requests and takes their completions.
pub(crate) struct Client {
    /// Requests that are not in flight.
    idle: Requests,
    ready: Requests,
    done: Requests,
    /// The time of submission, by tag.
    began: Box<[u64]>,
}

/// The results of one call.
pub(crate) struct Exchanged {
    /// The number of submitted requests.
    pub(crate) submitted: usize,
    /// The number of answered requests.
    pub(crate) answered: usize,
    /// The ticks between the clock readings before and after.
    pub(crate) ticks: u64,
    /// The clock reading after the call.
    pub(crate) now: u64,
}

impl Client {
    /// Creates a client with `depth` requests of `bytes` bytes.
    pub(crate) fn new(depth: usize, bytes: u32) -> Self {
        let request = |tag| {
            let head = RequestHead::new(Operation::Read, 0, 1).with_tag(tag as u64);
            RRef::<Request>::with_capacity(head, bytes as usize)
        };
        let idle: Requests = (0..depth).map(request).collect();
        let empty = || Vec::with_capacity(depth);
        Self { idle, ready: empty(), done: empty(), began: alloc::vec![0; depth].into() }
    }

    /// Returns the number of requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.began.len() - self.idle.len()
    }

    /// Returns the number of requests that are not in flight.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Submits at most `batch` requests and takes completions. Passes the ticks of each answered request to
    /// `latency`.
    #[inline]
    pub(crate) fn exchange(
        &mut self,
        path: &mut dyn RequestPath,
        generator: &mut Generator,
        batch: usize,
        wait_until_ns: u64,
        mut latency: impl FnMut(u64),
    ) -> Result<Exchanged, Failure> {
        let submitted = batch.min(self.idle.len());
        let first = self.idle.len() - submitted;
        self.ready.extend(self.idle.drain(first..));
        self.ready.iter_mut().for_each(|request| generator.prepare(request.head_mut()));
        let start = tsc();
        for request in &self.ready {
            self.began[request.tag() as usize] = start;
        }
        path.exchange(&mut self.ready, &mut self.done, wait_until_ns)?;
        let now = tsc();
        let answered = self.done.len();
        for request in &self.done {
            latency(now - self.began[request.tag() as usize]);
        }
        self.idle.append(&mut self.done);
        Ok(Exchanged { submitted, answered, ticks: now - start, now })
    }

    /// Like [`Self::exchange`] with fixed requests, so that nothing but the call is measured. For paths that
    /// answer by the same call.
    #[inline]
    pub(crate) fn repeat(&mut self, path: &mut dyn RequestPath) -> Result<(), Failure> {
        self.idle.iter_mut().for_each(|request| request.head_mut().set(Operation::Read, 0, 1));
        path.exchange(&mut self.idle, &mut self.done, 0)?;
        core::mem::swap(&mut self.idle, &mut self.done);
        Ok(())
    }

    /// Waits until no request is in flight.
    pub(crate) fn drain(&mut self, path: &mut dyn RequestPath) -> Result<(), Failure> {
        let mut last_answer = now_ns();
        while self.in_flight() > 0 {
            path.exchange(&mut self.ready, &mut self.done, now_ns() + 1_000_000)?;
            if !self.done.is_empty() {
                last_answer = now_ns();
                self.idle.append(&mut self.done);
            } else if now_ns() > last_answer + TIMEOUT_NS {
                return Err(Failure::Silence { missing: self.in_flight() });
            }
        }
        Ok(())
    }
}

/// Returns the nanoseconds since boot.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(time::now().as_nanos()).unwrap_or(u64::MAX)
}
