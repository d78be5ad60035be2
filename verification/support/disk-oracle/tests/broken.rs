//! Disks that break the contract, one way each: the ledger says which way.

mod disk;

use coppice_disk_oracle::{Answer, Content, Durable, Extent, Kind, Ledger, Mode, Stamp, Write, Wrong};
use disk::Disk;

const RUN: u64 = 0x5eed;

fn extent(first: u64, blocks: u32) -> Extent {
    Extent { first, blocks }
}

fn stamps(sequence: u64, extent: Extent) -> Vec<Content> {
    let Extent { first, blocks } = extent;
    let stamp = |lba| Stamp { run: RUN, lba, sequence, first, blocks, writer: 0, journal: 0 };
    extent.lbas().map(|lba| Content::Stamped(stamp(lba))).collect()
}

struct Bench {
    ledger: Ledger,
    disk: Disk,
    durable: Vec<Durable>,
}

impl Bench {
    /// Eight blocks that have all been written by write 1.
    fn new() -> Self {
        let mut bench = Self { ledger: Ledger::new(RUN, 0, 8), disk: Disk::new(0, 8), durable: Vec::new() };
        bench.write(extent(0, 8), true);
        bench
    }

    fn begin(&mut self, extent: Extent) -> u64 {
        let sequence = self.ledger.begin(Write::Data, extent, Mode::Alone).expect("nothing is under way");
        self.disk.submit(sequence, Write::Data, extent, stamps(sequence, extent));
        sequence
    }

    /// A write that is answered, and if `happens` also done.
    fn write(&mut self, extent: Extent, happens: bool) -> u64 {
        let sequence = self.begin(extent);
        self.disk.answer(sequence, happens, 0);
        self.ledger.end(Write::Data, extent, sequence, Answer::Done, &mut self.durable);
        sequence
    }

    fn read(&mut self) -> Vec<Wrong> {
        let glimpse = self.ledger.glimpse(extent(0, 8)).expect("it is in range");
        let contents: Vec<Content> = (0..8).map(|lba| self.disk.read(lba)).collect();
        let mut found = Vec::new();
        self.ledger.judge(&glimpse, &contents, |wrong| found.push(wrong));
        found
    }

    fn kinds(&mut self) -> Vec<(u64, Kind)> {
        self.read().into_iter().map(|wrong| (wrong.lba, wrong.kind)).collect()
    }

    /// Blocks that the power loss has left as it must not.
    fn power_loss(&self) -> Vec<u64> {
        let is_lost = |&lba: &u64| {
            let mut kept = self.ledger.after_power_loss(lba).expect("it is in range");
            !kept.any(|value| value.is(&self.disk.medium[lba as usize], RUN, lba))
        };
        (0..8).filter(is_lost).collect()
    }
}

#[test]
fn a_lost_write_is_stale() {
    let mut bench = Bench::new();
    bench.write(extent(2, 3), false);
    assert_eq!(bench.kinds(), [2, 3, 4].map(|lba| (lba, Kind::Stale)));
}

#[test]
fn an_old_write_done_again_is_stale() {
    let mut bench = Bench::new();
    bench.write(extent(2, 1), true);
    bench.disk.now[2] = stamps(1, extent(0, 8))[2];
    assert_eq!(bench.kinds(), [(2, Kind::Stale)]);
}

#[test]
fn a_block_that_changes_without_a_write_is_found_although_either_value_was_right() {
    let mut bench = Bench::new();
    let sequence = bench.begin(extent(2, 1));
    let job = bench.disk.answer(sequence, false, 0);
    bench.ledger.end(Write::Data, extent(2, 1), sequence, Answer::Failed, &mut bench.durable);
    // It has not happened, says a read; so it does not happen any more.
    assert_eq!(bench.kinds(), []);
    bench.disk.now[2] = job.data[0];
    assert_eq!(bench.kinds(), [(2, Kind::Stale)]);
}

#[test]
fn a_misdirected_write_is_misplaced_where_it_is_and_stale_where_it_is_not() {
    let mut bench = Bench::new();
    let sequence = bench.write(extent(2, 1), false);
    bench.disk.now[5] = stamps(sequence, extent(2, 1))[0];
    assert_eq!(bench.kinds(), [(2, Kind::Stale), (5, Kind::Misplaced)]);
}

#[test]
fn a_torn_block_is_torn_and_one_that_is_torn_while_it_is_written_is_mixed() {
    let mut bench = Bench::new();
    let sequence = bench.begin(extent(2, 1));
    bench.disk.now[2] = Content::Torn { run: RUN, sequence };
    assert_eq!(bench.kinds(), [(2, Kind::Mixed)]);
    bench.ledger.end(Write::Data, extent(2, 1), sequence, Answer::Done, &mut bench.durable);
    assert_eq!(bench.kinds(), [(2, Kind::Torn)]);
}

#[test]
fn what_nobody_wrote_is_told_by_kind() {
    let mut bench = Bench::new();
    bench.disk.now[0] = Content::Zeroes;
    bench.disk.now[1] = Content::Foreign;
    bench.disk.now[2] = stamps(99, extent(2, 1))[0];
    bench.disk.now[3] =
        Content::Stamped(Stamp { run: 1, lba: 3, sequence: 1, first: 0, blocks: 8, writer: 0, journal: 0 });
    assert_eq!(
        bench.kinds(),
        [(0, Kind::Erased), (1, Kind::Foreign), (2, Kind::Invented), (3, Kind::Foreign)]
    );
    let text = bench.read()[2].to_string();
    assert_eq!(
        text,
        "block 2 is invented: write 99 of writer 0 to blocks 2+1, its block 2 (run 5eed); allowed is write 1"
    );
}

#[test]
fn a_forgotten_flush_is_found_after_a_power_loss_and_only_then() {
    for forgets in [false, true] {
        let mut bench = Bench::new();
        bench.write(extent(2, 3), true);
        let flush = bench.ledger.begin_flush();
        if !forgets {
            bench.disk.flush();
        }
        // Answered before the flush was answered, but not before it was submitted: it is not covered.
        bench.write(extent(6, 1), true);
        bench.ledger.end_flush(flush, &mut bench.durable);
        assert_eq!(bench.kinds(), []);
        assert_eq!(bench.power_loss(), if forgets { (0..8).collect() } else { vec![] });
    }
}

#[test]
fn a_durable_write_that_the_power_takes_is_found() {
    for keeps in [false, true] {
        let mut bench = Bench::new();
        let sequence = bench.begin(extent(2, 1));
        bench.disk.answer(sequence, true, 0);
        if keeps {
            bench.disk.persist(2);
        }
        bench.ledger.end(Write::Data, extent(2, 1), sequence, Answer::Durable, &mut bench.durable);
        // The others may hold anything: what they hold was answered and never flushed.
        assert_eq!(bench.power_loss(), if keeps { vec![] } else { vec![2] });
    }
}

#[test]
fn a_write_that_was_refused_must_not_happen() {
    let mut bench = Bench::new();
    let sequence = bench.begin(extent(2, 1));
    let job = bench.disk.answer(sequence, false, 0);
    bench.ledger.end(Write::Data, extent(2, 1), sequence, Answer::Withdrawn, &mut bench.durable);
    assert_eq!(bench.kinds(), []);
    bench.disk.now[2] = job.data[0];
    assert_eq!(bench.kinds(), [(2, Kind::Stale)]);
}

#[test]
fn a_block_whose_values_are_too_many_takes_no_more_until_it_is_flushed() {
    let mut bench = Bench::new();
    // Write 1 took one place, what was there before it another.
    let last = (0..).find_map(|_| {
        let begun = bench.ledger.begin(Write::Data, extent(2, 1), Mode::Alone);
        let sequence = match begun {
            Ok(sequence) => sequence,
            Err(refusal) => return Some(refusal),
        };
        bench.ledger.end(Write::Data, extent(2, 1), sequence, Answer::Done, &mut bench.durable);
        None
    });
    assert_eq!(last, Some(coppice_disk_oracle::Refusal::Full(coppice_disk_oracle::Full { lba: 2 })));
    assert_eq!(bench.ledger.sequence(), 1 + coppice_disk_oracle::VALUES as u64 - 2);
    let flush = bench.ledger.begin_flush();
    bench.ledger.end_flush(flush, &mut bench.durable);
    assert!(bench.ledger.begin(Write::Deallocate, extent(2, 1), Mode::Alone).is_ok());
}
