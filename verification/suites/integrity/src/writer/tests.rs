use std::vec;
use std::vec::Vec;

use coppice_block::{BlockInfo, Identity, Operations};
use coppice_interfaces::Text;

use super::*;
use crate::options::Options;
use crate::tally::Counters;

const BYTES: usize = 512;
const BLOCKS: u32 = 64;
const WRITERS: u16 = 3;

/// An occasional fault of the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Acknowledges a write and does not perform it.
    LosesWrite,
    /// Writes only the first half of a block.
    TearsBlock,
    /// Writes to the following block.
    Misdirects,
    /// Reads another block.
    ReadsWrongBlock,
    /// Performs an older write again.
    RepeatsOldWrite,
    /// Completes two reads with each other's data.
    SwapsReads,
    /// Completes a request twice.
    CompletesTwice,
    /// Completes a request that was never submitted.
    CompletesUnknown,
    /// Drops a completion.
    DropsCompletion,
    /// Fails a write that it has half done.
    FailsHalfDone,
    /// Refuses an operation.
    Refuses,
    /// Refuses an operation and performs it nevertheless.
    RefusesAndWrites,
}

struct Disk {
    bytes: Vec<u8>,
    fault: Fault,
    random: Random,
    /// An earlier write.
    old: Option<(RequestHead, Vec<u8>)>,
}

fn info() -> BlockInfo {
    BlockInfo {
        block_bytes: BYTES as u32,
        blocks: 1000,
        max_transfer_blocks: 16,
        max_range_blocks: 1000,
        queue_depth: 8,
        queues: 8,
        volatile_write_cache: true,
        operations: Operation::ALL.into_iter().fold(Operations::NONE, Operations::with),
        identity: Identity {
            model: Text::new("model"),
            serial: Text::new("1"),
            namespace: 1,
            unique: [0; 16],
        },
    }
}

impl Disk {
    /// Performs one request. Returns the completions, which may be none or several.
    fn perform(&mut self, mut head: RequestHead, mut data: Vec<u8>) -> Vec<(RequestHead, Vec<u8>)> {
        let strikes = self.random.below(40) == 0;
        let fault = if strikes { self.fault } else { Fault::None };
        let mut at = head.lba() as usize * BYTES;
        let len = head.blocks() as usize * BYTES;
        let is_write = head.operation() == Ok(Operation::Write);
        match (fault, is_write) {
            (Fault::Misdirects, true) | (Fault::ReadsWrongBlock, false) => at += BYTES,
            (Fault::LosesWrite, true) => at = 900 * BYTES,
            (Fault::FailsHalfDone | Fault::Refuses, true) => {
                let (error, done) = match fault {
                    Fault::FailsHalfDone => (BlockError::TimedOut { after_ns: 1 }, len / BYTES / 2 * BYTES),
                    _ => (BlockError::QueueFull { depth: 1 }, 0),
                };
                self.bytes[at..at + done].copy_from_slice(&data[..done]);
                head.answer(Err(error));
                return vec![(head, data)];
            }
            _ => {}
        }
        match head.operation() {
            Ok(Operation::Read) => data[..len].copy_from_slice(&self.bytes[at..at + len]),
            Ok(Operation::Write) => {
                let done = if fault == Fault::TearsBlock { len - BYTES / 2 } else { len };
                self.bytes[at..at + done].copy_from_slice(&data[..done]);
                if fault == Fault::RepeatsOldWrite
                    && let Some((old, data)) = self.old.take()
                {
                    let (at, len) = (old.lba() as usize * BYTES, old.blocks() as usize * BYTES);
                    self.bytes[at..at + len].copy_from_slice(&data[..len]);
                }
                if self.old.is_none() {
                    self.old = Some((head, data.clone()));
                }
            }
            Ok(Operation::WriteZeroes | Operation::Deallocate) => self.bytes[at..at + len].fill(0),
            Ok(Operation::Flush) => {}
            Err(error) => panic!("{error}"),
        }
        head.answer(Ok(()));
        match (fault, is_write) {
            (Fault::RefusesAndWrites, true) => head.answer(Err(BlockError::QueueFull { depth: 1 })),
            (Fault::CompletesTwice, _) => return vec![(head, data.clone()), (head, data)],
            (Fault::CompletesUnknown, _) => {
                return vec![(head.with_tag(head.tag() + (9 << INDEX_BITS)), data.clone()), (head, data)];
            }
            (Fault::DropsCompletion, _) => return vec![],
            _ => {}
        }
        vec![(head, data)]
    }
}

/// Runs a load on a disk that has `fault`, and its proof.
fn run(fault: Fault, seed: u64, steps: u32) -> Counters {
    let range = Extent { first: 100, blocks: BLOCKS };
    let options = Options { range, depth: 4, most_blocks: 16, seed, run: 77, ..Options::default() };
    let options = options.fitted(&info()).expect("the options fit the disk");
    let state = Arc::new(LoadState::new(options, info(), None));
    let mut disk = Disk { bytes: vec![0; 1000 * BYTES], fault, random: Random::new(seed, 99), old: None };
    let mut chance = Random::new(seed, 98);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::load(state.clone(), number)).collect();
    let mut under_way: Vec<(usize, RequestHead, Vec<u8>)> = Vec::new();
    for step in 0..steps {
        let now = Duration::from_millis(step.into());
        for (number, writer) in writers.iter_mut().enumerate() {
            for index in 0..writer.depth() {
                if writer.entries[index].job.is_none() && chance.below(2) == 0 {
                    let mut data = vec![0; writer.capacity()];
                    if let Some(head) = writer.next_request(index, now, &mut data) {
                        under_way.push((number, head, data));
                    }
                }
            }
        }
        answer(&mut writers, &mut disk, &mut under_way, &mut chance);
        lose(&mut writers, &under_way, now);
    }
    while !under_way.is_empty() {
        answer(&mut writers, &mut disk, &mut under_way, &mut chance);
    }
    lose(&mut writers, &under_way, Duration::MAX);
    assert!(writers.iter().all(Writer::is_idle));
    prove(&state, &mut disk);
    state.tally.counters()
}

/// Performs some of the requests in flight, in any order.
fn answer(
    writers: &mut [Writer],
    disk: &mut Disk,
    under_way: &mut Vec<(usize, RequestHead, Vec<u8>)>,
    chance: &mut Random,
) {
    for _ in 0..chance.below(8) {
        if under_way.is_empty() {
            break;
        }
        let picked = chance.below(under_way.len() as u64) as usize;
        let (number, head, data) = under_way.swap_remove(picked);
        let mut answers = disk.perform(head, data);
        let is_read = |head: &RequestHead| head.operation() == Ok(Operation::Read);
        if disk.fault == Fault::SwapsReads
            && is_read(&head)
            && let Some(other) =
                under_way.iter().position(|(_, other, _)| is_read(other) && other.lba() != head.lba())
        {
            let (other_number, other, data) = under_way.swap_remove(other);
            let mut others = disk.perform(other, data);
            core::mem::swap(&mut answers[0].1, &mut others[0].1);
            for (head, data) in &others {
                let _ = writers[other_number].take(head, data);
            }
        }
        for (head, data) in &answers {
            let _ = writers[number].take(head, data);
        }
    }
}

/// Counts requests beyond the timeout as lost.
fn lose(writers: &mut [Writer], under_way: &[(usize, RequestHead, Vec<u8>)], now: Duration) {
    let before = now.saturating_sub(Duration::from_millis(100));
    for writer in writers {
        for index in 0..writer.depth() {
            if writer.is_older(index, before) {
                let is_under_way = under_way.iter().any(|(_, head, _)| {
                    head.tag() == writer.entries[index].uses << INDEX_BITS | index as u64
                });
                if !is_under_way {
                    writer.lose(index);
                }
            }
        }
    }
}

fn prove(state: &Arc<LoadState>, disk: &mut Disk) {
    disk.fault = Fault::None;
    let mut proof = Writer::proof(state.clone());
    let before = state.tally.counters().blocks_verified;
    loop {
        let mut data = vec![0; proof.capacity()];
        let Some(head) = proof.next_request(0, Duration::ZERO, &mut data) else { break };
        for (head, data) in disk.perform(head, data) {
            assert_eq!(proof.take(&head, &data), Completion::Answer(0));
        }
    }
    assert_eq!(state.tally.counters().blocks_verified - before, u64::from(BLOCKS));
}

fn kinds(counters: &Counters) -> Vec<&'static str> {
    let all = coppice_disk_oracle::Kind::ALL.iter().zip(counters.wrong);
    all.filter(|(_, count)| *count > 0).map(|(kind, _)| kind.name()).collect()
}

#[test]
fn a_correct_disk_passes_with_any_seed() {
    for seed in 0..40 {
        let counters = run(Fault::None, seed, 400);
        assert!(counters.is_clean(), "seed {seed}: {counters}");
        assert!(counters.zeroes > 0 && counters.deallocations > 0 && counters.flushes > 0, "{counters}");
        assert!(counters.writes > 300 && counters.fua_writes > 10 && counters.reads > 300, "{counters}");
        assert_eq!(counters.failed(), 0);
    }
}

#[test]
fn a_disk_that_reports_its_failures_passes() {
    for fault in [Fault::FailsHalfDone, Fault::Refuses] {
        for seed in 0..20 {
            let counters = run(fault, seed, 400);
            assert!(counters.is_clean() && counters.failed() > 0, "{fault:?}, seed {seed}: {counters}");
        }
    }
}

#[test]
fn each_fault_is_found_by_its_kind() {
    for (fault, name) in [
        (Fault::LosesWrite, "stale"),
        (Fault::TearsBlock, "torn"),
        (Fault::Misdirects, "misplaced"),
        (Fault::ReadsWrongBlock, "misplaced"),
        (Fault::RepeatsOldWrite, "stale"),
        (Fault::SwapsReads, "misplaced"),
        (Fault::RefusesAndWrites, "stale"),
    ] {
        for seed in 0..10 {
            let counters = run(fault, seed, 400);
            assert!(kinds(&counters).contains(&name), "{fault:?}, seed {seed}: {counters}");
            assert_eq!(
                (counters.twice, counters.unknown, counters.lost),
                (0, 0, 0),
                "{fault:?}, seed {seed}"
            );
        }
    }
}

#[test]
fn surplus_and_missing_completions_are_found() {
    for seed in 0..10 {
        let counters = run(Fault::CompletesTwice, seed, 400);
        assert!(counters.twice > 0 && counters.wrong_blocks() == 0, "seed {seed}: {counters}");
        let counters = run(Fault::CompletesUnknown, seed, 400);
        assert!(
            counters.unknown + counters.twice > 0 && counters.wrong_blocks() == 0,
            "seed {seed}: {counters}"
        );
        let counters = run(Fault::DropsCompletion, seed, 400);
        assert!(counters.lost > 0 && counters.wrong_blocks() == 0, "seed {seed}: {counters}");
    }
}
