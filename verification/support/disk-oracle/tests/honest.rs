//! A disk that keeps the contract is never blamed, whatever it does; and after a power loss it holds what the ledger and the
//! journal say.

mod disk;

use std::collections::BTreeMap;

use coppice_disk_oracle::journal::{self, Begin, Claims, Heard, Writer};
use coppice_disk_oracle::{
    Allowed, Answer, Content, Durable, Extent, Flush, Glimpse, Ledger, Mode, Stamp, Write, Wrong,
};
use disk::Disk;
use proptest::prelude::*;

const RUN: u64 = 0x5eed;
const FIRST: u64 = 100;
const BLOCKS: u32 = 6;

/// What may happen next; numbers choose among what there is.
#[derive(Clone, Debug)]
enum Step {
    Write { first: u8, blocks: u8, kind: u8, beside: bool },
    Happen { which: u8, block: u8, chance: u8 },
    Answer { which: u8, how: u8, chance: u8 },
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
            .prop_map(|(first, blocks, kind, beside)| Step::Write { first, blocks, kind, beside }),
        4 => (byte(), byte(), byte()).prop_map(|(which, block, chance)| Step::Happen { which, block, chance }),
        4 => (byte(), byte(), byte()).prop_map(|(which, how, chance)| Step::Answer { which, how, chance }),
        2 => (byte(), byte()).prop_map(|(first, blocks)| Step::BeginRead { first, blocks }),
        3 => (byte(), byte()).prop_map(|(which, block)| Step::ReadBlock { which, block }),
        2 => byte().prop_map(|which| Step::EndRead { which }),
        1 => Just(Step::BeginFlush),
        1 => byte().prop_map(|which| Step::EndFlush { which }),
        2 => byte().prop_map(|block| Step::Persist { block }),
    ]
}

struct Reading {
    glimpse: Glimpse,
    /// Block by block, once it was read.
    found: Vec<Option<Content>>,
}

struct Bench {
    ledger: Ledger,
    disk: Disk,
    writes: BTreeMap<u64, (Write, Extent)>,
    reads: Vec<Reading>,
    flushes: Vec<Flush>,
    durable: Vec<Durable>,
    writer: Writer,
    claims: Claims,
    wrong: Vec<Wrong>,
}

fn extent(first: u8, blocks: u8) -> Extent {
    let first = u32::from(first) % BLOCKS;
    let blocks = 1 + u32::from(blocks) % (BLOCKS - first);
    Extent { first: FIRST + u64::from(first), blocks }
}

fn nth<K: Copy, V>(map: &BTreeMap<K, V>, which: u8) -> Option<K> {
    map.keys().nth(usize::from(which) % map.len().max(1)).copied()
}

impl Bench {
    fn new() -> Self {
        let begin = Begin { run: RUN, block_bytes: 512, range: Extent { first: FIRST, blocks: BLOCKS } };
        Self {
            ledger: Ledger::new(RUN, FIRST, BLOCKS),
            disk: Disk::new(FIRST, BLOCKS as usize),
            writes: BTreeMap::new(),
            reads: Vec::new(),
            flushes: Vec::new(),
            durable: Vec::new(),
            writer: Writer::new(240),
            claims: Claims::new(begin),
            wrong: Vec::new(),
        }
    }

    fn hear(claims: &mut Claims, line: &str) {
        let Ok(Heard::Line(line)) = journal::read(line) else { panic!("{line}") };
        claims.add(line).expect("lines are in order");
    }

    fn say(&mut self) {
        let durable = std::mem::take(&mut self.durable);
        let claims = &mut self.claims;
        self.writer.durable(self.ledger.sequence(), &durable, |line| Self::hear(claims, line));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Write { first, blocks, kind, beside } => self.write(extent(first, blocks), kind, beside),
            Step::Happen { which, block, chance } => {
                if let Some(number) = nth(&self.writes, which) {
                    self.disk.happen(number, block.into(), chance);
                }
            }
            Step::Answer { which, how, chance } => self.answer(which, how, chance),
            Step::BeginRead { first, blocks } => {
                let extent = extent(first, blocks);
                let glimpse = self.ledger.glimpse(extent).expect("it is in range");
                self.reads.push(Reading { glimpse, found: vec![None; extent.blocks as usize] });
            }
            Step::ReadBlock { which, block } => {
                let count = self.reads.len().max(1);
                if let Some(reading) = self.reads.get_mut(usize::from(which) % count) {
                    let block = usize::from(block) % reading.found.len();
                    let lba = reading.glimpse.extent().first + block as u64;
                    reading.found[block].get_or_insert(self.disk.read(lba));
                }
            }
            Step::EndRead { which } if !self.reads.is_empty() => {
                let reading = self.reads.swap_remove(usize::from(which) % self.reads.len());
                self.end_read(reading);
            }
            Step::EndRead { .. } => {}
            Step::BeginFlush => self.flushes.push(self.ledger.begin_flush()),
            Step::EndFlush { which } if !self.flushes.is_empty() => {
                let flush = self.flushes.swap_remove(usize::from(which) % self.flushes.len());
                self.disk.flush();
                self.ledger.end_flush(flush, &mut self.durable);
                self.say();
            }
            Step::EndFlush { .. } => {}
            Step::Persist { block } => self.disk.persist(usize::from(block) % BLOCKS as usize),
        }
    }

    fn write(&mut self, extent: Extent, kind: u8, beside: bool) {
        let write = match kind % 8 {
            0 => Write::Zeroes,
            1 => Write::Deallocate,
            _ => Write::Data,
        };
        let mode = if beside { Mode::Beside } else { Mode::Alone };
        let Ok(sequence) = self.ledger.begin(write, extent, mode) else { return };
        let Extent { first, blocks } = extent;
        let content = |lba| match write {
            Write::Data => {
                Content::Stamped(Stamp { run: RUN, lba, sequence, first, blocks, writer: 0, journal: 0 })
            }
            _ => Content::Zeroes,
        };
        if write != Write::Data {
            let claims = &mut self.claims;
            self.writer.erasure(write, sequence, extent, |line| Self::hear(claims, line));
        }
        self.disk.submit(sequence, write, extent, extent.lbas().map(content).collect());
        self.writes.insert(sequence, (write, extent));
    }

    fn answer(&mut self, which: u8, how: u8, chance: u8) {
        let Some(number) = nth(&self.writes, which) else { return };
        let (write, extent) = self.writes.remove(&number).expect("it is there");
        let answer =
            [Answer::Done, Answer::Done, Answer::Done, Answer::Durable, Answer::Failed][usize::from(how) % 5];
        self.disk.answer(number, answer != Answer::Failed, chance);
        if answer == Answer::Durable {
            extent.lbas().for_each(|lba| self.disk.persist((lba - FIRST) as usize));
        }
        self.ledger.end(write, extent, number, answer, &mut self.durable);
        self.say();
    }

    fn end_read(&mut self, reading: Reading) {
        let contents: Vec<Content> = reading
            .glimpse
            .extent()
            .lbas()
            .zip(reading.found)
            .map(|(lba, found)| found.unwrap_or_else(|| self.disk.read(lba)))
            .collect();
        self.ledger.judge(&reading.glimpse, &contents, |wrong| self.wrong.push(wrong));
    }

    /// What both books say about a disk after the power has gone.
    fn power_loss(&self) -> Result<(), String> {
        for (lba, content) in (FIRST..).zip(&self.disk.medium) {
            let mut kept = self.ledger.after_power_loss(lba).expect("it is in range");
            if !kept.any(|value| value.is(content, RUN, lba)) {
                return Err(format!("block {lba}: the ledger rules out {content}"));
            }
            self.claims.judge(u64::MAX, lba, content).map_err(|wrong| wrong.to_string())?;
        }
        Ok(())
    }

    /// All are answered, and everything is read twice: the second time there is one value for each block.
    fn end(&mut self) {
        while !self.writes.is_empty() {
            self.answer(0, 0, 0);
        }
        for reading in std::mem::take(&mut self.reads) {
            self.end_read(reading);
        }
        for _ in 0..2 {
            let glimpse =
                self.ledger.glimpse(Extent { first: FIRST, blocks: BLOCKS }).expect("it is in range");
            self.end_read(Reading { glimpse, found: vec![None; BLOCKS as usize] });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_that_keeps_the_contract_is_never_blamed(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.step(step);
            prop_assert_eq!(&bench.wrong, &[]);
            prop_assert_eq!(bench.power_loss(), Ok(()));
        }
        bench.end();
        prop_assert_eq!(&bench.wrong, &[]);
    }

    /// Not only are right answers accepted: at rest, after a read, any other answer is refused.
    #[test]
    fn at_rest_one_value_of_each_block_is_accepted(steps in prop::collection::vec(step(), 1..120)) {
        let mut bench = Bench::new();
        steps.iter().for_each(|step| bench.step(step));
        bench.end();
        for lba in FIRST..FIRST + u64::from(BLOCKS) {
            let right = bench.disk.read(lba);
            let written = (1..=bench.ledger.sequence()).map(|sequence| {
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
                // Nothing of this run was ever written there, so that it may hold anything else.
                let untouched = bench.ledger.after_power_loss(lba).expect("it is in range").eq([Allowed::Anything]);
                if same || untouched {
                    continue;
                }
                let glimpse = bench.ledger.glimpse(Extent { first: lba, blocks: 1 }).expect("it is in range");
                let mut found = Vec::new();
                bench.ledger.judge(&glimpse, &[other], |wrong| found.push(wrong));
                let was_anything = glimpse_allows_anything(&bench.ledger, lba);
                prop_assert!(
                    found.len() == 1 || (was_anything && matches!(other, Content::Ones | Content::Zeroes)),
                    "block {} holds {} and {} is accepted", lba, right, other
                );
            }
        }
    }
}

/// Whether what was there at first may still be there: then erased blocks are no news.
fn glimpse_allows_anything(ledger: &Ledger, lba: u64) -> bool {
    ledger.after_power_loss(lba).expect("it is in range").any(|value| value == Allowed::Anything)
}
