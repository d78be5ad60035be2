//! Progress output: one [`Step`] per operation that takes time.
//!
//! On a terminal a step is a live status line that ends as one line with its time; elsewhere it is plain
//! lines. All of it goes to standard error, so that standard output carries only the requested result.

use std::io::{BufRead, BufReader, IsTerminal};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
pub(crate) use xtask_report::table::table;

/// An operation that takes time.
pub(crate) struct Step {
    label: String,
    started: Instant,
    bar: Option<ProgressBar>,
    over: bool,
}

/// The end of a command.
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    /// Its standard output.
    pub(crate) output: String,
    /// Its standard error.
    pub(crate) noise: String,
}

impl Step {
    /// Begins a step and prints its label.
    pub(crate) fn start(label: impl Into<String>) -> Self {
        let label = label.into();
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} ({elapsed}) {wide_msg:.dim}")
                .expect("the template is a constant, and its placeholders exist");
            let bar = ProgressBar::new_spinner().with_style(style).with_prefix(label.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        if bar.is_none() {
            eprintln!("{label} ...");
        }
        Self { label, started: Instant::now(), bar, over: false }
    }

    /// Shows the current state, if there is a terminal.
    pub(crate) fn status(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.trim().to_owned());
        }
    }

    /// Prints a line of its own above the status line.
    pub(crate) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Prints the state as a line if there is no terminal; for use at intervals.
    pub(crate) fn remind(&self, text: &str) {
        if self.bar.is_none() {
            eprintln!("{}: {text}", self.label);
        }
    }

    /// The time since the step's start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the step with a short `outcome`, which may be empty.
    pub(crate) fn done(mut self, outcome: &str) {
        self.end(if outcome.is_empty() { "done" } else { outcome });
    }

    fn end(&mut self, outcome: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{}: {outcome} ({})", self.label, seconds(self.elapsed()));
        self.over = true;
    }

    /// Runs `command` to its end and returns its standard output. Its standard error feeds the status line
    /// and is part of the error if it fails.
    pub(crate) fn run(&self, command: &mut Command) -> Result<String> {
        let shown = show(command);
        let Output { status, output, noise } = self.outcome(command)?;
        if !status.success() {
            let said = if noise.is_empty() { output } else { noise };
            bail!("`{shown}` failed ({status}):\n{said}");
        }
        Ok(output)
    }

    /// Runs `command` to its end, which may be a failure. Its standard error feeds the status line.
    pub(crate) fn outcome(&self, command: &mut Command) -> Result<Output> {
        let shown = show(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start `{shown}`"))?;
        let stdout = child.stdout.take().expect("stdout is piped above");
        let stderr = child.stderr.take().expect("stderr is piped above");
        // Both pipes are drained at once: a child that fills one while this process reads the other would
        // never end.
        let reader = thread::spawn(move || std::io::read_to_string(stdout));
        let mut noise = String::new();
        for line in BufReader::new(stderr).lines() {
            let line = line.with_context(|| format!("reading the messages of `{shown}`"))?;
            self.status(&line);
            noise.push_str(&line);
            noise.push('\n');
        }
        let output = reader.join().expect("the reader does not panic");
        let output = output.with_context(|| format!("reading the output of `{shown}`"))?;
        let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
        Ok(Output { status, output, noise })
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.over {
            self.end("failed");
        }
    }
}

/// A command as it would be typed, without its environment and its program's folder.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let words = std::iter::once(program.file_name().unwrap_or_default()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A time in seconds for messages.
pub(crate) fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_failing_command_has_its_messages() {
        let step = Step::start("fails");
        let error = step.run(Command::new("sh").args(["-c", "echo reason >&2; exit 3"])).unwrap_err();
        assert!(error.to_string().contains("reason"), "{error}");
    }
}
