//! Launching a system on one of the two machines, and the meaning of its end.
//!
//! [`choose`] selects the machine; [`Machine::launch`] turns a [`Launch`] into a command; [`Machine::ending`]
//! interprets its exit status. [`crate::qemu`] and [`crate::hosted`] hold the details of each machine.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::devices::Device;
use crate::error::Interrupted;
use crate::kernel::Flavor;
use crate::qemu::Qemu;
use crate::ui;
use crate::workspace::Workspace;
use crate::{hosted, install, kernel};

/// The kind of machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Kind {
    /// x86_64 in QEMU
    Bare,
    /// A Linux process
    Hosted,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bare => "bare",
            Self::Hosted => "hosted",
        })
    }
}

/// A machine that is available, with its kernel built.
pub(crate) struct Machine {
    kernel: PathBuf,
    /// Present for the bare machine only.
    bare: Option<Bare>,
}

/// The bare machine's parts besides its kernel.
struct Bare {
    qemu: Qemu,
    /// The host of device models that QEMU does not have.
    device_host: PathBuf,
}

/// A system to boot, and the configuration of its machine.
#[derive(Clone)]
pub(crate) struct Launch {
    /// The boot archive.
    pub(crate) archive: PathBuf,
    /// The number of CPUs.
    pub(crate) cpus: u32,
    /// The size of memory, as `512M` or `2G`.
    pub(crate) memory: String,
    /// Options for the kernel, as `name=value`.
    pub(crate) options: Vec<String>,
    /// Devices for drivers.
    pub(crate) devices: Vec<Device>,
    /// Bare only: the guest's clock counts instructions, so that figures do not depend on load.
    pub(crate) count_instructions: bool,
}

/// The way in which a system ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// The system reported success.
    Success,
    /// The system reported a failure.
    Failure,
    /// The kernel panicked.
    KernelPanic,
    /// None of the agreed exit statuses; holds a description.
    Unexplained(String),
}

impl Ending {
    /// Returns an error unless the system ended in success.
    pub(crate) fn into_result(self, system: &str) -> Result<()> {
        match self {
            Self::Success => Ok(()),
            Self::Failure => bail!("the system {system} ended in failure"),
            Self::KernelPanic => bail!("the kernel panicked while it ran {system}"),
            Self::Unexplained(how) => bail!("the system {system} ended unexpectedly: {how}"),
        }
    }
}

/// Selects the machine and prints which and why; `wanted` takes precedence. QEMU is installed if that is
/// permitted.
pub(crate) fn choose(wanted: Option<Kind>, may_install: bool) -> Result<(Kind, Option<Qemu>)> {
    if wanted == Some(Kind::Hosted) {
        eprintln!("machine: hosted, as requested");
        return Ok((Kind::Hosted, None));
    }
    let missing = match Qemu::find()? {
        Some(qemu) => {
            eprintln!("machine: bare, {qemu}");
            return Ok((Kind::Bare, Some(qemu)));
        }
        None if may_install => install::install(&install::QEMU).err(),
        None => Some(anyhow::anyhow!(install::QEMU.advice())),
    };
    match (missing, Qemu::find()?, wanted) {
        (None, Some(qemu), _) => {
            eprintln!("machine: bare, {qemu}, just installed");
            Ok((Kind::Bare, Some(qemu)))
        }
        (reason, _, Some(Kind::Bare)) => {
            Err(reason.unwrap_or_else(no_qemu)).context("the bare machine needs QEMU")
        }
        (reason, _, _) => {
            eprintln!("machine: hosted, because there is no QEMU: {:#}", reason.unwrap_or_else(no_qemu));
            Ok((Kind::Hosted, None))
        }
    }
}

fn no_qemu() -> anyhow::Error {
    anyhow::anyhow!("the package was installed, but does not contain {}", crate::qemu::PROGRAM)
}

impl Machine {
    /// Builds the kernel of the machine that [`choose`] selected, with the interfaces of examples and tests.
    pub(crate) fn build(workspace: &Workspace, kind: Kind, qemu: Option<Qemu>) -> Result<Self> {
        Self::build_flavor(workspace, kind, qemu, Flavor::Testing)
    }

    /// Like [`Self::build`], with the interfaces of `flavor`.
    pub(crate) fn build_flavor(
        workspace: &Workspace,
        kind: Kind,
        qemu: Option<Qemu>,
        flavor: Flavor,
    ) -> Result<Self> {
        let bare = match qemu {
            Some(qemu) => Some(Bare { qemu, device_host: kernel::build_device_host(workspace)? }),
            None => None,
        };
        Ok(Self { kernel: kernel::build(workspace, kind, flavor)?, bare })
    }

    /// The command that boots a system.
    pub(crate) fn launch(&self, launch: &Launch) -> Command {
        match &self.bare {
            Some(Bare { qemu, device_host }) => qemu.launch(&self.kernel, device_host, launch),
            None => hosted::launch(&self.kernel, launch),
        }
    }

    /// The meaning of that command's exit status.
    fn ending(&self, status: ExitStatus) -> Ending {
        match &self.bare {
            Some(_) => crate::qemu::ending(status),
            None => hosted::ending(status),
        }
    }

    /// Boots a system with this process's standard input and output as its console. Ctrl-C ends it.
    pub(crate) fn interact(&self, launch: &Launch) -> Result<Ending> {
        let mut command = self.launch(launch);
        let mut child = spawn(&mut command)?;
        let status = child.wait().context("waiting for the system")?;
        if interrupted() {
            return Err(Interrupted.into());
        }
        Ok(self.ending(status))
    }

    /// Boots a system without input and passes each line of its console to `line`, until the system ends by
    /// itself.
    ///
    /// # Errors
    /// If the system has not ended after `timeout`; it is then killed.
    pub(crate) fn watch(
        &self,
        launch: &Launch,
        timeout: Duration,
        mut line: impl FnMut(&str),
    ) -> Result<Ending> {
        let mut session = self.open(launch, Input::Nothing)?;
        let deadline = Instant::now() + timeout;
        loop {
            match session.next(deadline.saturating_duration_since(Instant::now())) {
                ConsoleEvent::Line(text) => line(&text),
                ConsoleEvent::Ended => break,
                ConsoleEvent::Timeout => {
                    session.kill()?;
                    bail!("the system had not ended after {} and was killed", ui::seconds(timeout));
                }
            }
        }
        let ending = session.ending()?;
        if interrupted() { Err(Interrupted.into()) } else { Ok(ending) }
    }

    /// Boots a system with its console as lines of text.
    pub(crate) fn open(&self, launch: &Launch, input: Input) -> Result<Session<'_>> {
        let mut command = self.launch(launch);
        command.stdout(Stdio::piped());
        match input {
            Input::Nothing => command.stdin(Stdio::null()),
            // In a process group of its own it receives no Ctrl-C, and can be told to stop in order.
            Input::Lines => command.stdin(Stdio::piped()).process_group(0),
        };
        let mut child = spawn(&mut command)?;
        let stdout = child.stdout.take().expect("stdout is piped above");
        let (send, lines) = mpsc::channel();
        // Reads until the child closes its end of the pipe, at its exit at the latest.
        thread::spawn(move || {
            for bytes in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
                if send.send(text).is_err() {
                    break;
                }
            }
        });
        Ok(Session { machine: self, child, lines })
    }
}

/// The input of a system's console.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// No input. Ctrl-C ends the system.
    Nothing,
    /// Lines of text; this process handles Ctrl-C.
    Lines,
}

/// A running system.
pub(crate) struct Session<'a> {
    machine: &'a Machine,
    child: Child,
    lines: mpsc::Receiver<String>,
}

/// The result of waiting for a line of the console.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum ConsoleEvent {
    /// A line of the console.
    Line(String),
    /// No line came before the timeout.
    Timeout,
    /// The system has ended.
    Ended,
}

impl Session<'_> {
    /// Waits up to `timeout` for the next line of the console.
    pub(crate) fn next(&mut self, timeout: Duration) -> ConsoleEvent {
        match self.lines.recv_timeout(timeout) {
            Ok(line) => ConsoleEvent::Line(line),
            Err(RecvTimeoutError::Timeout) => ConsoleEvent::Timeout,
            Err(RecvTimeoutError::Disconnected) => ConsoleEvent::Ended,
        }
    }

    /// Writes a line to the console.
    pub(crate) fn write_line(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("this system has no input")?;
        stdin.write_all(format!("{line}\n").as_bytes()).context("writing to the system's console")
    }

    /// Kills a system that does not end by itself.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing a system that hangs")?;
        self.child.wait().context("waiting for the system")?;
        Ok(())
    }

    /// Waits for the system's end and returns its kind.
    pub(crate) fn ending(mut self) -> Result<Ending> {
        let status = self.child.wait().context("waiting for the system")?;
        Ok(self.machine.ending(status))
    }
}

/// Returns true if Ctrl-C was pressed.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Starts a machine. The terminal sends Ctrl-C to both processes; from then on this one ignores it, because
/// it has to outlive the machine to report its end and to leave the terminal as QEMU restored it.
fn spawn(command: &mut Command) -> Result<Child> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler = || INTERRUPTED.store(true, Ordering::SeqCst);
        ctrlc::set_handler(handler).expect("this is the only handler");
    });
    std::io::stdout().flush().context("writing to standard output")?;
    let shown = ui::show(command);
    command.spawn().with_context(|| format!("cannot start `{shown}`"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A hosted machine whose kernel is a shell script.
    fn machine(script: &str) -> (TempDir, Machine, Launch) {
        let folder = tempfile::tempdir().expect("there is room for a script");
        let kernel = folder.path().join("kernel");
        fs::write(&kernel, format!("#!/bin/sh\n{script}\n")).expect("there is room for a script");
        fs::set_permissions(&kernel, fs::Permissions::from_mode(0o755)).expect("the script is ours");
        let launch = Launch {
            archive: "x.tar".into(),
            cpus: 3,
            memory: "64M".into(),
            options: vec!["a=b".into(), "c=d".into()],
            devices: Vec::new(),
            count_instructions: false,
        };
        (folder, Machine { kernel, bare: None }, launch)
    }

    fn watch(script: &str, timeout: Duration) -> (Result<Ending>, Vec<String>) {
        let (_folder, machine, launch) = machine(script);
        loop {
            let mut lines = Vec::new();
            let ending = machine.watch(&launch, timeout, |line| lines.push(line.to_owned()));
            // A concurrent test's child may have been forked while the script was open for writing.
            let busy = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ExecutableFileBusy;
            if !ending.as_ref().is_err_and(|error| error.downcast_ref().is_some_and(busy)) {
                return (ending, lines);
            }
        }
    }

    #[test]
    fn a_kernel_gets_its_launch_options_and_is_read_to_its_last_line() {
        let (ending, lines) = watch("echo \"$@\"; printf 'first\\r\\nlast'; exit 1", Duration::from_secs(20));
        assert_eq!(ending.expect("it ends by itself"), Ending::Failure);
        assert_eq!(lines, ["--archive x.tar --cpus 3 --memory 64M --cmdline a=b c=d", "first", "last"]);
    }

    #[test]
    fn a_system_that_hangs_is_killed() {
        let (ending, lines) = watch("echo up; exec sleep 60", Duration::from_millis(500));
        assert!(ending.expect_err("it hangs").to_string().contains("had not ended"));
        assert_eq!(lines, ["up"]);
    }
}
