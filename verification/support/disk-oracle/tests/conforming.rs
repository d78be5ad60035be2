//! A disk that keeps the contract is never reported, whatever it does within it. After a power loss its
//! content is one that the oracle and the journal allow.

mod disk;

use std::collections::BTreeMap;

use coppice_disk_oracle::journal::{self, Begin, ConsoleLine, Guarantees, Writer};
use coppice_disk_oracle::{
    Allowed, Content, DiskOracle, Durable, Extent, Flush, Mismatch, Mode, ReadExpectation, Stamp, Write,
    WriteOutcome,
};
use disk::Disk;
use proptest::prelude::*;

const RUN: u64 = 0x5eed;
const FIRST: u64 = 100;
const BLOCKS: u32 = 6;

/// The next event. Its numbers choose among the requests in flight.
#[derive(Clone, Debug)]
enum Step {
    Write { first: u8, blocks: u8, kind: u8, overlapping: bool },
    TakeEffect { which: u8, block: u8, chance: u8 },
    Complete { which: u8, how: u8, chance: u8 },
    BeginRead { first: u8, blocks: u8 },
    ReadBlock { which: u8, block: u8 },
    EndRead { which: u8 },
    BeginFlush,
    EndFlush { which: u8 },
    Persist { block: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let byte = any::<u8>;
    prop_oneof![
        4 => (byte(), byte(), byte(), any::<bool>())
            .prop_map(|(first, blocks, kind, overlapping)| Step::Write { first, blocks, kind, overlapping }),
        4 => (byte(), byte(), byte()).prop_map(|(which, block, chance)| Step::TakeEffect { which, block, chance }),
        4 => (byte(), byte(), byte()).prop_map(|(which, how, chance)| Step::Complete { which, how, chance }),
        2 => (byte(), byte()).prop_map(|(first, blocks)| Step::BeginRead { first, blocks }),
        3 => (byte(), byte()).prop_map(|(which, block)| Step::ReadBlock { which, block }),
        2 => byte().prop_map(|which| Step::EndRead { which }),
        1 => Just(Step::BeginFlush),
        1 => byte().prop_map(|which| Step::EndFlush { which }),
        2 => byte().prop_map(|block| Step::Persist { block }),
    ]
}

struct Reading {
    expectation: ReadExpectation,
    /// The contents read so far, block by block.
    found: Vec<Option<Content>>,
}

struct Fixture {
    oracle: DiskOracle,
    disk: Disk,
    writes: BTreeMap<u64, (Write, Extent)>,
    reads: Vec<Reading>,
    flushes: Vec<Flush>,
    durable: Vec<Durable>,
    writer: Writer,
    guarantees: Guarantees,
    wrong: Vec<Mismatch>,
}

fn extent(first: u8, blocks: u8) -> Extent {
    let first = u32::from(first) % BLOCKS;
    let blocks = 1 + u32::from(blocks) % (BLOCKS - first);
    Extent { first: FIRST + u64::from(first), blocks }
}

fn nth<K: Copy, V>(map: &BTreeMap<K, V>, which: u8) -> Option<K> {
    map.keys().nth(usize::from(which) % map.len().max(1)).copied()
}

impl Fixture {
    fn new() -> Self {
        let begin = Begin { run: RUN, block_bytes: 512, range: Extent { first: FIRST, blocks: BLOCKS } };
        Self {
            oracle: DiskOracle::new(RUN, FIRST, BLOCKS),
            disk: Disk::new(FIRST, BLOCKS as usize),
            writes: BTreeMap::new(),
            reads: Vec::new(),
            flushes: Vec::new(),
            durable: Vec::new(),
            writer: Writer::new(240),
            guarantees: Guarantees::new(begin),
            wrong: Vec::new(),
        }
    }

    fn add_line(guarantees: &mut Guarantees, line: &str) {
        let Ok(ConsoleLine::Line(line)) = journal::read(line) else { panic!("{line}") };
        guarantees.add(line).expect("lines are in order");
    }

    fn say(&mut self) {
        let durable = std::mem::take(&mut self.durable);
        let guarantees = &mut self.guarantees;
        self.writer.durable(self.oracle.sequence(), &durable, |line| Self::add_line(guarantees, line));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { first, blocks, kind, overlapping } => {
                self.write(extent(first, blocks), kind, overlapping)
            }
            Step::TakeEffect { which, block, chance } => {
                if let Some(number) = nth(&self.writes, which) {
                    self.disk.take_effect(number, block.into(), chance);
                }
            }
            Step::Complete { which, how, chance } => self.complete(which, how, chance),
            Step::BeginRead { first, blocks } => {
                let extent = extent(first, blocks);
                let expectation = self.oracle.expect_read(extent).expect("it is in range");
                self.reads.push(Reading { expectation, found: vec![None; extent.blocks as usize] });
            }
            Step::ReadBlock { which, block } => {
                let count = self.reads.len().max(1);
                if let Some(reading) = self.reads.get_mut(usize::from(which) % count) {
                    let block = usize::from(block) % reading.found.len();
                    let lba = reading.expectation.extent().first + block as u64;
                    reading.found[block].get_or_insert(self.disk.read(lba));
                }
            }
            Step::EndRead { which } if !self.reads.is_empty() => {
                let reading = self.reads.swap_remove(usize::from(which) % self.reads.len());
                self.end_read(reading);
            }
            Step::EndRead { .. } => {}
            Step::BeginFlush => self.flushes.push(self.oracle.begin_flush()),
            Step::EndFlush { which } if !self.flushes.is_empty() => {
                let flush = self.flushes.swap_remove(usize::from(which) % self.flushes.len());
                self.disk.flush();
                self.oracle.end_flush(flush, &mut self.durable);
                self.say();
            }
            Step::EndFlush { .. } => {}
            Step::Persist { block } => self.disk.persist(usize::from(block) % BLOCKS as usize),
        }
    }

    fn write(&mut self, extent: Extent, kind: u8, overlapping: bool) {
        let write = match kind % 8 {
            0 => Write::Zeroes,
            1 => Write::Deallocate,
            _ => Write::Data,
        };
        let mode = if overlapping { Mode::Overlapping } else { Mode::Exclusive };
        let Ok(sequence) = self.oracle.begin(write, extent, mode) else { return };
        let Extent { first, blocks } = extent;
        let content = |lba| match write {
            Write::Data => {
                Content::Stamped(Stamp { run: RUN, lba, sequence, first, blocks, writer: 0, journal: 0 })
            }
            _ => Content::Zeroes,
        };
        if write != Write::Data {
            let guarantees = &mut self.guarantees;
            self.writer.erasure(write, sequence, extent, |line| Self::add_line(guarantees, line));
        }
        self.disk.submit(sequence, write, extent, extent.lbas().map(content).collect());
        self.writes.insert(sequence, (write, extent));
    }

    fn complete(&mut self, which: u8, how: u8, chance: u8) {
        let Some(number) = nth(&self.writes, which) else { return };
        let (write, extent) = self.writes.remove(&number).expect("it is there");
        let outcome = [
            WriteOutcome::Done,
            WriteOutcome::Done,
            WriteOutcome::Done,
            WriteOutcome::Durable,
            WriteOutcome::Failed,
        ][usize::from(how) % 5];
        self.disk.complete(number, outcome != WriteOutcome::Failed, chance);
        if outcome == WriteOutcome::Durable {
            extent.lbas().for_each(|lba| self.disk.persist((lba - FIRST) as usize));
        }
        self.oracle.end(write, extent, number, outcome, &mut self.durable);
        self.say();
    }

    fn end_read(&mut self, reading: Reading) {
        let contents: Vec<Content> = reading
            .expectation
            .extent()
            .lbas()
            .zip(reading.found)
            .map(|(lba, found)| found.unwrap_or_else(|| self.disk.read(lba)))
            .collect();
        self.oracle.judge(&reading.expectation, &contents, |wrong| self.wrong.push(wrong));
    }

    /// Checks the medium against the oracle and the journal.
    fn power_loss(&self) -> Result<(), String> {
        for (lba, content) in (FIRST..).zip(&self.disk.medium) {
            let mut kept = self.oracle.after_power_loss(lba).expect("it is in range");
            if !kept.any(|value| value.is(content, RUN, lba)) {
                return Err(format!("block {lba}: the oracle rules out {content}"));
            }
            self.guarantees.judge(u64::MAX, lba, content).map_err(|wrong| wrong.to_string())?;
        }
        Ok(())
    }

    /// Completes all requests, then reads all blocks twice: the second read has one allowed value for each
    /// block.
    fn end(&mut self) {
        while !self.writes.is_empty() {
            self.complete(0, 0, 0);
        }
        for reading in std::mem::take(&mut self.reads) {
            self.end_read(reading);
        }
        for _ in 0..2 {
            let expectation =
                self.oracle.expect_read(Extent { first: FIRST, blocks: BLOCKS }).expect("it is in range");
            self.end_read(Reading { expectation, found: vec![None; BLOCKS as usize] });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_that_keeps_the_contract_is_never_reported(steps in prop::collection::vec(step(), 1..120)) {
        let mut fixture = Fixture::new();
        for step in &steps {
            fixture.step(step);
            prop_assert_eq!(&fixture.wrong, &[]);
            prop_assert_eq!(fixture.power_loss(), Ok(()));
        }
        fixture.end();
        prop_assert_eq!(&fixture.wrong, &[]);
    }

    /// The oracle is not merely permissive: at rest, after a read, it reports any other content.
    #[test]
    fn at_rest_only_one_value_of_each_block_is_accepted(steps in prop::collection::vec(step(), 1..120)) {
        let mut fixture = Fixture::new();
        steps.iter().for_each(|step| fixture.step(step));
        fixture.end();
        for lba in FIRST..FIRST + u64::from(BLOCKS) {
            let right = fixture.disk.read(lba);
            let written = (1..=fixture.oracle.sequence()).map(|sequence| {
                let stamp = Stamp { run: RUN, lba, sequence, first: lba, blocks: 1, writer: 0, journal: 0 };
                Content::Stamped(stamp)
            });
            let others = written.chain([
                Content::Zeroes,
                Content::Ones,
                Content::Torn { run: RUN, sequence: 1 },
                Content::Stamped(Stamp { run: RUN, lba: lba + 1, sequence: 1, first: lba, blocks: 2, writer: 0, journal: 0 }),
            ]);
            for other in others {
                let same = match (other, right) {
                    (Content::Stamped(a), Content::Stamped(b)) => (a.lba, a.sequence) == (b.lba, b.sequence),
                    (a, b) => a == b,
                };
                // No write of this run reached the block, so any other content is allowed.
                let untouched = fixture.oracle.after_power_loss(lba).expect("it is in range").eq([Allowed::Anything]);
                if same || untouched {
                    continue;
                }
                let expectation = fixture.oracle.expect_read(Extent { first: lba, blocks: 1 }).expect("it is in range");
                let mut found = Vec::new();
                fixture.oracle.judge(&expectation, &[other], |wrong| found.push(wrong));
                let was_anything = start_content_is_allowed(&fixture.oracle, lba);
                prop_assert!(
                    found.len() == 1 || (was_anything && matches!(other, Content::Ones | Content::Zeroes)),
                    "block {} holds {}, and {} is accepted", lba, right, other
                );
            }
        }
    }
}

/// Returns true if the content at the start may remain: erased blocks are then allowed.
fn start_content_is_allowed(oracle: &DiskOracle, lba: u64) -> bool {
    oracle.after_power_loss(lba).expect("it is in range").any(|value| value == Allowed::Anything)
}
