//! [`Writer`]: one thread's part of a load, without the thread and without the queue. It selects the next
//! request and checks the completions.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use coppice_block::{BlockError, Operation, RequestHead};
use coppice_disk_oracle::{
    Content, Extent, Flush, Mode, ReadExpectation, Refusal, Stamp, Write, WriteOutcome,
};
use coppice_experiment::Random;

use crate::load_state::LoadState;

/// The mix of operations, in parts of 1,000. The rest are writes of data.
const READS: u64 = 450;
const ZEROES: u64 = 30;
const DEALLOCATIONS: u64 = 20;
const FLUSHES: u64 = 20;

/// One in this many writes is FUA.
const FUA: u64 = 10;

/// The attempts to find free blocks for a write before a read takes its place.
const TRIES: u32 = 8;

/// The attempts to repeat a failed read at the end.
const REPEATS: u32 = 50;

/// A tag holds the number of uses of its entry above the entry's index, so that an old tag differs from a new
/// one.
const INDEX_BITS: u32 = 16;

/// The purpose of a request in flight.
#[derive(Clone, Debug)]
enum Job {
    Read(ReadExpectation),
    Write { write: Write, extent: Extent, sequence: u64, fua: bool },
    Flush(Flush),
}

/// An entry for a request in flight.
struct Entry {
    /// The number of uses of this entry.
    uses: u64,
    job: Option<Job>,
    /// The time of submission.
    since: Duration,
}

/// The phase of the writer.
enum Phase {
    /// Random operations.
    Load,
    /// Reads every block once, from `next` on. Ranges that could not be read are repeated, with the number of
    /// attempts.
    Proof { next: u64, again: Vec<(Extent, u32)> },
}

/// The meaning of a completion.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Completion {
    /// It completes the request of that entry.
    Answer(usize),
    /// It belongs to no request in flight.
    Stray,
}

/// One thread's part of a load.
pub(crate) struct Writer {
    state: Arc<LoadState>,
    number: u16,
    random: Random,
    entries: Vec<Entry>,
    phase: Phase,
    /// A full block of the ledger, to be settled before other operations.
    too_many_values: Option<TooManyValues>,
}

/// The next step for a block with more possible values than the ledger keeps.
#[derive(Clone, Copy, PartialEq, Eq)]
enum TooManyValues {
    /// A flush of this block may settle it.
    Flush(u64),
    /// The flush did not settle it. A durable write that overlaps no other does.
    Write(u64),
}

impl Writer {
    /// Returns writer `number`, which performs random operations.
    pub(crate) fn load(state: Arc<LoadState>, number: u16) -> Self {
        Self::new(state, number, Phase::Load)
    }

    /// Returns a writer that reads everything.
    pub(crate) fn proof(state: Arc<LoadState>) -> Self {
        let next = state.options.range.first;
        Self::new(state, u16::MAX, Phase::Proof { next, again: Vec::new() })
    }

    fn new(state: Arc<LoadState>, number: u16, phase: Phase) -> Self {
        let depth = state.options.depth.min(1 << INDEX_BITS);
        let entries = (0..depth).map(|_| Entry { uses: 0, job: None, since: Duration::ZERO }).collect();
        let random = Random::new(state.options.seed, number.into());
        Self { state, number, random, entries, phase, too_many_values: None }
    }

    /// Returns the maximum number of requests in flight.
    pub(crate) fn depth(&self) -> usize {
        self.entries.len()
    }

    /// Returns true if the writer can end at any time. A proof ends when every block is read.
    pub(crate) fn is_stoppable(&self) -> bool {
        matches!(self.phase, Phase::Load)
    }

    /// Returns the index of the entry that a head names, used or not.
    pub(crate) fn index_of(&self, head: &RequestHead) -> Option<usize> {
        let index = (head.tag() & ((1 << INDEX_BITS) - 1)) as usize;
        (index < self.entries.len()).then_some(index)
    }

    /// Returns true if no request is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.iter().all(|index| index.job.is_none())
    }

    /// Returns the size of the largest request, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.state.options.most_blocks as usize * self.state.info.block_bytes as usize
    }

    /// Selects the next request for the free entry `index`: returns its head, with its data in `data`, or
    /// `None` if there is nothing to submit now.
    pub(crate) fn next_request(
        &mut self,
        index: usize,
        now: Duration,
        data: &mut [u8],
    ) -> Option<RequestHead> {
        let (job, head) = match &self.phase {
            Phase::Load => self.any()?,
            Phase::Proof { .. } => self.next_of_proof()?,
        };
        if let Job::Write { write: Write::Data, extent, sequence, .. } = job {
            self.compose(extent, sequence, data);
        }
        let entry = &mut self.entries[index];
        debug_assert!(entry.job.is_none(), "the entry is free");
        entry.uses += 1;
        (entry.job, entry.since) = (Some(job), now);
        Some(head.with_tag(entry.uses << INDEX_BITS | index as u64))
    }

    fn compose(&self, extent: Extent, sequence: u64, data: &mut [u8]) {
        let (run, journal) = (self.state.options.run, self.state.lines());
        let Extent { first, blocks } = extent;
        let pieces = data.chunks_exact_mut(self.state.info.block_bytes as usize);
        for (lba, block) in extent.lbas().zip(pieces) {
            Stamp { run, lba, sequence, first, blocks, writer: self.number, journal }.compose(block);
        }
    }

    fn any(&mut self) -> Option<(Job, RequestHead)> {
        match self.too_many_values {
            Some(TooManyValues::Flush(lba)) => {
                self.too_many_values = Some(TooManyValues::Write(lba));
                return Some(self.flush());
            }
            Some(TooManyValues::Write(lba)) => {
                self.too_many_values = None;
                let extent = Extent { first: lba, blocks: 1 };
                let fua = self.state.options.fua;
                return self.write(Write::Data, extent, Mode::Exclusive, fua).ok().or_else(|| self.read());
            }
            None => {}
        }
        let can = |operation| self.state.info.operations.contains(operation);
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
        let beside = self.state.options.overlap_one_in;
        let mode = if beside > 0 && self.random.below(beside.into()) == 0 {
            Mode::Overlapping
        } else {
            Mode::Exclusive
        };
        let fua = self.state.options.fua && self.random.below(FUA) == 0 && write != Write::Deallocate;
        for _ in 0..TRIES {
            let extent = self.random_extent();
            match self.write(write, extent, mode, fua) {
                Ok(head) => return Some(head),
                Err(Refusal::Full(full)) => {
                    // A write settles the block that the flush did not.
                    self.too_many_values = Some(TooManyValues::Flush(full.lba));
                    return self.read();
                }
                Err(Refusal::BeingWritten { .. } | Refusal::OutOfRange(_)) => {}
            }
        }
        self.read()
    }

    /// Returns a random range of blocks, more often short than long, and half of the time in an eighth of the
    /// load's range.
    fn random_extent(&mut self) -> Extent {
        let Extent { first, blocks } = self.state.options.range;
        let most = self.state.options.most_blocks.ilog2() + 1;
        let limit = (1_u64 << self.random.below(most.into())).min(self.state.options.most_blocks.into());
        let count = 1 + self.random.below(limit);
        // Not only powers of two: the maximum length, too.
        let count = if self.random.below(16) == 0 { self.state.options.most_blocks.into() } else { count };
        let room = u64::from(blocks) - count + 1;
        let room = if self.random.below(2) == 0 { (room / 8).max(1) } else { room };
        Extent { first: first + self.random.below(room), blocks: count as u32 }
    }

    fn flush(&self) -> (Job, RequestHead) {
        let flush = self.state.with(|ledger| ledger.begin_flush());
        (Job::Flush(flush), RequestHead::flush())
    }

    fn read(&mut self) -> Option<(Job, RequestHead)> {
        let extent = self.random_extent();
        self.read_of(extent)
    }

    fn read_of(&self, extent: Extent) -> Option<(Job, RequestHead)> {
        let glimpse = self.state.with(|ledger| ledger.expect_read(extent)).ok()?;
        Some((Job::Read(glimpse), RequestHead::new(Operation::Read, extent.first, extent.blocks)))
    }

    fn write(
        &mut self,
        write: Write,
        extent: Extent,
        mode: Mode,
        fua: bool,
    ) -> Result<(Job, RequestHead), Refusal> {
        let sequence = self.state.begin(write, extent, mode)?;
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
        let Phase::Proof { next, again } = &mut self.phase else { return None };
        let extent = if let Some((extent, _)) = again.iter().find(|(_, tried)| tried % 2 == 1) {
            *extent
        } else {
            let blocks =
                (self.state.options.range.lbas().end - *next).min(self.state.options.most_blocks.into());
            let extent = Extent { first: *next, blocks: blocks as u32 };
            *next += blocks;
            extent
        };
        if extent.blocks == 0 {
            return None;
        }
        // An odd count is due for another attempt, an even one is in flight.
        again.iter_mut().filter(|(one, _)| *one == extent).for_each(|(_, tried)| *tried += 1);
        self.read_of(extent)
    }

    /// Handles a completion. `head` identifies the request, and `data` holds the data of a read.
    pub(crate) fn take(&mut self, head: &RequestHead, data: &[u8]) -> Completion {
        let uses = head.tag() >> INDEX_BITS;
        let index = self.index_of(head);
        let tally = &self.state.tally;
        let entry = index.and_then(|index| Some((index, self.entries.get_mut(index)?)));
        let Some((index, entry)) = entry.filter(|(_, entry)| (1..=entry.uses).contains(&uses)) else {
            tally.unknown.add(1);
            return Completion::Stray;
        };
        let Some(job) = entry.job.take_if(|_| entry.uses == uses) else {
            tally.twice.add(1);
            return Completion::Stray;
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
                self.record_failure(job, refused);
            }
        }
        Completion::Answer(index)
    }

    fn is_done(&mut self, job: Job, data: &[u8]) {
        let (state, tally) = (&self.state, &self.state.tally);
        match job {
            Job::Flush(flush) => {
                tally.flushes.add(1);
                state.end_flush(flush);
            }
            Job::Write { write, extent, sequence, fua } => {
                let is_durable = fua || !state.info.volatile_write_cache;
                state.end(
                    write,
                    extent,
                    sequence,
                    if is_durable { WriteOutcome::Durable } else { WriteOutcome::Done },
                );
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
                let bytes = state.info.block_bytes as usize;
                let blocks = glimpse.extent().blocks;
                // Computes the checksums without the ledger's lock, which is for look-ups.
                let contents: Vec<Content> =
                    data.chunks_exact(bytes).take(blocks as usize).map(Content::of).collect();
                state.with(|ledger| {
                    ledger.judge(&glimpse, &contents, |wrong| tally.wrong(wrong, state.options.atomic))
                });
                tally.reads.add(1);
                tally.blocks_verified.add(blocks.into());
                if let Phase::Proof { again, .. } = &mut self.phase {
                    again.retain(|(extent, _)| *extent != glimpse.extent());
                }
            }
        }
    }

    /// `refused` is true if the operation has not begun.
    fn record_failure(&mut self, job: Job, refused: bool) {
        match job {
            Job::Flush(_) => {}
            Job::Write { write, extent, sequence, .. } => {
                let answer = if refused { WriteOutcome::Withdrawn } else { WriteOutcome::Failed };
                self.state.end(write, extent, sequence, answer);
            }
            Job::Read(glimpse) => {
                if let Phase::Proof { again, .. } = &mut self.phase {
                    let extent = glimpse.extent();
                    match again.iter_mut().find(|(one, _)| *one == extent) {
                        None => again.push((extent, 1)),
                        Some((_, tried)) if *tried < 2 * REPEATS => *tried += 1,
                        Some(_) => {
                            again.retain(|(one, _)| *one != extent);
                            self.state.tally.unverified.add(extent.blocks.into());
                        }
                    }
                }
            }
        }
    }

    /// Records that the queue has ended: the request of this entry has come back, and its effect is unknown.
    pub(crate) fn give_up(&mut self, index: usize) {
        if let Some(job) = self.entries[index].job.take() {
            self.record_failure(job, false);
        }
    }

    /// Records that the request of this entry will never complete. A write may still happen.
    pub(crate) fn lose(&mut self, index: usize) {
        if let Some(job) = self.entries[index].job.take() {
            self.state.tally.lost.add(1);
            if let (Phase::Proof { .. }, Job::Read(_)) = (&self.phase, &job) {
                self.record_failure(job, false);
            }
        }
    }

    /// Returns true if the request of this entry was submitted before `time`.
    pub(crate) fn is_older(&self, index: usize, time: Duration) -> bool {
        let Entry { job, since, .. } = &self.entries[index];
        job.is_some() && *since < time
    }
}

#[cfg(test)]
mod tests;
