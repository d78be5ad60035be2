//! Writes blocks to the scratch area, flushes, and verifies each block that it reads; at the end all of them.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use coppice_block::{Operation, Request, RequestHead};
use coppice_experiment::{Failure, Random};
use coppice_rref::RRef;

use crate::pattern;
use crate::queue::Queue;
use crate::stage::Stage;

/// How many requests are under way at a time.
pub(crate) const DEPTH: usize = 16;
/// What is written and read at a time, unless one block is more.
const CELL_BYTES: u64 = 4096;
/// A writer keeps to so many cells, so that each is written often.
const CELLS: u64 = 2048;
/// One of so many writes is followed by a flush, and one is answered only when the medium has it.
const FLUSHES: u64 = 64;
const FUAS: u64 = 16;

/// What may be written: a part of the scratch area for each writer.
struct Area {
    /// Its first block.
    from: u64,
    cell_blocks: u32,
    cells: u64,
}

impl Area {
    fn of(stage: &Stage, number: u64, writers: u64) -> Result<Self, Failure> {
        let disk = &stage.disk;
        let block_bytes = u64::from(disk.block_bytes);
        let cell_blocks = (CELL_BYTES / block_bytes).max(1);
        let first = stage.plan.scratch_from.div_ceil(block_bytes);
        let cells = (disk.blocks.saturating_sub(first) / cell_blocks / writers).min(CELLS);
        if cells < 2 * DEPTH as u64 {
            return Err(Failure(format!(
                "the scratch area has room for {cells} cells for each writer: too few"
            )));
        }
        let cell_blocks = cell_blocks as u32;
        Ok(Self { from: first + number * cells * u64::from(cell_blocks), cell_blocks, cells })
    }

    fn lba(&self, cell: usize) -> u64 {
        self.from + cell as u64 * u64::from(self.cell_blocks)
    }
}

/// What a request was for.
#[derive(Clone, Copy)]
enum Job {
    Write { cell: usize },
    Read { cell: usize },
    Flush,
}

/// Writes and reads as number `number` of `writers` until the run is over.
pub(crate) fn run(stage: &Stage, number: u64, writers: u64) -> Result<(), Failure> {
    let area = Area::of(stage, number, writers)?;
    let disk = &stage.disk;
    let depth = DEPTH.min(disk.queue_depth as usize);
    let head = RequestHead::new(Operation::Read, 0, area.cell_blocks);
    let request = || RRef::with_capacity(head, disk.bytes(area.cell_blocks) as usize);
    let mut writer = Writer {
        stage,
        queue: Queue::open(stage, depth)?,
        sequences: (0..area.cells).map(|_| 0).collect(),
        is_busy: (0..area.cells).map(|_| false).collect(),
        jobs: (0..depth).map(|_| Job::Flush).collect(),
        spare: (0..depth).map(|place| (place, request())).collect(),
        random: Random::new(stage.trial.schedule.seed, number),
        area,
    };
    writer.work()?;
    writer.prove()
}

struct Writer<'a> {
    stage: &'a Stage,
    queue: Queue<'a>,
    area: Area,
    /// How often each cell was written, by writes that are answered or under way.
    sequences: Vec<u32>,
    /// Something is under way with it. Who has two writes of one block under way cannot know which one stays.
    is_busy: Vec<bool>,
    /// What each place's request is for.
    jobs: Vec<Job>,
    spare: Vec<(usize, RRef<Request>)>,
    random: Random,
}

impl Writer<'_> {
    fn work(&mut self) -> Result<(), Failure> {
        let mut answers = Vec::new();
        while !self.stage.trial.is_over() {
            while let Some((place, request)) = self.spare.pop() {
                let job = self.choose();
                self.submit(place, job, request);
            }
            self.queue.exchange(true, &mut answers)?;
            answers.drain(..).for_each(|(place, request)| self.take(place, request));
        }
        self.settle()
    }

    /// Has all that is under way answered.
    fn settle(&mut self) -> Result<(), Failure> {
        let mut answers = Vec::new();
        self.queue.drain(|answer| answers.push(answer))?;
        answers.drain(..).for_each(|(place, request)| self.take(place, request));
        Ok(())
    }

    fn choose(&mut self) -> Job {
        if self.random.below(2 * FLUSHES) == 0 && self.stage.can_flush() {
            return Job::Flush;
        }
        // Of twice as many cells as can be busy, a second look finds one that is not.
        let cell = loop {
            let cell = self.random.below(self.area.cells) as usize;
            if !self.is_busy[cell] {
                break cell;
            }
        };
        if self.random.below(2) == 0 { Job::Write { cell } } else { Job::Read { cell } }
    }

    fn submit(&mut self, place: usize, job: Job, mut request: RRef<Request>) {
        let head = match job {
            Job::Flush => RequestHead::flush(),
            Job::Read { cell } => {
                RequestHead::new(Operation::Read, self.area.lba(cell), self.area.cell_blocks)
            }
            Job::Write { cell } => {
                self.sequences[cell] += 1;
                pattern::fill(request.bytes_mut(), self.area.lba(cell), self.sequences[cell]);
                let head = RequestHead::new(Operation::Write, self.area.lba(cell), self.area.cell_blocks);
                if self.random.below(FUAS) == 0 { head.with_fua() } else { head }
            }
        };
        *request.head_mut() = head;
        if let Job::Read { cell } | Job::Write { cell } = job {
            self.is_busy[cell] = true;
        }
        self.jobs[place] = job;
        self.queue.submit(place, request);
    }

    fn take(&mut self, place: usize, request: RRef<Request>) {
        let bytes = request.capacity() as u64;
        match self.jobs[place] {
            Job::Flush => {}
            Job::Write { cell } => {
                self.is_busy[cell] = false;
                self.stage.written_bytes.fetch_add(bytes, Ordering::Relaxed);
            }
            Job::Read { cell } => {
                self.is_busy[cell] = false;
                self.stage.read_bytes.fetch_add(bytes, Ordering::Relaxed);
                let (lba, sequence) = (self.area.lba(cell), self.sequences[cell]);
                let wrong = pattern::wrong(request.bytes(), lba, sequence);
                if wrong > 0 {
                    self.stage.wrong_bytes.fetch_add(wrong, Ordering::Relaxed);
                    self.stage.trial.report_failure(&format!(
                        "{wrong} bytes from block {lba} on are not what write {sequence} of them has written"
                    ));
                }
            }
        }
        self.spare.push((place, request));
    }

    /// Flushes, and reads every cell: each acknowledged write is there.
    fn prove(&mut self) -> Result<(), Failure> {
        if self.stage.can_flush()
            && let Some((place, request)) = self.spare.pop()
        {
            self.submit(place, Job::Flush, request);
            self.settle()?;
        }
        let mut answers = Vec::new();
        for cell in 0..self.sequences.len() {
            if self.spare.is_empty() {
                while answers.is_empty() {
                    self.queue.exchange(true, &mut answers)?;
                }
                answers.drain(..).for_each(|(place, request)| self.take(place, request));
            }
            let (place, request) = self.spare.pop().expect("one was just answered");
            self.submit(place, Job::Read { cell }, request);
        }
        self.settle()
    }
}
