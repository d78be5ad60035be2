//! The journal: the possible contents after a power loss, as lines of text that the host records.
//!
//! ```text
//! @journal begin run=9f3c block_bytes=512 range=0+4096 .
//! @journal 1 zeroes 17 200+16 .
//! @journal 2 durable 23 100+8=12 108+2=12,z17 .
//! ```
//!
//! A `durable` line guarantees: a power loss leaves each of these blocks with one of the values after the
//! `=`, or with one of a write after number 23. The guarantee holds from the time when the line is printed
//! on. A value is the number of a write, with the prefix `z` for zeroes and `o` for ones, or `?` for the
//! content at the start. `zeroes` and `deallocate` lines are printed before the submission, because the
//! erased blocks carry no sequence number; a stamped block does and needs no line. A line without the final
//! full stop has been truncated. Lines are numbered, so a missing line is noticed. A [`Stamp`](crate::Stamp)
//! contains the number of lines printed before its write: a stamp on the disk therefore proves that these
//! lines hold.

mod guarantees;
#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use crate::oracle::{Allowed, Durable, Extent, Write};
pub use guarantees::{Gap, Guarantees};

/// The prefix of each line.
pub const MARK: &str = "@journal ";

/// The first line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// The run of the stamps on the disk.
    pub run: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// The blocks that the journal covers.
    pub range: Extent,
}

/// Any other line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The line number, from 1.
    pub number: u64,
    /// The content of the line.
    pub entry: Entry,
}

/// The content of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The possible contents after a power loss.
    Durable {
        /// The latest write at that time: a later one may be found instead.
        sequence: u64,
        /// The blocks and their values.
        blocks: Vec<Durable>,
    },
    /// Blocks are about to be erased.
    Erasure {
        /// [`Write::Zeroes`] or [`Write::Deallocate`].
        write: Write,
        /// The sequence number of the write.
        sequence: u64,
        /// The erased blocks.
        extent: Extent,
    },
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, block_bytes, range } = self;
        write!(f, "{MARK}begin run={run:x} block_bytes={block_bytes} range={range} .")
    }
}

/// A value in the notation of the lines.
struct Notation(Allowed);

impl fmt::Display for Notation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Allowed::Anything => f.write_str("?"),
            Allowed::Stamped(sequence) => write!(f, "{sequence}"),
            Allowed::Zeroes(sequence) => write!(f, "z{sequence}"),
            Allowed::Ones(sequence) => write!(f, "o{sequence}"),
        }
    }
}

/// Numbers lines and passes them to a print function.
#[derive(Debug)]
pub struct Writer {
    lines: u64,
    /// The maximum number of bytes in a line.
    width: usize,
}

impl Writer {
    /// Returns a writer of lines with at most `width` bytes. The longest entry of one block takes 300 bytes,
    /// other lines less than 100.
    pub const fn new(width: usize) -> Self {
        Self { lines: 0, width }
    }

    /// Returns the number of lines so far.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Prints the blocks that have become durable; `sequence` is [`crate::DiskOracle::sequence`] at that
    /// time.
    pub fn durable(&mut self, sequence: u64, durable: &[Durable], mut say: impl FnMut(&str)) {
        let mut line = String::new();
        for Durable { extent, values } in durable {
            let mut entry = String::new();
            write!(entry, " {extent}=").expect("writing to a String succeeds");
            for (number, &value) in values.iter().enumerate() {
                let comma = if number == 0 { "" } else { "," };
                write!(entry, "{comma}{}", Notation(value)).expect("writing to a String succeeds");
            }
            if !line.is_empty() && line.len() + entry.len() + 2 > self.width {
                line.push_str(" .");
                say(&line);
                line.clear();
            }
            if line.is_empty() {
                self.lines += 1;
                write!(line, "{MARK}{} durable {sequence}", self.lines)
                    .expect("writing to a String succeeds");
            }
            line.push_str(&entry);
        }
        if !line.is_empty() {
            line.push_str(" .");
            say(&line);
        }
    }

    /// Prints that blocks are about to be erased.
    pub fn erasure(&mut self, write: Write, sequence: u64, extent: Extent, say: impl FnOnce(&str)) {
        self.lines += 1;
        let mut line = String::new();
        let verb = if write == Write::Deallocate { "deallocate" } else { "zeroes" };
        write!(line, "{MARK}{} {verb} {sequence} {extent} .", self.lines)
            .expect("writing to a String succeeds");
        say(&line);
    }
}

/// The meaning of a console line for the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConsoleLine {
    /// The first line of the journal.
    Begin(Begin),
    /// A later line of the journal.
    Line(Line),
    /// A line that is not the journal's.
    Other,
}

/// A line of the journal that is truncated or garbled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged(pub String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a damaged line of the journal: {}", self.0)
    }
}

impl core::error::Error for Damaged {}

/// Parses a line of a console.
///
/// # Errors
/// [`Damaged`] when the line starts with [`MARK`] but is not a complete line of the journal.
pub fn read(line: &str) -> Result<ConsoleLine, Damaged> {
    let Some(text) = line.strip_prefix(MARK) else { return Ok(ConsoleLine::Other) };
    parse(text).ok_or_else(|| Damaged(line.to_string()))
}

fn parse(text: &str) -> Option<ConsoleLine> {
    let mut words = text.strip_suffix(" .")?.split(' ');
    let first = words.next()?;
    if first == "begin" {
        let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let run = u64::from_str_radix(value("run")?, 16).ok()?;
        let block_bytes = value("block_bytes")?.parse().ok()?;
        let range = extent(value("range")?)?;
        return Some(ConsoleLine::Begin(Begin { run, block_bytes, range }));
    }
    let number = first.parse().ok()?;
    let what = words.next()?;
    let sequence = words.next()?.parse().ok()?;
    let entry = match what {
        "durable" => Entry::Durable { sequence, blocks: words.map(durable).collect::<Option<_>>()? },
        "zeroes" => Entry::Erasure { write: Write::Zeroes, sequence, extent: extent(words.next()?)? },
        "deallocate" => Entry::Erasure { write: Write::Deallocate, sequence, extent: extent(words.next()?)? },
        _ => return None,
    };
    Some(ConsoleLine::Line(Line { number, entry }))
}

fn extent(word: &str) -> Option<Extent> {
    let (first, blocks) = word.split_once('+')?;
    let extent = Extent { first: first.parse().ok()?, blocks: blocks.parse().ok()? };
    extent.first.checked_add(u64::from(extent.blocks))?;
    Some(extent)
}

fn durable(word: &str) -> Option<Durable> {
    let (blocks, values) = word.split_once('=')?;
    let values = values.split(',').map(allowed).collect::<Option<_>>()?;
    Some(Durable { extent: extent(blocks)?, values })
}

fn allowed(word: &str) -> Option<Allowed> {
    if word == "?" {
        return Some(Allowed::Anything);
    }
    if let Some(number) = word.strip_prefix('z') {
        return number.parse().ok().map(Allowed::Zeroes);
    }
    if let Some(number) = word.strip_prefix('o') {
        return number.parse().ok().map(Allowed::Ones);
    }
    word.parse().ok().map(Allowed::Stamped)
}
