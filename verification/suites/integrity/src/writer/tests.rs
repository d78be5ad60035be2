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

/// What a disk does wrong, once in a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    None,
    /// Acknowledges a write and does not do it.
    Loses,
    /// Writes the first half of a block only.
    Tears,
    /// Writes to the block behind.
    Misdirects,
    /// Reads another block.
    ReadsElsewhere,
    /// Does an older write again.
    Repeats,
    /// Answers two reads with each other's data.
    Swaps,
    /// Answers twice.
    AnswersTwice,
    /// Answers what nobody asked.
    Invents,
    /// Does not answer.
    ForgetsAnswer,
    /// Says that a write failed; it is half done.
    Fails,
    /// Refuses to begin.
    Refuses,
    /// Refuses to begin, and does it nevertheless.
    RefusesAndWrites,
}

struct Disk {
    bytes: Vec<u8>,
    fault: Fault,
    random: Random,
    /// An old write.
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
    /// Does one request and answers it; what comes back, which may be nothing or more than it.
    fn perform(&mut self, mut head: RequestHead, mut data: Vec<u8>) -> Vec<(RequestHead, Vec<u8>)> {
        let strikes = self.random.below(40) == 0;
        let fault = if strikes { self.fault } else { Fault::None };
        let mut at = head.lba() as usize * BYTES;
        let len = head.blocks() as usize * BYTES;
        let is_write = head.operation() == Ok(Operation::Write);
        match (fault, is_write) {
            (Fault::Misdirects, true) | (Fault::ReadsElsewhere, false) => at += BYTES,
            (Fault::Loses, true) => at = 900 * BYTES,
            (Fault::Fails | Fault::Refuses, true) => {
                let (error, done) = match fault {
                    Fault::Fails => (BlockError::TimedOut { after_ns: 1 }, len / BYTES / 2 * BYTES),
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
                let done = if fault == Fault::Tears { len - BYTES / 2 } else { len };
                self.bytes[at..at + done].copy_from_slice(&data[..done]);
                if fault == Fault::Repeats
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
            (Fault::AnswersTwice, _) => return vec![(head, data.clone()), (head, data)],
            (Fault::Invents, _) => {
                return vec![(head.with_tag(head.tag() + (9 << PLACE_BITS)), data.clone()), (head, data)];
            }
            (Fault::ForgetsAnswer, _) => return vec![],
            _ => {}
        }
        vec![(head, data)]
    }
}

/// A load on a disk that has `fault`, and its proof.
fn run(fault: Fault, seed: u64, steps: u32) -> Counters {
    let range = Extent { first: 100, blocks: BLOCKS };
    let options = Options { range, depth: 4, most_blocks: 16, seed, run: 77, ..Options::default() };
    let options = options.fitted(&info()).expect("it makes sense");
    let book = Arc::new(Book::new(options, info(), None));
    let mut disk = Disk { bytes: vec![0; 1000 * BYTES], fault, random: Random::new(seed, 99), old: None };
    let mut chance = Random::new(seed, 98);
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::load(book.clone(), number)).collect();
    let mut under_way: Vec<(usize, RequestHead, Vec<u8>)> = Vec::new();
    for step in 0..steps {
        let now = Duration::from_millis(step.into());
        for (number, writer) in writers.iter_mut().enumerate() {
            for place in 0..writer.depth() {
                if writer.places[place].job.is_none() && chance.below(2) == 0 {
                    let mut data = vec![0; writer.capacity()];
                    if let Some(head) = writer.ask(place, now, &mut data) {
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
    prove(&book, &mut disk);
    book.tally.counters()
}

/// The disk does something of what is under way, in any order.
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
        let index = chance.below(under_way.len() as u64) as usize;
        let (number, head, data) = under_way.swap_remove(index);
        let mut answers = disk.perform(head, data);
        let is_read = |head: &RequestHead| head.operation() == Ok(Operation::Read);
        if disk.fault == Fault::Swaps
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

/// What is too old is lost.
fn lose(writers: &mut [Writer], under_way: &[(usize, RequestHead, Vec<u8>)], now: Duration) {
    let before = now.saturating_sub(Duration::from_millis(100));
    for writer in writers {
        for place in 0..writer.depth() {
            if writer.is_older(place, before) {
                let is_under_way = under_way
                    .iter()
                    .any(|(_, head, _)| head.tag() == writer.places[place].uses << PLACE_BITS | place as u64);
                if !is_under_way {
                    writer.lose(place);
                }
            }
        }
    }
}

fn prove(book: &Arc<Book>, disk: &mut Disk) {
    disk.fault = Fault::None;
    let mut proof = Writer::proof(book.clone());
    let before = book.tally.counters().blocks_verified;
    loop {
        let mut data = vec![0; proof.capacity()];
        let Some(head) = proof.ask(0, Duration::ZERO, &mut data) else { break };
        for (head, data) in disk.perform(head, data) {
            assert_eq!(proof.take(&head, &data), Taken::Answer(0));
        }
    }
    assert_eq!(book.tally.counters().blocks_verified - before, u64::from(BLOCKS));
}

fn kinds(counters: &Counters) -> Vec<&'static str> {
    let all = coppice_disk_oracle::Kind::ALL.iter().zip(counters.wrong);
    all.filter(|(_, count)| *count > 0).map(|(kind, _)| kind.name()).collect()
}

#[test]
fn a_right_disk_is_right_whatever_the_seed() {
    for seed in 0..40 {
        let counters = run(Fault::None, seed, 400);
        assert!(counters.is_clean(), "seed {seed}: {counters}");
        assert!(counters.zeroes > 0 && counters.deallocations > 0 && counters.flushes > 0, "{counters}");
        assert!(counters.writes > 300 && counters.fua_writes > 10 && counters.reads > 300, "{counters}");
        assert_eq!(counters.failed(), 0);
    }
}

#[test]
fn a_disk_that_fails_and_says_so_is_right() {
    for fault in [Fault::Fails, Fault::Refuses] {
        for seed in 0..20 {
            let counters = run(fault, seed, 400);
            assert!(counters.is_clean() && counters.failed() > 0, "{fault:?}, seed {seed}: {counters}");
        }
    }
}

#[test]
fn each_breakage_is_found_by_name() {
    for (fault, name) in [
        (Fault::Loses, "stale"),
        (Fault::Tears, "torn"),
        (Fault::Misdirects, "misplaced"),
        (Fault::ReadsElsewhere, "misplaced"),
        (Fault::Repeats, "stale"),
        (Fault::Swaps, "misplaced"),
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
fn answers_that_are_too_many_or_too_few_are_found() {
    for seed in 0..10 {
        let counters = run(Fault::AnswersTwice, seed, 400);
        assert!(counters.twice > 0 && counters.wrong_blocks() == 0, "seed {seed}: {counters}");
        let counters = run(Fault::Invents, seed, 400);
        assert!(
            counters.unknown + counters.twice > 0 && counters.wrong_blocks() == 0,
            "seed {seed}: {counters}"
        );
        let counters = run(Fault::ForgetsAnswer, seed, 400);
        assert!(counters.lost > 0 && counters.wrong_blocks() == 0, "seed {seed}: {counters}");
    }
}
