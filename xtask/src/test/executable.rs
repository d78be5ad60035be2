//! [`Executable`]: a test program. It is run from here and not by cargo, which runs one program at a time.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use cargo_metadata::Message;

use super::output::{self, Counts, Event};
use super::suite::Suite;
use crate::ui::{Step, show};
use crate::workspace::{TARGET, Workspace};

/// A compiled test program.
pub(super) struct Executable {
    /// The package, and for a file of tests its name: `ixgbe-driver::rings`.
    pub(super) name: String,
    pub(super) package: String,
    /// The cargo target is a file in `tests/`.
    pub(super) is_file_of_tests: bool,
    path: PathBuf,
    /// The package's folder, which is the working directory of its tests.
    folder: PathBuf,
}

/// Reads the test programs from the output of `cargo test --no-run --message-format=json`.
pub(super) fn read(workspace: &Workspace, printed: &str) -> Result<Vec<Executable>> {
    let mut found = Vec::new();
    for message in Message::parse_stream(printed.as_bytes()) {
        let Message::CompilerArtifact(artifact) = message.context("reading cargo's list of artifacts")?
        else {
            continue;
        };
        let Some(path) = artifact.executable.filter(|_| artifact.profile.test) else { continue };
        let package = &workspace.metadata[&artifact.package_id];
        let target = &artifact.target;
        let has_library = package.targets.iter().any(|target| target.is_lib() || target.is_proc_macro());
        let is_main = target.is_lib() || target.is_proc_macro() || (target.is_bin() && !has_library);
        found.push(Executable {
            name: if is_main {
                package.name.to_string()
            } else {
                format!("{}::{}", package.name, target.name)
            },
            package: package.name.to_string(),
            is_file_of_tests: target.is_test(),
            path: path.into_std_path_buf(),
            folder: workspace.root.join(workspace.folder(package)),
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl Executable {
    /// The command that runs it, with those variables of cargo's test environment that tests use.
    pub(super) fn command(&self, workspace: &Workspace) -> Result<Command> {
        let mut command = workspace.scrub(Command::new(&self.path));
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.env("CARGO_MANIFEST_PATH", self.folder.join("Cargo.toml"));
        command.env("CARGO_PKG_NAME", &self.package);
        // Even empty, the variable would override the flags by which trybuild makes the compiler print types
        // in full.
        command.env_remove("CARGO_ENCODED_RUSTFLAGS");
        // A proc macro's tests are linked dynamically.
        let sysroot = workspace.sysroot()?;
        let mut folders = vec![sysroot.join("lib"), sysroot.join("lib/rustlib").join(TARGET).join("lib")];
        folders.extend(std::env::split_paths(&std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default()));
        let folders =
            std::env::join_paths(folders).context("the toolchain's folder has a colon in its name")?;
        command.env("LD_LIBRARY_PATH", folders);
        Ok(command)
    }
}

/// The outcome of one program, and its output.
pub(super) struct Run {
    pub(super) suite: Suite,
    pub(super) output: String,
}

/// Runs a test program to its end and passes each line of its output to `line`.
pub(super) fn run(name: &str, command: &mut Command, mut line: impl FnMut(&str)) -> Result<Run> {
    let shown = show(command);
    let started = Instant::now();
    // One pipe keeps the lines of both streams in order.
    let (reader, writer) = std::io::pipe().context("making a pipe")?;
    let other = writer.try_clone().context("making a pipe")?;
    command.stdin(Stdio::null()).stdout(writer).stderr(other);
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    // The command holds the pipe's writing ends; until they are closed here, the reader would wait for them.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut suite = Suite::new(name, Counts::default(), started.elapsed());
    let (mut output, mut finished, mut last) = (String::new(), false, started);
    for bytes in BufReader::new(reader).split(b'\n') {
        let bytes = bytes.with_context(|| format!("reading the output of `{shown}`"))?;
        let text = String::from_utf8_lossy(&bytes);
        match output::event(&text) {
            Some(Event::Test(test, time)) => {
                // A line without a time: tests run one at a time, each from the end of the one before.
                suite.tests.push((test.to_owned(), time.unwrap_or_else(|| last.elapsed())));
                last = Instant::now();
            }
            Some(Event::Finished(counts)) => (suite.counts, finished) = (counts, true),
            None => {}
        }
        line(&text);
        output.push_str(&text);
        output.push('\n');
    }
    let status = child.wait().with_context(|| format!("waiting for `{shown}`"))?;
    suite.time = started.elapsed();
    if !finished {
        suite.failure = Some(format!("ended without a result ({status}); its output is above"));
    } else if !status.success() && suite.counts.failed == 0 {
        suite.failure = Some(format!("ended with {status} after its result"));
    }
    Ok(Run { suite, output })
}

/// Runs test programs, as many at once as there are CPUs, in the order given, each with one test at a time.
/// This runs no more tests at once than cargo and libtest would, so a test that measures time is disturbed no
/// more, and a program with one long test does not leave the other CPUs idle. The output of programs that
/// failed is shown.
pub(super) fn run_in_parallel(
    workspace: &Workspace,
    step: &Step,
    executables: &[Executable],
    filter: Option<&str>,
) -> Result<Vec<Suite>> {
    let width = thread::available_parallelism().map_or(1, usize::from);
    let waiting = Mutex::new(executables.iter());
    let next = || waiting.lock().expect("no thread panics with it").next();
    let (send, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..width.min(executables.len()) {
            let send = send.clone();
            let next = &next;
            scope.spawn(move || {
                while let Some(executable) = next() {
                    let outcome = executable.command(workspace).and_then(|mut command| {
                        command.arg("--test-threads=1").args(filter);
                        run(&executable.name, &mut command, |_| ())
                    });
                    if send.send(outcome).is_err() {
                        return;
                    }
                }
            });
        }
        drop(send);
        let mut suites = Vec::new();
        for outcome in outcomes {
            let Run { suite, output } = outcome?;
            step.status(&format!("{} of {} programs", suites.len() + 1, executables.len()));
            if suite.failed() {
                step.line(&output);
            }
            suites.push(suite);
        }
        suites.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(suites)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Run {
        let mut command = Command::new("sh");
        run("x", command.args(["-c", script]), |_| ()).expect("there is a shell")
    }

    const RESULT: &str = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";

    #[test]
    fn a_program_is_read_to_its_end() {
        let run = shell(&format!("echo 'test a ... ok'; echo said >&2; echo '{RESULT}'"));
        assert!(!run.suite.failed());
        assert_eq!(run.suite.counts, Counts { passed: 1, failed: 0, ignored: 0 });
        assert_eq!(run.suite.tests.len(), 1);
        assert!(run.output.contains("said\n"));
    }

    #[test]
    fn a_program_killed_before_its_result_has_failed() {
        assert!(shell("echo 'test a ... ok'; kill -9 $$").suite.failed());
        assert!(shell(&format!("echo '{RESULT}'; exit 101")).suite.failed());
    }
}
