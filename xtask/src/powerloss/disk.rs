//! [`Disk`]: every value that a power loss may leave, moment by moment.
//!
//! Whether a block is right depends on that block alone. So instead of images, of which there are as many as subsets of unflushed
//! writes, the values of each block are looked at: what the last flush, or a write with FUA, has left, and each that was written since.
//! All images are right if all of these are.

use std::fmt;

use anyhow::{Result, ensure};
use coppice_disk_oracle::Content;
use coppice_disk_oracle::journal::{Begin, Claims};

use super::log::{Entry, Log};

/// Findings that are kept.
const KEPT: usize = 8;

/// How many writes and flushes had been done.
struct Moment(usize);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "moment {}", self.0)
    }
}

/// What was found.
#[derive(Default)]
pub(crate) struct Findings {
    /// How many values of a block at a moment were looked at.
    pub(crate) values: u64,
    /// How many of them are wrong.
    pub(crate) count: u64,
    /// The first that are, each with its moment.
    pub(crate) wrong: Vec<String>,
}

impl Findings {
    fn look(&mut self, claims: &Claims, lines: u64, lba: u64, content: &Content, when: &dyn fmt::Display) {
        self.values += 1;
        if let Err(wrong) = claims.judge(lines, lba, content) {
            self.count += 1;
            if self.wrong.len() < KEPT {
                self.wrong.push(format!("{when}: {wrong}"));
            }
        }
    }
}

/// Looks at one image.
pub(crate) fn look(
    image: &[Content],
    claims: &Claims,
    lines: u64,
    when: &dyn fmt::Display,
    findings: &mut Findings,
) {
    for (lba, content) in claims.begin().range.lbas().zip(image) {
        findings.look(claims, lines, lba, content, when);
    }
}

/// The values of each block of the load's range.
pub(crate) struct Disk {
    begin: Begin,
    blocks: Vec<Vec<Content>>,
}

impl Disk {
    /// Zeroes.
    pub(crate) fn new(begin: Begin) -> Self {
        Self { begin, blocks: vec![vec![Content::Zeroes]; begin.range.blocks as usize] }
    }

    /// Does what was recorded, and looks at all that a power loss may leave at each moment. Without `flushes` these are ignored: the
    /// disk says that it has done them, and that is all.
    pub(crate) fn replay(
        mut self,
        log: &Log,
        claims: &Claims,
        flushes: bool,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut lines = 0;
        for (moment, entry) in log.entries.iter().enumerate() {
            let written = self.written(entry)?;
            // Who wrote this had said so much before.
            let said = written.iter().filter_map(|(_, content)| match content {
                Content::Stamped(stamp) if stamp.run == self.begin.run => Some(stamp.journal),
                _ => None,
            });
            let said = said.max().unwrap_or(0);
            if said > lines {
                lines = said;
                self.look(claims, lines, moment, findings);
            }
            if findings.count > 0 && !flushes {
                // That was to be shown.
                return Ok(());
            }
            if entry.flushes && flushes {
                self.blocks.iter_mut().for_each(|values| drop(values.drain(..values.len() - 1)));
            }
            for (lba, content) in written {
                findings.look(claims, lines, lba, &content, &Moment(moment));
                let values = &mut self.blocks[(lba - self.begin.range.first) as usize];
                if entry.is_durable && flushes {
                    values.clear();
                }
                values.push(content);
            }
        }
        self.look(claims, claims.lines(), log.entries.len(), findings);
        Ok(())
    }

    /// All blocks at one moment.
    fn look(&self, claims: &Claims, lines: u64, moment: usize, findings: &mut Findings) {
        for (lba, values) in self.begin.range.lbas().zip(&self.blocks) {
            for content in values {
                findings.look(claims, lines, lba, content, &Moment(moment));
            }
        }
    }

    /// The blocks of the range that an entry changes, and to what.
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
    use coppice_disk_oracle::journal::{self, Heard};
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
        let mut claims = Claims::new(BEGIN);
        for line in lines {
            let Ok(Heard::Line(line)) = journal::read(line) else { panic!("{line}") };
            claims.add(line).expect("lines are in order");
        }
        let mut findings = Findings::default();
        Disk::new(BEGIN).replay(&Log { entries }, &claims, flushes, &mut findings).expect("whole blocks");
        findings.wrong
    }

    #[test]
    fn a_flush_that_was_forgotten_is_found_at_the_moment_when_it_was_believed() {
        let entries = || vec![write(3, 1, 0, false), flush(), write(2, 2, 1, false), write(3, 3, 1, false)];
        let lines = ["@journal 1 durable 1 3+1=1 ."];
        assert_eq!(wrong(entries(), &lines, true), Vec::<String>::new());
        let found = wrong(entries(), &lines, false);
        assert!(found[0].starts_with("moment 2: block 3 is erased"), "{found:?}");
    }

    #[test]
    fn what_was_said_before_it_was_true_is_found() {
        // The flush comes after a write whose writer believed that it was done.
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
    fn an_old_write_that_is_done_again_behind_a_flush_is_found() {
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
