//! [`Disk`]: every value that a power loss may leave, moment by moment.
//!
//! Each block is judged by itself. So the check covers the values of each block and not the images, of which
//! there are as many as subsets of unflushed writes: the value that the last flush, or a write with FUA, has
//! left, and each value written since. All images are right if all of these are.

use std::fmt;

use anyhow::{Result, ensure};
use coppice_disk_oracle::Content;
use coppice_disk_oracle::journal::{Begin, Guarantees};

use super::write_log::{Entry, Log};

/// The number of findings that are kept.
const KEPT: usize = 8;

/// A moment, as the number of completed writes and flushes.
struct Moment(usize);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moment {}", self.0)
    }
}

/// The result of a check.
#[derive(Default)]
pub(crate) struct Findings {
    /// The number of values checked, one per block, value and moment.
    pub(crate) values: u64,
    /// The number of wrong values.
    pub(crate) count: u64,
    /// The first wrong values, each with its moment.
    pub(crate) wrong: Vec<String>,
}

impl Findings {
    fn check(
        &mut self,
        claims: &Guarantees,
        lines: u64,
        lba: u64,
        content: &Content,
        when: &dyn fmt::Display,
    ) {
        self.values += 1;
        if let Err(wrong) = claims.judge(lines, lba, content) {
            self.count += 1;
            if self.wrong.len() < KEPT {
                self.wrong.push(format!("{when}: {wrong}"));
            }
        }
    }
}

/// Checks one image.
pub(crate) fn check(
    image: &[Content],
    claims: &Guarantees,
    lines: u64,
    when: &dyn fmt::Display,
    findings: &mut Findings,
) {
    for (lba, content) in claims.begin().range.lbas().zip(image) {
        findings.check(claims, lines, lba, content, when);
    }
}

/// The possible values of each block of the load's range.
pub(crate) struct Disk {
    begin: Begin,
    blocks: Vec<Vec<Content>>,
}

impl Disk {
    /// A disk of zeroes.
    pub(crate) fn new(begin: Begin) -> Self {
        Self { begin, blocks: vec![vec![Content::Zeroes]; begin.range.blocks as usize] }
    }

    /// Applies the recorded entries, and checks all values that a power loss may leave at each moment. With
    /// `flushes` false they are ignored: this models a disk that reports flushes but does not do them.
    pub(crate) fn replay(
        mut self,
        log: &Log,
        claims: &Guarantees,
        flushes: bool,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut lines = 0;
        for (moment, entry) in log.entries.iter().enumerate() {
            let written = self.written(entry)?;
            // A stamp holds the number of journal lines that were printed before the write.
            let printed = written.iter().filter_map(|(_, content)| match content {
                Content::Stamped(stamp) if stamp.run == self.begin.run => Some(stamp.journal),
                _ => None,
            });
            let printed = printed.max().unwrap_or(0);
            if printed > lines {
                lines = printed;
                self.check(claims, lines, moment, findings);
            }
            if findings.count > 0 && !flushes {
                // The control needs one finding only.
                return Ok(());
            }
            if entry.flushes && flushes {
                self.blocks.iter_mut().for_each(|values| drop(values.drain(..values.len() - 1)));
            }
            for (lba, content) in written {
                findings.check(claims, lines, lba, &content, &Moment(moment));
                let values = &mut self.blocks[(lba - self.begin.range.first) as usize];
                if entry.is_durable && flushes {
                    values.clear();
                }
                values.push(content);
            }
        }
        self.check(claims, claims.lines(), log.entries.len(), findings);
        Ok(())
    }

    /// Checks all blocks at one moment.
    fn check(&self, claims: &Guarantees, lines: u64, moment: usize, findings: &mut Findings) {
        for (lba, values) in self.begin.range.lbas().zip(&self.blocks) {
            for content in values {
                findings.check(claims, lines, lba, content, &Moment(moment));
            }
        }
    }

    /// The blocks of the range that an entry changes, with their new contents.
    fn written(&self, entry: &Entry) -> Result<Vec<(u64, Content)>> {
        let block = u64::from(self.begin.block_bytes);
        ensure!(
            entry.offset.is_multiple_of(block) && entry.len.is_multiple_of(block),
            "a write of {} bytes at {} is not of whole blocks",
            entry.len,
            entry.offset
        );
        let first = entry.offset / block;
        let range = self.begin.range.lbas();
        let content = |index: u64| match &entry.data {
            Some(data) => Content::of(&data[(index * block) as usize..][..block as usize]),
            None => Content::Zeroes,
        };
        let blocks = (0..entry.len / block).filter(|index| range.contains(&(first + index)));
        Ok(blocks.map(|index| (first + index, content(index))).collect())
    }
}

#[cfg(test)]
mod tests {
    use coppice_disk_oracle::journal::{self, ConsoleLine};
    use coppice_disk_oracle::{Extent, Stamp};

    use super::*;

    const BEGIN: Begin = Begin { run: 5, block_bytes: 512, range: Extent { first: 2, blocks: 4 } };

    fn write(lba: u64, sequence: u64, journal: u64, is_durable: bool) -> Entry {
        let mut data = vec![0; 512];
        Stamp { run: 5, lba, sequence, first: lba, blocks: 1, writer: 0, journal }.compose(&mut data);
        Entry { offset: lba * 512, len: 512, flushes: false, is_durable, data: Some(data) }
    }

    fn flush() -> Entry {
        Entry { offset: 0, len: 0, flushes: true, is_durable: false, data: None }
    }

    fn wrong(entries: Vec<Entry>, lines: &[&str], flushes: bool) -> Vec<String> {
        let mut claims = Guarantees::new(BEGIN);
        for line in lines {
            let Ok(ConsoleLine::Line(line)) = journal::read(line) else { panic!("{line}") };
            claims.add(line).expect("lines are in order");
        }
        let mut findings = Findings::default();
        Disk::new(BEGIN).replay(&Log { entries }, &claims, flushes, &mut findings).expect("whole blocks");
        findings.wrong
    }

    #[test]
    fn an_ignored_flush_is_found_at_the_moment_that_relies_on_it() {
        let entries = || vec![write(3, 1, 0, false), flush(), write(2, 2, 1, false), write(3, 3, 1, false)];
        let lines = ["@journal 1 durable 1 3+1=1 ."];
        assert_eq!(wrong(entries(), &lines, true), Vec::<String>::new());
        let found = wrong(entries(), &lines, false);
        assert!(found[0].starts_with("moment 2: block 3 is erased"), "{found:?}");
    }

    #[test]
    fn a_premature_durable_line_is_found() {
        // The flush comes after a write whose stamp counts the journal line as printed.
        let entries = vec![write(3, 1, 0, false), write(2, 2, 1, false), flush()];
        assert_eq!(wrong(entries, &["@journal 1 durable 1 3+1=1 ."], true).len(), 1);
    }

    #[test]
    fn a_write_with_fua_leaves_nothing_older() {
        let lines = ["@journal 1 durable 2 3+1=2 ."];
        let good = vec![write(3, 1, 0, false), write(3, 2, 0, true), write(2, 3, 1, false)];
        assert_eq!(wrong(good, &lines, true), Vec::<String>::new());
        let bad = vec![write(3, 1, 0, false), write(3, 2, 0, false), write(2, 3, 1, false)];
        let found = wrong(bad, &lines, true);
        assert!(found.iter().any(|one| one.contains("block 3 is stale")), "{found:?}");
    }

    #[test]
    fn an_old_write_repeated_after_a_flush_is_found() {
        let entries = vec![
            write(3, 1, 0, false),
            write(3, 2, 0, false),
            flush(),
            write(2, 3, 1, false),
            write(3, 1, 0, false),
        ];
        let found = wrong(entries, &["@journal 1 durable 2 3+1=2 ."], true);
        assert!(found.iter().any(|one| one.starts_with("moment 4: block 3 is stale")), "{found:?}");
    }
}
