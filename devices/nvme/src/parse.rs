//! The parser of [`NvmeConfig`] for command lines.

use std::fmt;
use std::path::PathBuf;

use device_bus::{RuleError, ValueError, parse_number, parse_size, parse_wait, parse_yes_or_no};

use crate::config::{Backing, NvmeConfig};
use crate::fault_injection::Rule;

/// The keys of [`NvmeConfig::parse`], for error messages.
const KEYS: &str = "memory, file, lba, queues, mqes, mdts, stride, cache, sync, latency, latency-per-kib, ready, \
                    spin, faults, spare-admin, seed, serial";

impl NvmeConfig {
    /// Parses `KEY=VALUE,...`, such as
    /// `file=disk.img,latency=10us,faults=drop:1/1000+delay:1/100:5ms,seed=7,lba=4096`.
    ///
    /// Each `memory=SIZE` and each `file=PATH` is a namespace; a path contains no comma. A rule of fault
    /// injection is `KIND:RATE[:DURATION]`; a rate is `N/M` (a probability), `@N` (each N-th time), `#N`
    /// (once, the N-th time), `always` or `never`.
    ///
    /// # Errors
    /// [`ParseError`] if an item is not of the form `KEY=VALUE`, a key is unknown, or a value is malformed.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut config = Self::default();
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = item.split_once('=').ok_or_else(|| ParseError::NoValue(item.into()))?;
            let wrong = |problem: ValueError| ParseError::Value { key: key.into(), problem: problem.into() };
            match key {
                "memory" => {
                    let bytes = size(value).map_err(wrong)?;
                    config.namespaces.push(Backing::Memory { bytes });
                }
                "file" => config.namespaces.push(Backing::File { path: PathBuf::from(value) }),
                "lba" => config.lba_bytes = parse_number(value, u64::from(u32::MAX)).map_err(wrong)? as u32,
                "queues" => config.queues = parse_number(value, u64::from(u16::MAX)).map_err(wrong)? as u16,
                "mqes" => config.mqes = parse_number(value, u64::from(u16::MAX)).map_err(wrong)? as u16,
                "mdts" => config.mdts = parse_number(value, u64::from(u8::MAX)).map_err(wrong)? as u8,
                "stride" => config.stride = parse_number(value, u64::from(u8::MAX)).map_err(wrong)? as u8,
                "cache" => {
                    config.cache_bytes = size(value).map_err(wrong)?;
                }
                "sync" => config.sync = parse_yes_or_no(value).map_err(wrong)?,
                "spare-admin" => config.spare_admin = parse_yes_or_no(value).map_err(wrong)?,
                "latency" => config.latency_ns = parse_wait(value).map_err(wrong)?,
                "latency-per-kib" => config.latency_per_kib_ns = parse_wait(value).map_err(wrong)?,
                "ready" => config.ready_ns = parse_wait(value).map_err(wrong)?,
                "spin" => config.spin_ns = parse_wait(value).map_err(wrong)?,
                "seed" => config.seed = parse_number(value, u64::MAX).map_err(wrong)?,
                "serial" => config.serial = value.into(),
                "faults" => {
                    let wrong = |problem| ParseError::Value { key: key.into(), problem };
                    let rules = Rule::parse_all(value).map_err(|error| wrong(Problem::Rule(error)))?;
                    config.faults.extend(rules);
                }
                _ => return Err(ParseError::Key(key.into())),
            }
        }
        Ok(config)
    }
}

fn size(text: &str) -> Result<u64, ValueError> {
    parse_size(text).map_err(ValueError::Size)
}

/// The error for a malformed description of a device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// An item that is not of the form `KEY=VALUE`.
    NoValue(String),
    /// An unknown key.
    Key(String),
    /// A malformed value.
    Value {
        /// The key of the value.
        key: String,
        /// The error in the value.
        problem: Problem,
    },
}

/// The error in a value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// A malformed size, number, duration or flag.
    Value(ValueError),
    /// A malformed rule of fault injection.
    Rule(RuleError),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoValue(item) => write!(f, "`{item}` is not of the form KEY=VALUE"),
            Self::Key(key) => write!(f, "`{key}` is no option of an NVMe device; the options are {KEYS}"),
            Self::Value { key, problem } => write!(f, "{key}: {problem}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(error) => error.fmt(f),
            Self::Rule(error) => error.fmt(f),
        }
    }
}

impl From<ValueError> for Problem {
    fn from(error: ValueError) -> Self {
        Self::Value(error)
    }
}

impl std::error::Error for ParseError {}

#[cfg(test)]
mod tests;
