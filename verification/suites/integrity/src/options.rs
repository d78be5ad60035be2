//! [`Options`]: the parameters of a load, and their words in a manifest.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use coppice_block::{BlockInfo, Operation};
use coppice_disk_oracle::Extent;
use coppice_runtime::{Environment, time};

/// The parameters of a load. As words of a manifest: `first=0`, `blocks=4096`, `threads=2`, `depth=16`,
/// `most=32`, `seed=1`, `beside=8`, `recovery-timeout=10s`, `pause=100us`, `mixed`, `no-fua`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The blocks that the load owns. Their content is overwritten.
    pub range: Extent,
    /// The number of threads, each with a queue of its own.
    pub threads: u16,
    /// The number of requests in flight per thread.
    pub depth: u32,
    /// The maximum number of blocks of one request.
    pub most_blocks: u32,
    /// The seed of the random numbers.
    pub seed: u64,
    /// The run's number in all stamps. No earlier run on this disk may have had it.
    pub run: u64,
    /// One in this many writes may overlap others in flight; 0 for none. After overlapping writes either
    /// value may be on the disk. As a word: `beside`.
    pub overlap_one_in: u32,
    /// True if some writes are FUA. The word `no-fua` clears it, for devices that ignore FUA.
    pub fua: bool,
    /// True if a read of a block during its write finds the old or the new content and no mixture, as NVM
    /// Express requires of any controller (NVM Command Set Specification 1.0, "Atomic Operation": one block
    /// at least). The word `mixed` clears it: QEMU with a disk in a file does not keep this, since its host
    /// copies to and from the page cache without a lock.
    pub atomic: bool,
    /// The time after which an unanswered request counts as lost.
    pub timeout: Duration,
    /// The pause of a thread after each exchange, which leaves CPU time to others.
    pub pause: Duration,
}

/// The reasons to refuse the options of a load.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BadOptions {
    /// A word is not valid.
    Word {
        /// The word of the manifest.
        word: String,
        /// The expected form.
        wanted: &'static str,
    },
    /// The disk does not have these blocks.
    Range {
        /// The requested blocks.
        range: Extent,
        /// The blocks of the disk.
        blocks: u64,
    },
    /// A quantity is zero or an operation is missing that a load needs.
    None {
        /// The missing quantity or operation.
        what: &'static str,
    },
}

impl fmt::Display for BadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word { word, wanted } => write!(f, "\"{word}\": {wanted} is expected"),
            Self::Range { range, blocks } => write!(f, "blocks {range} of a disk of {blocks} blocks"),
            Self::None { what } => write!(f, "a load without {what}"),
        }
    }
}

impl core::error::Error for BadOptions {}

impl Default for Options {
    fn default() -> Self {
        Self {
            range: Extent { first: 0, blocks: 4096 },
            threads: 2,
            depth: 16,
            most_blocks: 32,
            seed: 1,
            run: 0,
            overlap_one_in: 8,
            fua: true,
            atomic: true,
            timeout: Duration::from_secs(10),
            pause: Duration::ZERO,
        }
    }
}

impl Options {
    /// Reads the words of the manifest, with [`Options::default`] for omitted ones.
    ///
    /// # Errors
    /// [`BadOptions::Word`] when a number is malformed or too large, or a time has no valid unit.
    pub fn of(environment: &Environment<'_>) -> Result<Self, BadOptions> {
        let options = Self::from_words(|name| environment.option(name))?;
        let has = |word| environment.args().contains(&word);
        Ok(Self { atomic: !has("mixed"), fua: !has("no-fua"), ..options })
    }

    fn from_words<'a>(word: impl Fn(&str) -> Option<&'a str>) -> Result<Self, BadOptions> {
        let mut options = Self::default();
        let number = |name: &'static str, otherwise: u64, most: u64| match word(name) {
            None => Ok(otherwise),
            Some(text) => text.parse().ok().filter(|&number| number <= most).ok_or_else(|| {
                BadOptions::Word { word: format!("{name}={text}"), wanted: "a number within its range" }
            }),
        };
        let time = |name: &'static str, otherwise: Duration| match word(name) {
            None => Ok(otherwise),
            Some(text) => time::parse(text).ok_or_else(|| BadOptions::Word {
                word: format!("{name}={text}"),
                wanted: "a whole number of us, ms or s",
            }),
        };
        options.range.first = number("first", options.range.first, u64::MAX)?;
        options.range.blocks = number("blocks", options.range.blocks.into(), u32::MAX.into())? as u32;
        options.threads = number("threads", options.threads.into(), 64)? as u16;
        options.depth = number("depth", options.depth.into(), 4096)? as u32;
        options.most_blocks = number("most", options.most_blocks.into(), u32::MAX.into())? as u32;
        options.seed = number("seed", options.seed, u64::MAX)?;
        options.run = number("run", options.run, u64::MAX)?;
        options.overlap_one_in = number("beside", options.overlap_one_in.into(), u32::MAX.into())? as u32;
        options.timeout = time("recovery-timeout", options.timeout)?;
        options.pause = time("pause", options.pause)?;
        Ok(options)
    }

    /// Limits the options to the capabilities of the disk.
    ///
    /// # Errors
    /// [`BadOptions::None`] when a quantity is zero or the disk cannot read and write, and
    /// [`BadOptions::Range`] when the blocks exceed the disk.
    pub fn fitted(self, info: &BlockInfo) -> Result<Self, BadOptions> {
        for (count, what) in [
            (self.threads.into(), "threads"),
            (self.depth, "requests in flight"),
            (self.range.blocks, "blocks"),
            (self.most_blocks, "blocks in a request"),
        ] {
            if count == 0 {
                return Err(BadOptions::None { what });
            }
        }
        let end = self.range.first.checked_add(self.range.blocks.into());
        if end.is_none_or(|end| end > info.blocks) {
            return Err(BadOptions::Range { range: self.range, blocks: info.blocks });
        }
        let can_write =
            info.operations.contains(Operation::Write) && info.operations.contains(Operation::Read);
        if !can_write {
            return Err(BadOptions::None { what: "reads and writes, which the disk cannot do" });
        }
        Ok(Self {
            depth: self.depth.min(info.queue_depth),
            most_blocks: self.most_blocks.min(info.max_transfer_blocks).min(self.range.blocks),
            ..self
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_words_are_parsed_and_invalid_ones_are_named() {
        let words = |name: &str| match name {
            "blocks" => Some("64"),
            "recovery-timeout" => Some("250ms"),
            _ => None,
        };
        let options = Options::from_words(words).expect("all words are valid");
        assert_eq!((options.range.blocks, options.timeout), (64, Duration::from_millis(250)));
        let bad = Options::from_words(|name| (name == "threads").then_some("65"))
            .expect_err("65 threads are too many");
        assert_eq!(format!("{bad}"), "\"threads=65\": a number within its range is expected");
        let bad = Options::from_words(|name| (name == "pause").then_some("5")).expect_err("no unit");
        assert_eq!(format!("{bad}"), "\"pause=5\": a whole number of us, ms or s is expected");
    }
}
