//! [`Workload`]: what is asked of a disk; [`Client`]: who asks, and keeps so many requests under way.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use coppice_block::{BlockInfo, Operation, Request, RequestHead};
use coppice_experiment::Random;
use coppice_rref::RRef;
use coppice_runtime::time::{self, tsc};

use crate::target::{Failure, Pile, Target};

/// A disk that says nothing for so long is broken.
const PATIENCE_NS: u64 = 5_000_000_000;
/// Of a mixed load, so many percent are reads.
const READS: u64 = 70;

/// What is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mix {
    Read,
    Write,
    /// [`READS`] percent reads.
    Mixed,
}

/// What is asked of a disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    /// Of one request.
    pub(crate) bytes: u32,
    /// Anywhere, or one behind the other.
    pub(crate) is_random: bool,
    pub(crate) mix: Mix,
    /// Requests under way, at most.
    pub(crate) depth: usize,
    /// Requests that are handed in by one call, at most.
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

/// Draws requests of a workload.
pub(crate) struct Generator {
    workload: Workload,
    chance: Random,
    blocks: u32,
    /// How many requests, one behind the other, the disk has room for.
    places: u64,
    next: u64,
}

impl Generator {
    /// For a disk that `info` describes; `None` if it has no blocks of that size.
    pub(crate) fn new(workload: Workload, info: &BlockInfo, seed: u64) -> Option<Self> {
        let blocks = workload.bytes / info.block_bytes;
        let fits = blocks > 0 && workload.bytes.is_multiple_of(info.block_bytes);
        let places = info.blocks / u64::from(blocks.max(1));
        (fits && places > 0).then(|| Self { workload, chance: Random::new(seed, 0), blocks, places, next: 0 })
    }

    #[inline]
    fn prepare(&mut self, request: &mut RequestHead) {
        let operation = match self.workload.mix {
            Mix::Read => Operation::Read,
            Mix::Write => Operation::Write,
            Mix::Mixed if self.chance.below(100) < READS => Operation::Read,
            Mix::Mixed => Operation::Write,
        };
        let place = if self.workload.is_random {
            self.chance.below(self.places)
        } else {
            self.next = if self.next + 1 < self.places { self.next + 1 } else { 0 };
            self.next
        };
        request.set(operation, place * u64::from(self.blocks), self.blocks);
    }
}

/// Who asks.
pub(crate) struct Client {
    /// Not under way.
    idle: Pile,
    ready: Pile,
    done: Pile,
    /// When each was handed in, by its tag.
    began: Box<[u64]>,
}

/// What one call came to.
pub(crate) struct Exchanged {
    /// Requests that were handed in.
    pub(crate) submitted: usize,
    /// Requests that were answered.
    pub(crate) answered: usize,
    /// Between the clock's readings before and after.
    pub(crate) ticks: u64,
    /// The one after.
    pub(crate) now: u64,
}

impl Client {
    /// With `depth` requests of so many bytes.
    pub(crate) fn new(depth: usize, bytes: u32) -> Self {
        let request = |tag| {
            let head = RequestHead::new(Operation::Read, 0, 1).with_tag(tag as u64);
            RRef::<Request>::with_capacity(head, bytes as usize)
        };
        let idle: Pile = (0..depth).map(request).collect();
        let pile = || Vec::with_capacity(depth);
        Self { idle, ready: pile(), done: pile(), began: alloc::vec![0; depth].into() }
    }

    /// How many requests are under way.
    pub(crate) fn under_way(&self) -> usize {
        self.began.len() - self.idle.len()
    }

    /// How many are not.
    pub(crate) fn idle(&self) -> usize {
        self.idle.len()
    }

    /// Hands in at most `batch` requests, and takes answers. `latency` hears of each how many ticks it took.
    #[inline]
    pub(crate) fn exchange(
        &mut self,
        target: &mut dyn Target,
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
        target.exchange(&mut self.ready, &mut self.done, wait_until_ns)?;
        let now = tsc();
        let answered = self.done.len();
        for request in &self.done {
            latency(now - self.began[request.tag() as usize]);
        }
        self.idle.append(&mut self.done);
        Ok(Exchanged { submitted, answered, ticks: now - start, now })
    }

    /// As [`Self::exchange`] with what was asked before, so that nothing but the call is in between. For what is handed in and
    /// answered by the same call.
    #[inline]
    pub(crate) fn repeat(&mut self, target: &mut dyn Target) -> Result<(), Failure> {
        self.idle.iter_mut().for_each(|request| request.head_mut().set(Operation::Read, 0, 1));
        target.exchange(&mut self.idle, &mut self.done, 0)?;
        core::mem::swap(&mut self.idle, &mut self.done);
        Ok(())
    }

    /// Waits until nothing is under way.
    pub(crate) fn drain(&mut self, target: &mut dyn Target) -> Result<(), Failure> {
        let mut heard = now_ns();
        while self.under_way() > 0 {
            target.exchange(&mut self.ready, &mut self.done, now_ns() + 1_000_000)?;
            if !self.done.is_empty() {
                heard = now_ns();
                self.idle.append(&mut self.done);
            } else if now_ns() > heard + PATIENCE_NS {
                return Err(Failure::Silence { missing: self.under_way() });
            }
        }
        Ok(())
    }
}

/// Time since boot.
pub(crate) fn now_ns() -> u64 {
    u64::try_from(time::now().as_nanos()).unwrap_or(u64::MAX)
}
