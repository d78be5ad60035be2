//! The output lines of a test program, in the format of libtest or of the scenarios' harness.

use std::fmt;
use std::ops::Add;
use std::time::Duration;

use serde::Serialize;

/// The numbers of tests by outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// Tests with `#[ignore]`, or skipped by themselves.
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

/// A line that reports an outcome.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Event<'a> {
    /// The test of this name has ended; the line may state its time.
    Test(&'a str, Option<Duration>),
    /// All tests have ended, with these counts.
    Finished(Counts),
}

/// The event that a line of output reports, if any.
pub(super) fn event(line: &str) -> Option<Event<'_>> {
    let line = line.trim();
    // "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s"
    if let Some(rest) = line.strip_prefix("test result: ") {
        let (_, counts) = rest.split_once(". ")?;
        let count = |what: &str| {
            let part = counts.split(';').find_map(|part| part.trim().strip_suffix(what))?;
            part.trim().parse().ok()
        };
        return Some(Event::Finished(Counts {
            passed: count("passed")?,
            failed: count("failed")?,
            ignored: count("ignored")?,
        }));
    }
    // "test a::b ... ok", "test c - should panic ... FAILED", of a scenario "test d ... ok (1.23 s)"
    let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    let (outcome, time) = match outcome.strip_suffix(" s)").and_then(|outcome| outcome.split_once(" (")) {
        Some((outcome, seconds)) => (outcome, Some(Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?)),
        None => (outcome, None),
    };
    matches!(outcome, "ok" | "FAILED").then_some(Event::Test(name, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_named() {
        assert_eq!(event("test a::b ... ok"), Some(Event::Test("a::b", None)));
        assert_eq!(event("test a::b - should panic ... FAILED"), Some(Event::Test("a::b", None)));
        let time = Some(Duration::from_millis(1250));
        assert_eq!(event("test bare::a ... ok (1.25 s)"), Some(Event::Test("bare::a", time)));
    }

    #[test]
    fn results_are_counted() {
        let line = "test result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(event(line), Some(Event::Finished(Counts { passed: 5, failed: 2, ignored: 1 })));
    }

    #[test]
    fn other_lines_are_no_events() {
        for line in ["test a ... ignored, slow", "running 3 tests", "", "testing", "test result: unclear"] {
            assert_eq!(event(line), None, "{line}");
        }
    }
}
