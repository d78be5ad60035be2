//! [`Harness`]: reports like `cargo test`, for tests many of which share one boot.

use std::process::ExitCode;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// The outcome of one test.
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) outcome: Result<(), String>,
    pub(crate) time: Duration,
}

/// The code of one test, or of several that share a boot.
type Job<'a> = Box<dyn FnOnce() -> Vec<Report> + Send + 'a>;

/// Tests that run in parallel: boots whose outcome does not depend on their speed. They start in the order in
/// which they were added, so long ones come first.
#[derive(Default)]
pub(crate) struct Parallel<'a>(Vec<(String, Job<'a>)>);

impl<'a> Parallel<'a> {
    /// Adds a test.
    pub(crate) fn test(&mut self, name: &str, test: impl FnOnce() -> Result<(), String> + Send + 'a) {
        let name = name.to_owned();
        self.job(&name.clone(), move || {
            let started = Instant::now();
            let outcome = test();
            vec![Report { name, outcome, time: started.elapsed() }]
        });
    }

    /// Adds tests that share a boot. They run if the filters select `name`.
    pub(crate) fn job(&mut self, name: &str, job: impl FnOnce() -> Vec<Report> + Send + 'a) {
        self.0.push((name.to_owned(), Box::new(job)));
    }
}

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

    /// Records and prints the outcome of a test and the time that it took, if the filters select it.
    pub(crate) fn report(&mut self, name: &str, outcome: Result<(), String>, time: Duration) {
        if !self.selects(name) {
            self.filtered_out += 1;
            return;
        }
        let seconds = time.as_secs_f32();
        match outcome {
            Ok(()) => {
                println!("test {name} ... ok ({seconds:.2} s)");
                self.passed += 1;
            }
            Err(error) => {
                println!("test {name} ... FAILED ({seconds:.2} s)");
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
            let started = Instant::now();
            let outcome = test();
            self.report(name, outcome, started.elapsed());
        } else {
            self.filtered_out += 1;
        }
    }

    /// Runs the tests that the filters select, at most one per CPU at a time.
    pub(crate) fn run(&mut self, tests: Parallel<'_>) {
        let (selected, others): (Vec<_>, Vec<_>) =
            tests.0.into_iter().partition(|(name, _)| self.selects(name));
        self.filter_out(others.len());
        let width = thread::available_parallelism().map_or(1, usize::from).min(selected.len());
        let waiting = Mutex::new(selected.into_iter());
        let next = || waiting.lock().expect("no test runs with it").next();
        let (send, outcomes) = mpsc::channel();
        thread::scope(|scope| {
            for _ in 0..width {
                let (send, next) = (send.clone(), &next);
                scope.spawn(move || {
                    while let Some((_, job)) = next() {
                        send.send(job()).expect("all outcomes are received");
                    }
                });
            }
            drop(send);
            for Report { name, outcome, time } in outcomes.into_iter().flatten() {
                self.report(&name, outcome, time);
            }
        });
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
