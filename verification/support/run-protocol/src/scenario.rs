//! The outcome of a scenario, as a line of text that reads like a test's.

use alloc::string::String;
use core::fmt;

/// The prefix of each line.
const MARK: &str = "scenario ";

/// The outcome of one scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The name of the scenario.
    pub name: String,
    /// The duration in milliseconds, or the first line of the failure.
    pub result: Result<u64, String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, result } = self;
        match result {
            Ok(ms) => write!(f, "{MARK}{name} ... ok ({ms} ms)"),
            Err(failure) => write!(f, "{MARK}{name} ... FAILED: {failure}"),
        }
    }
}

impl Outcome {
    /// Parses a line of the console. `None` if it is no outcome.
    pub fn from_console(text: &str) -> Option<Self> {
        let (name, outcome) = text.strip_prefix(MARK)?.split_once(" ... ")?;
        let result = match outcome.strip_prefix("FAILED: ") {
            Some(failure) => Err(failure.into()),
            None => Ok(outcome.strip_prefix("ok (")?.strip_suffix(" ms)")?.parse().ok()?),
        };
        Some(Self { name: name.into(), result })
    }
}
