//! The journal: what a power loss may leave, in lines of text that somebody else keeps.
//!
//! ```text
//! @journal begin run=9f3c block_bytes=512 range=0+4096 .
//! @journal 1 zeroes 17 200+16 .
//! @journal 2 durable 23 100+8=12 108+2=12,z17 .
//! ```
//!
//! A `durable` line says: of these blocks a power loss leaves one of the values behind the `=`, or one of a write after number 23.
//! That is true from when it is said and stays true. A value is a write's number, with `z` in front for zeroes and `o` for ones,
//! or `?` for what was there at the beginning. `zeroes` and `deallocate` are announced before they are submitted, because what they leave
//! does not say which write it is of; a block that was stamped does, so it need not be announced. A line that does not end with
//! a full stop has been cut. Lines are numbered, so that none is missed, and a [`Stamp`](crate::Stamp) says how many were out when it was
//! made: whoever sees it on the disk knows which lines hold.

mod claims;
#[cfg(test)]
mod tests;

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

use crate::ledger::{Allowed, Durable, Extent, Write};
pub use claims::{Claims, Gap};

/// What each line begins with.
pub const MARK: &str = "@journal ";

/// The line in front of all others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Begin {
    /// The run whose stamps are on the disk.
    pub run: u64,
    /// Bytes of a block.
    pub block_bytes: u32,
    /// The blocks that it is about.
    pub range: Extent,
}

/// Another line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// What it says.
    pub entry: Entry,
}

/// What a line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// What a power loss may leave.
    Durable {
        /// The latest write when this was found: whatever is written later may be there instead.
        sequence: u64,
        /// Blocks and their values.
        blocks: Vec<Durable>,
    },
    /// Blocks are about to be erased.
    Erasure {
        /// [`Write::Zeroes`] or [`Write::Deallocate`].
        write: Write,
        /// Its number.
        sequence: u64,
        /// The blocks.
        extent: Extent,
    },
}

impl fmt::Display for Begin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, block_bytes, range } = self;
        write!(f, "{MARK}begin run={run:x} block_bytes={block_bytes} range={range} .")
    }
}

/// A value, as lines have it.
struct Short(Allowed);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Allowed::Anything => f.write_str("?"),
            Allowed::Stamped(sequence) => write!(f, "{sequence}"),
            Allowed::Zeroes(sequence) => write!(f, "z{sequence}"),
            Allowed::Ones(sequence) => write!(f, "o{sequence}"),
        }
    }
}

/// Numbers lines and hands them to whoever prints them.
#[derive(Debug)]
pub struct Writer {
    lines: u64,
    /// Most bytes of a line.
    width: usize,
}

impl Writer {
    /// For lines of at most `width` bytes; the longest entry of one block takes 300, and others less than 100.
    pub const fn new(width: usize) -> Self {
        Self { lines: 0, width }
    }

    /// How many lines there have been.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// What has become durable; `sequence` is [`crate::Ledger::sequence`] of the same moment.
    pub fn durable(&mut self, sequence: u64, durable: &[Durable], mut say: impl FnMut(&str)) {
        let mut line = String::new();
        for Durable { extent, values } in durable {
            let mut entry = String::new();
            write!(entry, " {extent}=").expect("writing to a String succeeds");
            for (number, &value) in values.iter().enumerate() {
                let comma = if number == 0 { "" } else { "," };
                write!(entry, "{comma}{}", Short(value)).expect("writing to a String succeeds");
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

    /// Blocks are about to be erased.
    pub fn erasure(&mut self, write: Write, sequence: u64, extent: Extent, say: impl FnOnce(&str)) {
        self.lines += 1;
        let mut line = String::new();
        let what = if write == Write::Deallocate { "deallocate" } else { "zeroes" };
        write!(line, "{MARK}{} {what} {sequence} {extent} .", self.lines)
            .expect("writing to a String succeeds");
        say(&line);
    }
}

/// What a line of a console is to the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// The first line.
    Begin(Begin),
    /// Another.
    Line(Line),
    /// Something else's.
    Other,
}

/// A line of the journal that is not whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damaged(pub String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a damaged line of the journal: {}", self.0)
    }
}

impl core::error::Error for Damaged {}

/// Reads a line of a console.
///
/// # Errors
/// [`Damaged`].
pub fn read(line: &str) -> Result<Heard, Damaged> {
    let Some(text) = line.strip_prefix(MARK) else { return Ok(Heard::Other) };
    parse(text).ok_or_else(|| Damaged(line.to_string()))
}

fn parse(text: &str) -> Option<Heard> {
    let mut words = text.strip_suffix(" .")?.split(' ');
    let first = words.next()?;
    if first == "begin" {
        let mut value = |name: &str| words.next()?.strip_prefix(name)?.strip_prefix('=');
        let run = u64::from_str_radix(value("run")?, 16).ok()?;
        let block_bytes = value("block_bytes")?.parse().ok()?;
        let range = extent(value("range")?)?;
        return Some(Heard::Begin(Begin { run, block_bytes, range }));
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
    Some(Heard::Line(Line { number, entry }))
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
