//! Devices as command lines describe them.

use std::fmt;
use std::path::PathBuf;

use device_bus::{DurationError, SizeError, parse_duration, parse_size};

use crate::config::{Medium, NvmeConfig};
use crate::mischief::{Kind, Rate, Rule};

/// What [`NvmeConfig::parse`] knows, for error messages and help.
const KEYS: &str = "memory, file, lba, queues, mqes, mdts, stride, cache, sync, latency, latency-per-kib, ready, \
                    spin, mischief, seed, serial";

impl NvmeConfig {
    /// Reads `KEY=VALUE,...`, such as
    /// `file=disk.img,latency=10us,mischief=drop:1/1000+delay:1/100:5ms,seed=7,lba=4096`.
    ///
    /// Each `memory=SIZE` and each `file=PATH` is a namespace; a path has no comma. A rule of mischief is
    /// `KIND:RATE[:DURATION]`, a rate `N/M` (by chance), `@N` (each N-th time), `#N` (once, the N-th time), `always` or
    /// `never`.
    ///
    /// # Errors
    /// [`ParseError`], which says what was meant to be there.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut config = Self::default();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').ok_or_else(|| ParseError::NoValue(item.into()))?;
            let wrong = |problem| ParseError::Value { key: key.into(), problem };
            match key {
                "memory" => {
                    let bytes = parse_size(value).map_err(|error| wrong(Problem::Size(error)))?;
                    config.namespaces.push(Medium::Memory { bytes });
                }
                "file" => config.namespaces.push(Medium::File { path: PathBuf::from(value) }),
                "lba" => config.lba_bytes = number(value, u64::from(u32::MAX)).map_err(wrong)? as u32,
                "queues" => config.queues = number(value, u64::from(u16::MAX)).map_err(wrong)? as u16,
                "mqes" => config.mqes = number(value, u64::from(u16::MAX)).map_err(wrong)? as u16,
                "mdts" => config.mdts = number(value, u64::from(u8::MAX)).map_err(wrong)? as u8,
                "stride" => config.stride = number(value, u64::from(u8::MAX)).map_err(wrong)? as u8,
                "cache" => {
                    config.cache_bytes = parse_size(value).map_err(|error| wrong(Problem::Size(error)))?;
                }
                "sync" => {
                    config.sync = match value {
                        "yes" => true,
                        "no" => false,
                        _ => return Err(wrong(Problem::NeitherYesNorNo(value.into()))),
                    }
                }
                "latency" => config.latency_ns = duration(value).map_err(wrong)?,
                "latency-per-kib" => config.latency_per_kib_ns = duration(value).map_err(wrong)?,
                "ready" => config.ready_ns = duration(value).map_err(wrong)?,
                "spin" => config.spin_ns = duration(value).map_err(wrong)?,
                "seed" => config.seed = number(value, u64::MAX).map_err(wrong)?,
                "serial" => config.serial = value.into(),
                "mischief" => {
                    for text in value.split('+') {
                        config.mischief.push(rule(text).map_err(wrong)?);
                    }
                }
                _ => return Err(ParseError::Key(key.into())),
            }
        }
        Ok(config)
    }
}

fn number(text: &str, limit: u64) -> Result<u64, Problem> {
    let number = text.parse().ok().filter(|number| *number <= limit);
    number.ok_or_else(|| Problem::Number { text: text.into(), limit })
}

/// At most an hour, so that no sum of them overflows.
fn duration(text: &str) -> Result<u64, Problem> {
    const LIMIT_NS: u64 = 3_600_000_000_000;
    let duration = parse_duration(text).map_err(Problem::Duration)?;
    if duration > LIMIT_NS { Err(Problem::TooLong(text.into())) } else { Ok(duration) }
}

fn rule(text: &str) -> Result<Rule, Problem> {
    let mut parts = text.splitn(3, ':');
    let name = parts.next().unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    let kind = kind.ok_or_else(|| Problem::Kind(name.into()))?;
    let rate = rate(parts.next().ok_or_else(|| Problem::NoRate(text.into()))?)?;
    let duration_ns = match parts.next() {
        None => None,
        Some(_) if kind.default_duration_ns().is_none() => return Err(Problem::NoDuration(kind)),
        Some(text) => Some(duration(text)?),
    };
    Ok(Rule { kind, rate, duration_ns })
}

fn rate(text: &str) -> Result<Rate, Problem> {
    let rate = match text {
        "always" => Some(Rate::Every(1)),
        "never" => Some(Rate::Never),
        _ => positive_rate(text),
    };
    rate.ok_or_else(|| Problem::Rate(text.into()))
}

fn positive_rate(text: &str) -> Option<Rate> {
    let count = |text: &str| text.parse().ok().filter(|count| *count > 0);
    if let Some(n) = text.strip_prefix('@') {
        return count(n).map(Rate::Every);
    }
    if let Some(n) = text.strip_prefix('#') {
        return count(n).map(Rate::Once);
    }
    let (times, of) = text.split_once('/')?;
    let (times, of) = (times.parse().ok()?, of.parse().ok()?);
    (times <= of && of > 0).then_some(Rate::Chance { times, of })
}

/// A text that describes no device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// Not of the form `KEY=VALUE`.
    NoValue(String),
    /// A key that means nothing.
    Key(String),
    /// A value that means nothing.
    Value {
        /// Whose.
        key: String,
        /// Why not.
        problem: Problem,
    },
}

/// What is wrong with a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// No size.
    Size(SizeError),
    /// No duration.
    Duration(DurationError),
    /// More than an hour.
    TooLong(String),
    /// No number, or too large.
    Number {
        /// As given.
        text: String,
        /// The most.
        limit: u64,
    },
    /// Neither `yes` nor `no`.
    NeitherYesNorNo(String),
    /// No kind of mischief.
    Kind(String),
    /// Mischief without a rate.
    NoRate(String),
    /// No rate.
    Rate(String),
    /// A duration for a kind that has none.
    NoDuration(Kind),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(item) => write!(f, "`{item}` is not of the form KEY=VALUE"),
            Self::Key(key) => write!(f, "`{key}` means nothing to an NVMe device; there are {KEYS}"),
            Self::Value { key, problem } => write!(f, "{key}: {problem}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(error) => error.fmt(f),
            Self::Duration(error) => error.fmt(f),
            Self::TooLong(text) => write!(f, "`{text}` is more than an hour"),
            Self::Number { text, limit } => write!(f, "`{text}` is no whole number up to {limit}"),
            Self::NeitherYesNorNo(text) => write!(f, "`{text}` is neither yes nor no"),
            Self::Kind(name) => {
                write!(f, "`{name}` is no kind of mischief; there are")?;
                Kind::ALL.iter().enumerate().try_for_each(|(index, kind)| {
                    write!(f, "{} {}", if index == 0 { "" } else { "," }, kind.name())
                })
            }
            Self::NoRate(text) => write!(f, "`{text}` lacks a rate, such as `{text}:1/1000`"),
            Self::Rate(text) => write!(
                f,
                "`{text}` is no rate: write 1/1000 (by chance), @1000 (each 1000th time), #1000 (once, the 1000th \
                 time), always or never"
            ),
            Self::NoDuration(kind) => write!(f, "`{}` takes no duration", kind.name()),
        }
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests;
