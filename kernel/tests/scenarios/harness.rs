//! [`Harness`]: says what `cargo test` would say, for tests of which one boot answers many.

use std::process::ExitCode;
use std::time::Instant;

/// Which tests are wanted, and what came of them.
pub(crate) struct Harness {
    filters: Vec<String>,
    passed: usize,
    failures: Vec<(String, String)>,
    filtered_out: usize,
    began: Instant,
}

impl Harness {
    /// From the command line; options of `cargo test` mean nothing here.
    pub(crate) fn new(arguments: impl Iterator<Item = String>) -> Self {
        let filters = arguments.filter(|argument| !argument.starts_with('-')).collect();
        Self { filters, passed: 0, failures: Vec::new(), filtered_out: 0, began: Instant::now() }
    }

    /// Whether a test of that name is to be run.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| name.contains(filter))
    }

    /// Takes the outcome of a test, if it is wanted.
    pub(crate) fn report(&mut self, name: &str, outcome: Result<(), String>) {
        if !self.wants(name) {
            self.filtered_out += 1;
            return;
        }
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok");
                self.passed += 1;
            }
            Err(why) => {
                println!("test {name} ... FAILED");
                self.failures.push((name.to_owned(), why));
            }
        }
    }

    /// Leaves `count` tests out that are not wanted.
    pub(crate) fn leave_out(&mut self, count: usize) {
        self.filtered_out += count;
    }

    /// Runs a test, if it is wanted, and takes its outcome.
    pub(crate) fn test(&mut self, name: &str, test: impl FnOnce() -> Result<(), String>) {
        if self.wants(name) {
            let outcome = test();
            self.report(name, outcome);
        } else {
            self.filtered_out += 1;
        }
    }

    /// Sums up.
    pub(crate) fn conclude(self) -> ExitCode {
        for (name, why) in &self.failures {
            println!("\n---- {name} ----\n{why}");
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
