//! [`Options`]: what a load does, and how a manifest says it.

use alloc::format;
use alloc::string::String;
use core::fmt;
use core::time::Duration;

use coppice_block::{BlockInfo, Operation};
use coppice_disk_oracle::Extent;
use coppice_runtime::{Environment, time};

/// What a load does. As words of a manifest: `first=0`, `blocks=4096`, `threads=2`, `depth=16`, `most=32`, `seed=1`,
/// `beside=8`, `recovery-timeout=10s`, `pause=100us`, `mixed`, `no-fua`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The blocks that are the load's alone. All that is in them is lost.
    pub range: Extent,
    /// How many threads, each with a queue of its own.
    pub threads: u16,
    /// Requests that each has under way.
    pub depth: u32,
    /// Most blocks of one request.
    pub most_blocks: u32,
    /// What chance is made of.
    pub seed: u64,
    /// The run's name in all stamps; no earlier run's on this disk.
    pub run: u64,
    /// One write of so many may overlap others that are under way; 0 for none. After such writes either may have been the last.
    pub beside: u32,
    /// Whether some writes are FUA. As a word: `no-fua`, where the device takes no notice of it.
    pub fua: bool,
    /// Whether a read finds the old or the new of a block that is being written, and nothing between, as NVM Express says of any
    /// controller (NVM Command Set Specification 1.0, "Atomic Operation": one block at least). QEMU with a disk in a file does not keep that:
    /// its host copies to and from the page cache without a lock. As a word: `mixed`, where it need not be so.
    pub atomic: bool,
    /// A request that is not answered after this time is lost.
    pub patience: Duration,
    /// How long a thread rests after each exchange, for a load that shall leave others room.
    pub pause: Duration,
}

/// A load that makes no sense.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Senseless {
    /// A word that is not understood.
    Word {
        /// As given.
        word: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The disk has no such blocks.
    Range {
        /// As asked for.
        range: Extent,
        /// What there is.
        blocks: u64,
    },
    /// Nobody can work with none of these.
    None {
        /// Of what there are none.
        what: &'static str,
    },
}

impl fmt::Display for Senseless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word { word, wanted } => write!(f, "\"{word}\": {wanted} is wanted"),
            Self::Range { range, blocks } => write!(f, "blocks {range} of a disk of {blocks} blocks"),
            Self::None { what } => write!(f, "a load without {what}"),
        }
    }
}

impl core::error::Error for Senseless {}

impl Default for Options {
    fn default() -> Self {
        Self {
            range: Extent { first: 0, blocks: 4096 },
            threads: 2,
            depth: 16,
            most_blocks: 32,
            seed: 1,
            run: 0,
            beside: 8,
            fua: true,
            atomic: true,
            patience: Duration::from_secs(10),
            pause: Duration::ZERO,
        }
    }
}

impl Options {
    /// What the manifest says; what it does not say is as in [`Options::default`].
    ///
    /// # Errors
    /// [`Senseless::Word`].
    pub fn of(environment: &Environment<'_>) -> Result<Self, Senseless> {
        let options = Self::from_words(|name| environment.option(name))?;
        let has = |word| environment.args().contains(&word);
        Ok(Self { atomic: !has("mixed"), fua: !has("no-fua"), ..options })
    }

    fn from_words<'a>(word: impl Fn(&str) -> Option<&'a str>) -> Result<Self, Senseless> {
        let mut options = Self::default();
        let number = |name: &'static str, otherwise: u64, most: u64| match word(name) {
            None => Ok(otherwise),
            Some(text) => text.parse().ok().filter(|&number| number <= most).ok_or_else(|| Senseless::Word {
                word: format!("{name}={text}"),
                wanted: "a number that is not too large",
            }),
        };
        let time = |name: &'static str, otherwise: Duration| match word(name) {
            None => Ok(otherwise),
            Some(text) => time::parse(text).ok_or_else(|| Senseless::Word {
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
        options.beside = number("beside", options.beside.into(), u32::MAX.into())? as u32;
        options.patience = time("recovery-timeout", options.patience)?;
        options.pause = time("pause", options.pause)?;
        Ok(options)
    }

    /// The same, as far as the disk can do it.
    ///
    /// # Errors
    /// [`Senseless`].
    pub fn fitted(self, info: &BlockInfo) -> Result<Self, Senseless> {
        for (count, what) in [
            (self.threads.into(), "threads"),
            (self.depth, "requests under way"),
            (self.range.blocks, "blocks"),
            (self.most_blocks, "blocks in a request"),
        ] {
            if count == 0 {
                return Err(Senseless::None { what });
            }
        }
        let end = self.range.first.checked_add(self.range.blocks.into());
        if end.is_none_or(|end| end > info.blocks) {
            return Err(Senseless::Range { range: self.range, blocks: info.blocks });
        }
        let can_write =
            info.operations.contains(Operation::Write) && info.operations.contains(Operation::Read);
        if !can_write {
            return Err(Senseless::None { what: "reads and writes, which the disk cannot do" });
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
    fn words_are_understood_or_named() {
        let words = |name: &str| match name {
            "blocks" => Some("64"),
            "recovery-timeout" => Some("250ms"),
            _ => None,
        };
        let options = Options::from_words(words).expect("all words make sense");
        assert_eq!((options.range.blocks, options.patience), (64, Duration::from_millis(250)));
        let bad = Options::from_words(|name| (name == "threads").then_some("65")).expect_err("too many");
        assert_eq!(format!("{bad}"), "\"threads=65\": a number that is not too large is wanted");
        let bad = Options::from_words(|name| (name == "pause").then_some("5")).expect_err("no unit");
        assert_eq!(format!("{bad}"), "\"pause=5\": a whole number of us, ms or s is wanted");
    }
}
