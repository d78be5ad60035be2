//! A writer: writes cells of the scratch area, flushes, and verifies each cell that it reads. At the end it
//! verifies all of its cells.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use coppice_block::{Operation, Request, RequestHead};
use coppice_experiment::{Failure, Random};
use coppice_rref::RRef;

use crate::context::Context;
use crate::pattern;
use crate::queue::Queue;

/// The number of requests in flight.
pub(crate) const DEPTH: usize = 16;
/// The size of a cell, the unit of reads and writes: this, or one block if that is larger.
const CELL_BYTES: u64 = 4096;
/// The largest number of cells of one writer: small enough that each cell is written often.
const MAX_CELLS: u64 = 2048;
/// The mean number of writes per flush.
const WRITES_PER_FLUSH: u64 = 64;
/// The mean number of writes per write with FUA, which completes only once the data is on the medium.
const WRITES_PER_FUA: u64 = 16;

/// The part of the scratch area that one writer owns.
struct Area {
    first_block: u64,
    cell_blocks: u32,
    cells: u64,
}

impl Area {
    fn of(context: &Context, number: u64, writers: u64) -> Result<Self, Failure> {
        let disk = &context.disk;
        let block_bytes = u64::from(disk.block_bytes);
        let cell_blocks = (CELL_BYTES / block_bytes).max(1);
        let first = context.plan.scratch_from.div_ceil(block_bytes);
        let cells = (disk.blocks.saturating_sub(first) / cell_blocks / writers).min(MAX_CELLS);
        if cells < 2 * DEPTH as u64 {
            return Err(Failure(format!("the scratch area has room for only {cells} cells per writer")));
        }
        let cell_blocks = cell_blocks as u32;
        Ok(Self { first_block: first + number * cells * u64::from(cell_blocks), cell_blocks, cells })
    }

    fn lba(&self, cell: usize) -> u64 {
        self.first_block + cell as u64 * u64::from(self.cell_blocks)
    }
}

/// The purpose of a request in flight.
#[derive(Clone, Copy)]
enum Job {
    Write { cell: usize },
    Read { cell: usize },
    Flush,
}

/// Runs writer `number` of `writers` until the run is over, then verifies all of its cells.
pub(crate) fn run(context: &Context, number: u64, writers: u64) -> Result<(), Failure> {
    let area = Area::of(context, number, writers)?;
    let disk = &context.disk;
    let depth = DEPTH.min(disk.queue_depth as usize);
    let head = RequestHead::new(Operation::Read, 0, area.cell_blocks);
    let request = || RRef::with_capacity(head, disk.bytes(area.cell_blocks) as usize);
    let mut writer = Writer {
        context,
        queue: Queue::open(context, depth)?,
        sequences: (0..area.cells).map(|_| 0).collect(),
        is_busy: (0..area.cells).map(|_| false).collect(),
        jobs: (0..depth).map(|_| Job::Flush).collect(),
        spare: (0..depth).map(|slot| (slot, request())).collect(),
        random: Random::new(context.trial.schedule.seed, number),
        area,
    };
    writer.work()?;
    writer.verify_all()
}

struct Writer<'a> {
    context: &'a Context,
    queue: Queue<'a>,
    area: Area,
    /// The number of writes to each cell, completed or in flight.
    sequences: Vec<u32>,
    /// Marks the cells with a request in flight. With two writes of one block in flight, the final contents
    /// would be unknown.
    is_busy: Vec<bool>,
    /// The purpose of the request in each slot.
    jobs: Vec<Job>,
    spare: Vec<(usize, RRef<Request>)>,
    random: Random,
}

impl Writer<'_> {
    fn work(&mut self) -> Result<(), Failure> {
        let mut completions = Vec::new();
        while !self.context.trial.is_over() {
            while let Some((slot, request)) = self.spare.pop() {
                let job = self.choose();
                self.submit(slot, job, request);
            }
            self.queue.exchange(true, &mut completions)?;
            completions.drain(..).for_each(|(slot, request)| self.complete(slot, request));
        }
        self.drain()
    }

    /// Waits until all requests in flight are complete.
    fn drain(&mut self) -> Result<(), Failure> {
        let mut completions = Vec::new();
        self.queue.drain(|completion| completions.push(completion))?;
        completions.drain(..).for_each(|(slot, request)| self.complete(slot, request));
        Ok(())
    }

    fn choose(&mut self) -> Job {
        if self.random.below(2 * WRITES_PER_FLUSH) == 0 && self.context.can_flush() {
            return Job::Flush;
        }
        // At most half of the cells are busy (`Area::of` has at least twice `DEPTH`), so a few draws find a
        // free one.
        let cell = loop {
            let cell = self.random.below(self.area.cells) as usize;
            if !self.is_busy[cell] {
                break cell;
            }
        };
        if self.random.below(2) == 0 { Job::Write { cell } } else { Job::Read { cell } }
    }

    fn submit(&mut self, slot: usize, job: Job, mut request: RRef<Request>) {
        let head = match job {
            Job::Flush => RequestHead::flush(),
            Job::Read { cell } => {
                RequestHead::new(Operation::Read, self.area.lba(cell), self.area.cell_blocks)
            }
            Job::Write { cell } => {
                self.sequences[cell] += 1;
                pattern::fill(request.bytes_mut(), self.area.lba(cell), self.sequences[cell]);
                let head = RequestHead::new(Operation::Write, self.area.lba(cell), self.area.cell_blocks);
                if self.random.below(WRITES_PER_FUA) == 0 { head.with_fua() } else { head }
            }
        };
        *request.head_mut() = head;
        if let Job::Read { cell } | Job::Write { cell } = job {
            self.is_busy[cell] = true;
        }
        self.jobs[slot] = job;
        self.queue.submit(slot, request);
    }

    fn complete(&mut self, slot: usize, request: RRef<Request>) {
        let bytes = request.capacity() as u64;
        match self.jobs[slot] {
            Job::Flush => {}
            Job::Write { cell } => {
                self.is_busy[cell] = false;
                self.context.written_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Job::Read { cell } => {
                self.is_busy[cell] = false;
                self.context.read_bytes.fetch_add(bytes, Ordering::Relaxed);
                let (lba, sequence) = (self.area.lba(cell), self.sequences[cell]);
                let wrong = pattern::wrong_bytes(request.bytes(), lba, sequence);
                if wrong > 0 {
                    self.context.wrong_bytes.fetch_add(wrong, Ordering::Relaxed);
                    self.context.trial.report_failure(&format!(
                        "{wrong} bytes from block {lba} on differ from the data of write {sequence}"
                    ));
                }
            }
        }
        self.spare.push((slot, request));
    }

    /// Flushes, then reads and verifies every cell: each acknowledged write must be on the disk.
    fn verify_all(&mut self) -> Result<(), Failure> {
        if self.context.can_flush()
            && let Some((slot, request)) = self.spare.pop()
        {
            self.submit(slot, Job::Flush, request);
            self.drain()?;
        }
        let mut completions = Vec::new();
        for cell in 0..self.sequences.len() {
            if self.spare.is_empty() {
                while completions.is_empty() {
                    self.queue.exchange(true, &mut completions)?;
                }
                completions.drain(..).for_each(|(slot, request)| self.complete(slot, request));
            }
            let (slot, request) = self.spare.pop().expect("a request was just completed");
            self.submit(slot, Job::Read { cell }, request);
        }
        self.drain()
    }
}
