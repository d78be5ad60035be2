use std::string::String;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::mismatch::Kind;
use crate::stamp::{Content, Stamp};

const BEGIN: Begin = Begin { run: 0x9f3c, block_bytes: 512, range: Extent { first: 10, blocks: 20 } };

fn line(text: &str) -> Line {
    match read(text) {
        Ok(ConsoleLine::Line(line)) => line,
        other => panic!("{text}: {other:?}"),
    }
}

fn stamped(lba: u64, sequence: u64) -> Content {
    Content::Stamped(Stamp { run: BEGIN.run, lba, sequence, first: lba, blocks: 1, writer: 0, journal: 0 })
}

fn extent(first: u64, blocks: u32) -> Extent {
    Extent { first, blocks }
}

#[test]
fn a_written_line_parses_back() {
    assert_eq!(read(&std::format!("{BEGIN}")), Ok(ConsoleLine::Begin(BEGIN)));
    let mut writer = Writer::new(60);
    let values = vec![Allowed::Stamped(12), Allowed::Zeroes(17), Allowed::Ones(18), Allowed::Anything];
    let durable: Vec<_> =
        (0..5).map(|number| Durable { extent: extent(10 + number, 1), values: values.clone() }).collect();
    let mut lines = Vec::<String>::new();
    writer.erasure(Write::Deallocate, 18, extent(10, 4), |line| lines.push(line.into()));
    writer.durable(23, &durable, |line| lines.push(line.into()));
    assert!(lines.len() > 2 && lines.iter().all(|line| line.len() <= 60), "{lines:?}");
    let read: Vec<_> = lines.iter().map(|text| line(text)).collect();
    assert_eq!(
        read[0].entry,
        Entry::Erasure { write: Write::Deallocate, sequence: 18, extent: extent(10, 4) }
    );
    let mut back = Vec::new();
    for (number, line) in read.into_iter().enumerate() {
        assert_eq!(line.number, number as u64 + 1);
        if let Entry::Durable { sequence, blocks } = line.entry {
            assert_eq!(sequence, 23);
            back.extend(blocks);
        }
    }
    assert_eq!((back, writer.lines()), (durable, lines.len() as u64));
}

#[test]
fn a_truncated_line_is_damaged_and_never_misread() {
    let whole = "@journal 2 durable 23 100+8=12 108+2=12,z17 .";
    line(whole);
    for end in MARK.len()..whole.len() {
        assert!(matches!(read(&whole[..end]), Err(Damaged(text)) if text == whole[..end]), "{end}");
    }
    assert_eq!(read("[ 0.1] kernel: up"), Ok(ConsoleLine::Other));
    for bad in [
        "@journal 2 lasting 4 1+1 .",
        "@journal x durable 4 .",
        "@journal 1 zeroes 4 18446744073709551615+1 .",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_block_may_hold_a_guaranteed_value_or_a_later_write() {
    let mut guarantees = Guarantees::new(BEGIN);
    assert_eq!(guarantees.judge(0, 10, &Content::Foreign), Ok(()));
    guarantees.add(line("@journal 1 zeroes 17 12+1 .")).expect("the first");
    guarantees.add(line("@journal 2 durable 23 11+2=12,z17 13+1=20 .")).expect("the second");
    for (lba, content, kind) in [
        (11, stamped(11, 12), None),
        (11, stamped(11, 24), None),
        (11, Content::Zeroes, None),
        (11, stamped(11, 11), Some(Kind::Stale)),
        (11, stamped(11, 23), Some(Kind::Stale)),
        (11, stamped(12, 12), Some(Kind::Misplaced)),
        (11, Content::Foreign, Some(Kind::Foreign)),
        (13, Content::Zeroes, Some(Kind::Erased)),
        (13, Content::Torn { run: BEGIN.run, sequence: 20 }, Some(Kind::Torn)),
        (13, stamped(13, 20), None),
    ] {
        let verdict = guarantees.judge(2, lba, &content);
        assert_eq!(verdict.err().map(|wrong| wrong.kind), kind, "{lba} {content}");
        // Before its line was printed, the guarantee did not hold.
        if kind != Some(Kind::Misplaced) && kind != Some(Kind::Torn) {
            assert!(
                guarantees.judge(1, lba, &content).is_ok() || content == Content::Zeroes,
                "{lba} {content}"
            );
        }
    }
    guarantees.add(line("@journal 3 deallocate 30 13+1 .")).expect("the third");
    assert_eq!(
        (guarantees.judge(3, 13, &Content::Zeroes), guarantees.judge(3, 13, &Content::Ones)),
        (Ok(()), Ok(()))
    );
    assert_eq!(guarantees.covered_blocks(), 3);
}

#[test]
fn a_weaker_guarantee_does_not_replace_a_stronger_one() {
    let mut guarantees = Guarantees::new(BEGIN);
    guarantees.add(line("@journal 1 durable 23 11+1=12 .")).expect("the first");
    guarantees.add(line("@journal 2 durable 20 11+1=12,13 .")).expect("the second");
    assert!(guarantees.judge(2, 11, &stamped(11, 13)).is_err());
}

#[test]
fn a_missing_line_is_an_error() {
    let mut guarantees = Guarantees::new(BEGIN);
    guarantees.add(line("@journal 1 zeroes 17 12+1 .")).expect("the first");
    let gap = guarantees.add(line("@journal 3 zeroes 17 12+1 ."));
    assert_eq!(gap, Err(Gap::Line { expected: 2, found: 3 }));
    let gap = guarantees.add(line("@journal 2 zeroes 17 29+2 ."));
    assert_eq!(gap, Err(Gap::Range(extent(29, 2))));
}
