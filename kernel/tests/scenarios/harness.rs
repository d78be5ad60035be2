//! [`Harness`]: reports like `cargo test`, for tests many of which share one boot.

use std::process::ExitCode;
use std::time::Instant;

/// The filters of the command line, and the outcomes so far.
pub(crate) struct Harness {
    filters: Vec<String>,
    passed: usize,
    failures: Vec<(String, String)>,
    filtered_out: usize,
    began: Instant,
}

impl Harness {
    /// Takes the filters from the command line; options of `cargo test` are ignored.
    pub(crate) fn new(arguments: impl Iterator<Item = String>) -> Self {
        let filters = arguments.filter(|argument| !argument.starts_with('-')).collect();
        Self { filters, passed: 0, failures: Vec::new(), filtered_out: 0, began: Instant::now() }
    }

    /// Returns true if the filters select the test `name`.
    pub(crate) fn selects(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }

    /// Records and prints the outcome of a test, if the filters select it.
    pub(crate) fn report(&mut self, name: &str, outcome: Result<(), String>) {
        if !self.selects(name) {
            self.filtered_out += 1;
            return;
        }
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED");
                self.failures.push((name.to_owned(), error));
            }
        }
    }

    /// Counts `count` tests as filtered out.
    pub(crate) fn filter_out(&mut self, count: usize) {
        self.filtered_out += count;
    }

    /// Runs a test, if the filters select it, and records its outcome.
    pub(crate) fn test(&mut self, name: &str, test: impl FnOnce() -> Result<(), String>) {
        if self.selects(name) {
            let outcome = test();
            self.report(name, outcome);
        } else {
            self.filtered_out += 1;
        }
    }

    /// Prints the failures and the summary. Returns the exit code.
    pub(crate) fn conclude(self) -> ExitCode {
        for (name, error) in &self.failures {
            println!("\n---- {name} ----\n{error}");
        }
        let failed = self.failures.len();
        println!(
            "\ntest result: {}. {} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            if failed == 0 { "ok" } else { "FAILED" },
            self.passed,
            self.filtered_out,
            self.began.elapsed().as_secs_f32(),
        );
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
