//! Reading what `cargo test` and the test harness print.

use std::fmt;
use std::ops::Add;

/// How many tests ended how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Counts {
    /// As they should.
    pub(crate) passed: usize,
    /// Otherwise.
    pub(crate) failed: usize,
    /// Not at all, by their own wish.
    pub(crate) ignored: usize,
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            ignored: self.ignored + other.ignored,
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// A line that matters.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// Cargo starts the test executable of this name.
    Started(String),
    /// It has summed up.
    Finished(Counts),
}

/// What a line of output means, if anything.
pub(crate) fn event(line: &str) -> Option<Event> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("Running ") {
        // "Running unittests src/lib.rs (target/debug/deps/coppice_abi-1f00)", "Running tests/scenarios.rs (…)"
        let executable = rest.rsplit_once('(')?.1.strip_suffix(')')?;
        let file = executable.rsplit('/').next()?;
        let name = file.rsplit_once('-').map_or(file, |(name, _hash)| name);
        return Some(Event::Started(name.to_owned()));
    }
    // "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let part = counts.split(';').find_map(|part| part.trim().strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Event::Finished(Counts {
        passed: count("passed")?,
        failed: count("failed")?,
        ignored: count("ignored")?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_name_the_suite() {
        let started = |line| event(line) == Some(Event::Started("coppice_abi".into()));
        assert!(started("     Running unittests src/lib.rs (target/debug/deps/coppice_abi-1f00cafe)"));
        assert!(started("     Running tests/x.rs (/else where/debug/deps/coppice_abi-1f00cafe)"));
    }

    #[test]
    fn results_are_counted() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(event(line), Some(Event::Finished(Counts { passed: 5, failed: 2, ignored: 1 })));
    }

    #[test]
    fn other_lines_mean_nothing() {
        for line in ["test a ... ok", "running 3 tests", "", "Running late", "test result: who knows"] {
            assert_eq!(event(line), None, "{line}");
        }
    }
}
