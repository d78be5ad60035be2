//! [`Suite`]: the outcome of one group of tests, and the table of all suites.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

use super::output::Counts;
use crate::ui::{seconds, table};

/// The number of suites, and of tests, that a run names as its slowest.
const SLOWEST: usize = 5;

/// The outcome of one suite.
#[derive(Serialize)]
pub(super) struct Suite {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) counts: Counts,
    #[serde(rename = "seconds", serialize_with = "in_seconds")]
    pub(super) time: Duration,
    /// The reason why the suite failed although no test did.
    pub(super) failure: Option<String>,
    /// The time of each test, for suites that print it.
    #[serde(skip)]
    pub(super) tests: Vec<(String, Duration)>,
}

impl Suite {
    /// A suite without details.
    pub(super) fn new(name: impl Into<String>, counts: Counts, time: Duration) -> Self {
        Self { name: name.into(), counts, time, failure: None, tests: Vec::new() }
    }

    /// A suite of one test, begun at `started`.
    pub(super) fn of_one(name: String, outcome: Result<()>, started: Instant) -> Self {
        let counts = Counts {
            passed: usize::from(outcome.is_ok()),
            failed: usize::from(outcome.is_err()),
            ignored: 0,
        };
        let mut suite = Self::new(name, counts, started.elapsed());
        suite.failure = outcome.err().map(|error| format!("{error:#}"));
        suite
    }

    /// Returns true if a test failed or the suite did.
    pub(super) fn failed(&self) -> bool {
        self.counts.failed > 0 || self.failure.is_some()
    }

    /// Returns true if the suite ran at least one test, or failed.
    pub(super) fn has_outcome(&self) -> bool {
        self.counts != Counts::default() || self.failed()
    }

    /// Fails the suite if it ran no test.
    pub(super) fn fail_if_empty(&mut self) {
        if self.counts.passed + self.counts.failed == 0 && self.failure.is_none() {
            self.failure = Some("ran no test".to_owned());
        }
    }
}

/// The counts of all suites together.
pub(super) fn total(suites: &[Suite]) -> Counts {
    suites.iter().map(|suite| suite.counts).fold(Counts::default(), |a, b| a + b)
}

/// Turns a stage that could not run into one failed suite, so that the other stages still run.
pub(super) fn stage(name: &str, outcome: Result<Vec<Suite>>) -> Vec<Suite> {
    outcome.unwrap_or_else(|error| {
        let mut suite = Suite::new(name, Counts::default(), Duration::ZERO);
        suite.failure = Some(format!("{error:#}"));
        vec![suite]
    })
}

/// Prints the table, or `suites` as JSON, and the slowest suites and tests.
///
/// # Errors
/// If a suite failed or no test ran.
pub(super) fn conclude(suites: &[Suite], filter: Option<&str>, json: bool) -> Result<()> {
    let mut total = total(suites);
    // A suite that failed without a failing test is counted in the closing line too.
    total.failed += suites.iter().filter(|suite| suite.failure.is_some() && suite.counts.failed == 0).count();
    if json {
        println!("{}", serde_json::to_string_pretty(suites)?);
    } else {
        println!("\n{}", table(&rows(suites)));
        for suite in suites {
            if let Some(failure) = &suite.failure {
                println!("{}: {failure}", suite.name);
            }
        }
        print!("{}", slowest(suites));
    }
    if total.passed + total.failed == 0 {
        let filter = filter.unwrap_or_default();
        bail!("no test ran: none has \"{filter}\" in its name");
    }
    if !json {
        println!("{} passed, {} failed", total.passed, total.failed);
    }
    if total.failed > 0 {
        bail!("{} suites failed", suites.iter().filter(|suite| suite.failed()).count());
    }
    Ok(())
}

fn rows(suites: &[Suite]) -> Vec<Vec<String>> {
    let mut rows = vec![["suite", "passed", "failed", "ignored", "time"].map(str::to_owned).to_vec()];
    rows.extend(suites.iter().map(|suite| {
        let Counts { passed, failed, ignored } = suite.counts;
        let counts = [passed, failed, ignored].map(|count| count.to_string());
        [vec![suite.name.clone()], counts.to_vec(), vec![seconds(suite.time)]].concat()
    }));
    rows
}

/// Two lines: the slowest suites and the slowest tests. Suites of unit tests run in parallel, so their times
/// add up to more than the run took.
fn slowest(suites: &[Suite]) -> String {
    let whole = suites.iter().map(|suite| (suite.name.clone(), suite.time)).collect();
    let each = |suite: &Suite| {
        let name = suite.name.clone();
        suite.tests.iter().map(move |(test, time)| (format!("{name}: {test}"), *time)).collect::<Vec<_>>()
    };
    let tests = suites.iter().flat_map(each).collect();
    line("suites", whole) + &line("tests", tests)
}

fn line(label: &str, mut times: Vec<(String, Duration)>) -> String {
    times.retain(|(_, time)| *time >= Duration::from_secs(1));
    times.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
    if times.is_empty() {
        return String::new();
    }
    let shown: Vec<_> =
        times.iter().take(SLOWEST).map(|(name, time)| format!("{name} {}", seconds(*time))).collect();
    format!("slowest {label}: {}\n", shown.join(", "))
}

fn in_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suite(name: &str, passed: usize, failed: usize) -> Suite {
        Suite::new(name, Counts { passed, failed, ignored: 0 }, Duration::ZERO)
    }

    #[test]
    fn a_suite_that_ran_nothing_has_failed() {
        let mut silent = suite("a", 0, 0);
        silent.fail_if_empty();
        assert!(silent.failed());
        assert!(conclude(&[silent, suite("b", 3, 0)], None, false).is_err());
    }

    #[test]
    fn a_filter_that_matches_nothing_is_an_error() {
        assert!(conclude(&[suite("a", 0, 0)], Some("nonsense"), false).is_err());
        assert!(conclude(&[suite("a", 0, 0), suite("b", 1, 0)], Some("some"), false).is_ok());
    }

    #[test]
    fn one_failed_test_fails_the_run() {
        assert!(conclude(&[suite("a", 10, 1)], None, false).is_err());
        assert!(conclude(&[suite("a", 10, 1)], None, true).is_err());
    }

    #[test]
    fn the_slowest_are_listed_in_order_without_fast_ones() {
        let mut suites = [suite("a", 1, 0), suite("b", 1, 0), suite("c", 1, 0)];
        suites[0].time = Duration::from_secs(2);
        suites[1].time = Duration::from_secs(3);
        suites[1].tests =
            vec![("x".to_owned(), Duration::from_millis(2500)), ("y".to_owned(), Duration::ZERO)];
        assert_eq!(slowest(&suites), "slowest suites: b 3.0 s, a 2.0 s\nslowest tests: b: x 2.5 s\n");
    }
}
