//! [`Writer`]: one thread's part of a load, without the thread and without the queue: says what to ask the disk next, and
//! is told what it answered.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_block::{BlockError, Operation, RequestHead};
use coppice_disk_oracle::{Answer, Content, Extent, Flush, Glimpse, Mode, Refusal, Stamp, Write};
use coppice_experiment::Random;

use crate::book::Book;

/// What is done, out of a thousand; the rest are writes of data.
const READS: u64 = 450;
const ZEROES: u64 = 30;
const DEALLOCATIONS: u64 = 20;
const FLUSHES: u64 = 20;

/// One write of so many is FUA.
const FUA: u64 = 10;

/// How often a place for a write is looked for before a read is made of it.
const TRIES: u32 = 8;

/// How often a read that fails is tried again at the end.
const REPEATS: u32 = 50;

/// Under a tag's number of a place is how often the place was used, so that an old tag is told from a new one.
const PLACE_BITS: u32 = 16;

/// What a request under way is for.
#[derive(Clone, Debug)]
enum Job {
    Read(Glimpse),
    Write { write: Write, extent: Extent, sequence: u64, fua: bool },
    Flush(Flush),
}

/// A place for a request under way.
struct Place {
    /// How often it was used.
    uses: u64,
    job: Option<Job>,
    /// When it was submitted.
    since: Duration,
}

/// What the writer is at.
enum Course {
    /// Whatever chance says.
    Load,
    /// Reads all from the block on, once; and pieces again that could not be read, with how often that was tried.
    Proof { next: u64, again: Vec<(Extent, u32)> },
}

/// What an answer came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Taken {
    /// It is the answer to what was asked in that place.
    Answer(usize),
    /// It is none that was waited for.
    Stray,
}

/// One thread's part of a load.
pub(crate) struct Writer {
    book: Arc<Book>,
    number: u16,
    random: Random,
    places: Vec<Place>,
    course: Course,
    /// What makes room in the ledger comes first.
    crowded: Option<Crowded>,
}

/// A block has more values than the ledger keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowded {
    /// A flush may help.
    Flush(u64),
    /// It did not: a write that is alone and durable does.
    Write(u64),
}

impl Writer {
    /// Number `number`, which does what chance says.
    pub(crate) fn load(book: Arc<Book>, number: u16) -> Self {
        Self::new(book, number, Course::Load)
    }

    /// One that reads everything.
    pub(crate) fn proof(book: Arc<Book>) -> Self {
        let next = book.options.range.first;
        Self::new(book, u16::MAX, Course::Proof { next, again: Vec::new() })
    }

    fn new(book: Arc<Book>, number: u16, course: Course) -> Self {
        let depth = book.options.depth.min(1 << PLACE_BITS);
        let places = (0..depth).map(|_| Place { uses: 0, job: None, since: Duration::ZERO }).collect();
        let random = Random::new(book.options.seed, number.into());
        Self { book, number, random, places, course, crowded: None }
    }

    /// How many requests it may have under way.
    pub(crate) fn depth(&self) -> usize {
        self.places.len()
    }

    /// Whether it can end at any time; a proof ends when all is read.
    pub(crate) fn is_stoppable(&self) -> bool {
        matches!(self.course, Course::Load)
    }

    /// The place that a head names, whether anything is under way there or not.
    pub(crate) fn place_of(&self, head: &RequestHead) -> Option<usize> {
        let place = (head.tag() & ((1 << PLACE_BITS) - 1)) as usize;
        (place < self.places.len()).then_some(place)
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.places.iter().all(|place| place.job.is_none())
    }

    /// Bytes of the largest request.
    pub(crate) fn capacity(&self) -> usize {
        self.book.options.most_blocks as usize * self.book.info.block_bytes as usize
    }

    /// What to ask in place `place`, where nothing is under way: a head to submit, with the data in `data`. `None` when there is
    /// nothing to ask now.
    pub(crate) fn ask(&mut self, place: usize, now: Duration, data: &mut [u8]) -> Option<RequestHead> {
        let (job, head) = match &self.course {
            Course::Load => self.any()?,
            Course::Proof { .. } => self.next_of_proof()?,
        };
        if let Job::Write { write: Write::Data, extent, sequence, .. } = job {
            self.compose(extent, sequence, data);
        }
        let entry = &mut self.places[place];
        debug_assert!(entry.job.is_none(), "nothing is under way in this place");
        entry.uses += 1;
        (entry.job, entry.since) = (Some(job), now);
        Some(head.with_tag(entry.uses << PLACE_BITS | place as u64))
    }

    fn compose(&self, extent: Extent, sequence: u64, data: &mut [u8]) {
        let (run, journal) = (self.book.options.run, self.book.lines());
        let Extent { first, blocks } = extent;
        let pieces = data.chunks_exact_mut(self.book.info.block_bytes as usize);
        for (lba, block) in extent.lbas().zip(pieces) {
            Stamp { run, lba, sequence, first, blocks, writer: self.number, journal }.compose(block);
        }
    }

    fn any(&mut self) -> Option<(Job, RequestHead)> {
        match self.crowded {
            Some(Crowded::Flush(lba)) => {
                self.crowded = Some(Crowded::Write(lba));
                return Some(self.flush());
            }
            Some(Crowded::Write(lba)) => {
                self.crowded = None;
                let extent = Extent { first: lba, blocks: 1 };
                let fua = self.book.options.fua;
                return self.write(Write::Data, extent, Mode::Alone, fua).ok().or_else(|| self.read());
            }
            None => {}
        }
        let can = |operation| self.book.info.operations.contains(operation);
        let chance = self.random.below(1000);
        if chance < READS {
            return self.read();
        }
        if chance < READS + FLUSHES && can(Operation::Flush) {
            return Some(self.flush());
        }
        let erased = chance.checked_sub(READS + FLUSHES).filter(|chance| *chance < ZEROES + DEALLOCATIONS);
        let write = match erased {
            Some(chance) if chance < ZEROES && can(Operation::WriteZeroes) => Write::Zeroes,
            Some(chance) if chance >= ZEROES && can(Operation::Deallocate) => Write::Deallocate,
            _ => Write::Data,
        };
        let beside = self.book.options.beside;
        let mode =
            if beside > 0 && self.random.below(beside.into()) == 0 { Mode::Beside } else { Mode::Alone };
        let fua = self.book.options.fua && self.random.below(FUA) == 0 && write != Write::Deallocate;
        for _ in 0..TRIES {
            let extent = self.somewhere();
            match self.write(write, extent, mode, fua) {
                Ok(asked) => return Some(asked),
                Err(Refusal::Full(full)) => {
                    // What the flush did not settle, a write will.
                    self.crowded = Some(Crowded::Flush(full.lba));
                    return self.read();
                }
                Err(Refusal::BeingWritten { .. } | Refusal::OutOfRange(_)) => {}
            }
        }
        self.read()
    }

    /// Blocks in a row, more often few than many, and half of the time in an eighth of the range.
    fn somewhere(&mut self) -> Extent {
        let Extent { first, blocks } = self.book.options.range;
        let most = self.book.options.most_blocks.ilog2() + 1;
        let limit = (1_u64 << self.random.below(most.into())).min(self.book.options.most_blocks.into());
        let count = 1 + self.random.below(limit);
        // Not only powers of two: the largest of all, too.
        let count = if self.random.below(16) == 0 { self.book.options.most_blocks.into() } else { count };
        let room = u64::from(blocks) - count + 1;
        let room = if self.random.below(2) == 0 { (room / 8).max(1) } else { room };
        Extent { first: first + self.random.below(room), blocks: count as u32 }
    }

    fn flush(&self) -> (Job, RequestHead) {
        let flush = self.book.with(|ledger| ledger.begin_flush());
        (Job::Flush(flush), RequestHead::flush())
    }

    fn read(&mut self) -> Option<(Job, RequestHead)> {
        let extent = self.somewhere();
        self.read_of(extent)
    }

    fn read_of(&self, extent: Extent) -> Option<(Job, RequestHead)> {
        let glimpse = self.book.with(|ledger| ledger.glimpse(extent)).ok()?;
        Some((Job::Read(glimpse), RequestHead::new(Operation::Read, extent.first, extent.blocks)))
    }

    fn write(
        &mut self,
        write: Write,
        extent: Extent,
        mode: Mode,
        fua: bool,
    ) -> Result<(Job, RequestHead), Refusal> {
        let sequence = self.book.begin(write, extent, mode)?;
        let operation = match write {
            Write::Data => Operation::Write,
            Write::Zeroes => Operation::WriteZeroes,
            Write::Deallocate => Operation::Deallocate,
        };
        let head = RequestHead::new(operation, extent.first, extent.blocks);
        let head = if fua { head.with_fua() } else { head };
        Ok((Job::Write { write, extent, sequence, fua }, head))
    }

    fn next_of_proof(&mut self) -> Option<(Job, RequestHead)> {
        let Course::Proof { next, again } = &mut self.course else { return None };
        let extent = if let Some((extent, _)) = again.iter().find(|(_, tried)| tried % 2 == 1) {
            *extent
        } else {
            let blocks =
                (self.book.options.range.lbas().end - *next).min(self.book.options.most_blocks.into());
            let extent = Extent { first: *next, blocks: blocks as u32 };
            *next += blocks;
            extent
        };
        if extent.blocks == 0 {
            return None;
        }
        // Odd: it is to be tried; even: that is under way.
        again.iter_mut().filter(|(one, _)| *one == extent).for_each(|(_, tried)| *tried += 1);
        self.read_of(extent)
    }

    /// Something has come back. `head` says what it is, and `data` what was read.
    pub(crate) fn take(&mut self, head: &RequestHead, data: &[u8]) -> Taken {
        let uses = head.tag() >> PLACE_BITS;
        let place = self.place_of(head);
        let tally = &self.book.tally;
        let entry = place.and_then(|place| Some((place, self.places.get_mut(place)?)));
        let Some((place, entry)) = entry.filter(|(_, entry)| (1..=entry.uses).contains(&uses)) else {
            tally.unknown.add(1);
            return Taken::Stray;
        };
        let Some(job) = entry.job.take_if(|_| entry.uses == uses) else {
            tally.twice.add(1);
            return Taken::Stray;
        };
        match head.result() {
            Ok(()) => self.is_done(job, data),
            Err(error) => {
                tally.error(&error);
                let refused = matches!(
                    error,
                    BlockError::QueueFull { .. }
                        | BlockError::LbaOutOfRange { .. }
                        | BlockError::TooLarge { .. }
                        | BlockError::BufferTooSmall { .. }
                        | BlockError::NotSupported { .. }
                );
                self.has_failed(job, refused);
            }
        }
        Taken::Answer(place)
    }

    fn is_done(&mut self, job: Job, data: &[u8]) {
        let (book, tally) = (&self.book, &self.book.tally);
        match job {
            Job::Flush(flush) => {
                tally.flushes.add(1);
                book.end_flush(flush);
            }
            Job::Write { write, extent, sequence, fua } => {
                let is_durable = fua || !book.info.volatile_write_cache;
                book.end(write, extent, sequence, if is_durable { Answer::Durable } else { Answer::Done });
                match write {
                    Write::Data => tally.writes.add(1),
                    Write::Zeroes => tally.zeroes.add(1),
                    Write::Deallocate => tally.deallocations.add(1),
                }
                if write != Write::Deallocate {
                    tally.blocks_written.add(extent.blocks.into());
                    tally.fua_writes.add((fua && write == Write::Data).into());
                }
            }
            Job::Read(glimpse) => {
                let bytes = book.info.block_bytes as usize;
                let blocks = glimpse.extent().blocks;
                // The checksums without the lock, which is for looking up.
                let contents: Vec<Content> =
                    data.chunks_exact(bytes).take(blocks as usize).map(Content::of).collect();
                book.with(|ledger| {
                    ledger.judge(&glimpse, &contents, |wrong| tally.wrong(wrong, book.options.atomic))
                });
                tally.reads.add(1);
                tally.blocks_verified.add(blocks.into());
                if let Course::Proof { again, .. } = &mut self.course {
                    again.retain(|(extent, _)| *extent != glimpse.extent());
                }
            }
        }
    }

    /// `refused`: it has not even begun.
    fn has_failed(&mut self, job: Job, refused: bool) {
        match job {
            Job::Flush(_) => {}
            Job::Write { write, extent, sequence, .. } => {
                let answer = if refused { Answer::Withdrawn } else { Answer::Failed };
                self.book.end(write, extent, sequence, answer);
            }
            Job::Read(glimpse) => {
                if let Course::Proof { again, .. } = &mut self.course {
                    let extent = glimpse.extent();
                    match again.iter_mut().find(|(one, _)| *one == extent) {
                        None => again.push((extent, 1)),
                        Some((_, tried)) if *tried < 2 * REPEATS => *tried += 1,
                        Some(_) => {
                            again.retain(|(one, _)| *one != extent);
                            self.book.tally.unverified.add(extent.blocks.into());
                        }
                    }
                }
            }
        }
    }

    /// The queue has broken off: what was under way in place `place` has come back, and nobody knows how far it was.
    pub(crate) fn give_up(&mut self, place: usize) {
        if let Some(job) = self.places[place].job.take() {
            self.has_failed(job, false);
        }
    }

    /// What was under way in place `place` will never be answered. The write may still happen.
    pub(crate) fn lose(&mut self, place: usize) {
        if let Some(job) = self.places[place].job.take() {
            self.book.tally.lost.add(1);
            if let (Course::Proof { .. }, Job::Read(_)) = (&self.course, &job) {
                self.has_failed(job, false);
            }
        }
    }

    /// Whether what is under way in place `place` was submitted before `time`.
    pub(crate) fn is_older(&self, place: usize, time: Duration) -> bool {
        let Place { job, since, .. } = &self.places[place];
        job.is_some() && *since < time
    }
}

#[cfg(test)]
mod tests;
