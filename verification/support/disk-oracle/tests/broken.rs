//! Disks that break the contract in one way each: the oracle reports which.

mod disk;

use coppice_disk_oracle::{
    Content, DiskOracle, Durable, Extent, Kind, Mismatch, Mode, Stamp, Write, WriteOutcome,
};
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

struct Fixture {
    oracle: DiskOracle,
    disk: Disk,
    durable: Vec<Durable>,
}

impl Fixture {
    /// Returns a fixture with eight blocks, all written by write 1.
    fn new() -> Self {
        let mut fixture =
            Self { oracle: DiskOracle::new(RUN, 0, 8), disk: Disk::new(0, 8), durable: Vec::new() };
        fixture.write(extent(0, 8), true);
        fixture
    }

    fn begin(&mut self, extent: Extent) -> u64 {
        let sequence = self.oracle.begin(Write::Data, extent, Mode::Exclusive).expect("nothing is in flight");
        self.disk.submit(sequence, Write::Data, extent, stamps(sequence, extent));
        sequence
    }

    /// Submits and completes a write, which takes effect if `takes_effect`.
    fn write(&mut self, extent: Extent, takes_effect: bool) -> u64 {
        let sequence = self.begin(extent);
        self.disk.complete(sequence, takes_effect, 0);
        self.oracle.end(Write::Data, extent, sequence, WriteOutcome::Done, &mut self.durable);
        sequence
    }

    fn read(&mut self) -> Vec<Mismatch> {
        let expectation = self.oracle.expect_read(extent(0, 8)).expect("it is in range");
        let contents: Vec<Content> = (0..8).map(|lba| self.disk.read(lba)).collect();
        let mut found = Vec::new();
        self.oracle.judge(&expectation, &contents, |wrong| found.push(wrong));
        found
    }

    fn kinds(&mut self) -> Vec<(u64, Kind)> {
        self.read().into_iter().map(|wrong| (wrong.lba, wrong.kind)).collect()
    }

    /// Returns the blocks that the power loss left with a content that is not allowed.
    fn power_loss(&self) -> Vec<u64> {
        let is_lost = |&lba: &u64| {
            let mut kept = self.oracle.after_power_loss(lba).expect("it is in range");
            !kept.any(|value| value.is(&self.disk.medium[lba as usize], RUN, lba))
        };
        (0..8).filter(is_lost).collect()
    }
}

#[test]
fn a_lost_write_is_stale() {
    let mut fixture = Fixture::new();
    fixture.write(extent(2, 3), false);
    assert_eq!(fixture.kinds(), [2, 3, 4].map(|lba| (lba, Kind::Stale)));
}

#[test]
fn an_old_write_done_again_is_stale() {
    let mut fixture = Fixture::new();
    fixture.write(extent(2, 1), true);
    fixture.disk.now[2] = stamps(1, extent(0, 8))[2];
    assert_eq!(fixture.kinds(), [(2, Kind::Stale)]);
}

#[test]
fn a_block_that_changes_without_a_write_is_found() {
    let mut fixture = Fixture::new();
    let sequence = fixture.begin(extent(2, 1));
    let job = fixture.disk.complete(sequence, false, 0);
    fixture.oracle.end(Write::Data, extent(2, 1), sequence, WriteOutcome::Failed, &mut fixture.durable);
    // The read shows that it has not taken effect; so it must not do so later.
    assert_eq!(fixture.kinds(), []);
    fixture.disk.now[2] = job.data[0];
    assert_eq!(fixture.kinds(), [(2, Kind::Stale)]);
}

#[test]
fn a_misdirected_write_leaves_a_misplaced_block_and_a_stale_one() {
    let mut fixture = Fixture::new();
    let sequence = fixture.write(extent(2, 1), false);
    fixture.disk.now[5] = stamps(sequence, extent(2, 1))[0];
    assert_eq!(fixture.kinds(), [(2, Kind::Stale), (5, Kind::Misplaced)]);
}

#[test]
fn a_torn_block_is_mixed_only_during_a_write_to_it() {
    let mut fixture = Fixture::new();
    let sequence = fixture.begin(extent(2, 1));
    fixture.disk.now[2] = Content::Torn { run: RUN, sequence };
    assert_eq!(fixture.kinds(), [(2, Kind::Mixed)]);
    fixture.oracle.end(Write::Data, extent(2, 1), sequence, WriteOutcome::Done, &mut fixture.durable);
    assert_eq!(fixture.kinds(), [(2, Kind::Torn)]);
}

#[test]
fn data_of_no_write_is_classified() {
    let mut fixture = Fixture::new();
    fixture.disk.now[0] = Content::Zeroes;
    fixture.disk.now[1] = Content::Foreign;
    fixture.disk.now[2] = stamps(99, extent(2, 1))[0];
    fixture.disk.now[3] =
        Content::Stamped(Stamp { run: 1, lba: 3, sequence: 1, first: 0, blocks: 8, writer: 0, journal: 0 });
    assert_eq!(
        fixture.kinds(),
        [(0, Kind::Erased), (1, Kind::Foreign), (2, Kind::NeverWritten), (3, Kind::Foreign)]
    );
    let text = fixture.read()[2].to_string();
    assert_eq!(
        text,
        "block 2 is invented: write 99 of writer 0 to blocks 2+1, its block 2 (run 5eed); allowed is write 1"
    );
}

#[test]
fn an_ignored_flush_is_found_only_after_a_power_loss() {
    for forgets in [false, true] {
        let mut fixture = Fixture::new();
        fixture.write(extent(2, 3), true);
        let flush = fixture.oracle.begin_flush();
        if !forgets {
            fixture.disk.flush();
        }
        // It completed before the flush did, but after the flush's submission: it is not covered.
        fixture.write(extent(6, 1), true);
        fixture.oracle.end_flush(flush, &mut fixture.durable);
        assert_eq!(fixture.kinds(), []);
        assert_eq!(fixture.power_loss(), if forgets { (0..8).collect() } else { vec![] });
    }
}

#[test]
fn a_durable_write_lost_with_the_power_is_found() {
    for keeps in [false, true] {
        let mut fixture = Fixture::new();
        let sequence = fixture.begin(extent(2, 1));
        fixture.disk.complete(sequence, true, 0);
        if keeps {
            fixture.disk.persist(2);
        }
        fixture.oracle.end(Write::Data, extent(2, 1), sequence, WriteOutcome::Durable, &mut fixture.durable);
        // The other blocks may hold any value: their writes completed and were never flushed.
        assert_eq!(fixture.power_loss(), if keeps { vec![] } else { vec![2] });
    }
}

#[test]
fn a_refused_write_must_not_take_effect() {
    let mut fixture = Fixture::new();
    let sequence = fixture.begin(extent(2, 1));
    let job = fixture.disk.complete(sequence, false, 0);
    fixture.oracle.end(Write::Data, extent(2, 1), sequence, WriteOutcome::Withdrawn, &mut fixture.durable);
    assert_eq!(fixture.kinds(), []);
    fixture.disk.now[2] = job.data[0];
    assert_eq!(fixture.kinds(), [(2, Kind::Stale)]);
}

#[test]
fn a_block_with_too_many_values_is_refused_until_a_flush() {
    let mut fixture = Fixture::new();
    // Write 1 took one slot, the content before it another.
    let last = (0..).find_map(|_| {
        let begun = fixture.oracle.begin(Write::Data, extent(2, 1), Mode::Exclusive);
        let sequence = match begun {
            Ok(sequence) => sequence,
            Err(refusal) => return Some(refusal),
        };
        fixture.oracle.end(Write::Data, extent(2, 1), sequence, WriteOutcome::Done, &mut fixture.durable);
        None
    });
    assert_eq!(last, Some(coppice_disk_oracle::Refusal::Full(coppice_disk_oracle::Full { lba: 2 })));
    assert_eq!(fixture.oracle.sequence(), 1 + coppice_disk_oracle::VALUES as u64 - 2);
    let flush = fixture.oracle.begin_flush();
    fixture.oracle.end_flush(flush, &mut fixture.durable);
    assert!(fixture.oracle.begin(Write::Deallocate, extent(2, 1), Mode::Exclusive).is_ok());
}
