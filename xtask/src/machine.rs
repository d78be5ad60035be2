//! Launching a system on one of the two machines, and what its end means.
//!
//! [`choose`] settles which machine; [`Machine::launch`] turns a [`Launch`] into a command; [`Machine::ending`]
//! reads its exit status. How each is spelled is in [`crate::qemu`] and [`crate::hosted`].

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

use crate::cli::Interrupted;
use crate::devices::Device;
use crate::kernel::Flavor;
use crate::qemu::Qemu;
use crate::ui;
use crate::workspace::Workspace;
use crate::{hosted, install, kernel};

/// Which machine.
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

/// A machine that is there, with its kernel built.
pub(crate) struct Machine {
    kernel: PathBuf,
    /// Present on the bare machine only.
    bare: Option<Bare>,
}

/// What the bare machine takes besides its kernel.
struct Bare {
    qemu: Qemu,
    /// What hosts the devices that QEMU has not.
    device_host: PathBuf,
}

/// What to boot, and how.
#[derive(Clone)]
pub(crate) struct Launch {
    /// The boot archive.
    pub(crate) archive: PathBuf,
    /// How many CPUs.
    pub(crate) cpus: u32,
    /// How much memory, as `512M` or `2G`.
    pub(crate) memory: String,
    /// Options for the kernel, as `name=value`.
    pub(crate) options: Vec<String>,
    /// Devices for drivers.
    pub(crate) devices: Vec<Device>,
    /// Bare only: let the guest's clock count instructions, for figures that noise cannot touch.
    pub(crate) count_instructions: bool,
}

/// How a system ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    /// It said that all went well.
    Success,
    /// It said that something failed.
    Failure,
    /// Its kernel broke.
    KernelPanic,
    /// It ended in none of the agreed ways; this says how.
    Unexplained(String),
}

impl Ending {
    /// An error unless the system ended in success.
    pub(crate) fn into_result(self, system: &str) -> Result<()> {
        match self {
            Self::Success => Ok(()),
            Self::Failure => bail!("the system {system} ended in failure"),
            Self::KernelPanic => bail!("the kernel panicked while it ran {system}"),
            Self::Unexplained(what) => bail!("the system {system} ended unexpectedly: {what}"),
        }
    }
}

/// Settles which machine to use and says which and why; `wanted` wins. QEMU is installed if that is permitted.
pub(crate) fn choose(wanted: Option<Kind>, may_install: bool) -> Result<(Kind, Option<Qemu>)> {
    if wanted == Some(Kind::Hosted) {
        eprintln!("machine: hosted, as asked");
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
    anyhow::anyhow!("the package was installed, but brought no {}", crate::qemu::PROGRAM)
}

impl Machine {
    /// Builds the kernel of the machine that [`choose`] settled on, with the interfaces of examples and tests.
    pub(crate) fn build(workspace: &Workspace, kind: Kind, qemu: Option<Qemu>) -> Result<Self> {
        Self::build_flavor(workspace, kind, qemu, Flavor::Testing)
    }

    /// As [`Self::build`], with the interfaces of `flavor`.
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

    /// What the exit status of that command means.
    fn ending(&self, status: ExitStatus) -> Ending {
        match &self.bare {
            Some(_) => crate::qemu::ending(status),
            None => hosted::ending(status),
        }
    }

    /// Boots a system with our standard input and output as its console. Ctrl-C ends it.
    pub(crate) fn interact(&self, launch: &Launch) -> Result<Ending> {
        let mut command = self.launch(launch);
        let mut child = spawn(&mut command)?;
        let status = child.wait().context("waiting for the system")?;
        if interrupted() {
            return Err(Interrupted.into());
        }
        Ok(self.ending(status))
    }

    /// Boots a system without input and hands each line of its console to `line`, until it ends by itself. A system
    /// that is not over after `timeout` is ended, and that is an error.
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
                Heard::Line(text) => line(&text),
                Heard::End => break,
                Heard::Silence => {
                    session.kill()?;
                    bail!("the system was not over after {} and was ended", ui::seconds(timeout));
                }
            }
        }
        let ending = session.ending()?;
        if interrupted() { Err(Interrupted.into()) } else { Ok(ending) }
    }

    /// Boots a system whose console is ours line by line.
    pub(crate) fn open(&self, launch: &Launch, input: Input) -> Result<Session<'_>> {
        let mut command = self.launch(launch);
        command.stdout(Stdio::piped());
        match input {
            Input::Nothing => command.stdin(Stdio::null()),
            // In a group of its own Ctrl-C does not reach it, and it can be told to end in order.
            Input::Lines => command.stdin(Stdio::piped()).process_group(0),
        };
        let mut child = spawn(&mut command)?;
        let stdout = child.stdout.take().expect("stdout is piped above");
        let (send, lines) = mpsc::channel();
        // Reads until the child closes its end, which it does at its end at the latest.
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

/// What a system's console hears from us.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Input {
    /// Nothing. Ctrl-C ends the system.
    Nothing,
    /// Lines; Ctrl-C is ours to pass on.
    Lines,
}

/// A system that runs.
pub(crate) struct Session<'a> {
    machine: &'a Machine,
    child: Child,
    lines: mpsc::Receiver<String>,
}

/// What comes of listening for a while.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// A line of the console.
    Line(String),
    /// Nothing.
    Silence,
    /// The system has ended.
    End,
}

impl Session<'_> {
    /// The next line of the console, if one comes before `patience` is over.
    pub(crate) fn next(&mut self, patience: Duration) -> Heard {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Heard::Line(line),
            Err(RecvTimeoutError::Timeout) => Heard::Silence,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// Types a line.
    pub(crate) fn say(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("nobody types to this system")?;
        stdin.write_all(format!("{line}\n").as_bytes()).context("typing to the system")
    }

    /// Ends a system that does not end by itself.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill().context("ending a system that hangs")?;
        self.child.wait().context("waiting for the system")?;
        Ok(())
    }

    /// How the system ended; waits for that.
    pub(crate) fn ending(mut self) -> Result<Ending> {
        let status = self.child.wait().context("waiting for the system")?;
        Ok(self.machine.ending(status))
    }
}

/// Whether somebody has pressed Ctrl-C.
pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Starts a machine. From then on Ctrl-C is for the machine: the terminal sends it to both of us, and we have to
/// outlive it to say how it ended and to leave the terminal as QEMU restored it.
fn spawn(command: &mut Command) -> Result<Child> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let handler = || INTERRUPTED.store(true, Ordering::SeqCst);
        ctrlc::set_handler(handler).expect("nobody else sets a handler");
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
            // Another test's child may have been forked while the script was open for writing.
            let busy = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ExecutableFileBusy;
            if !ending.as_ref().is_err_and(|error| error.downcast_ref().is_some_and(busy)) {
                return (ending, lines);
            }
        }
    }

    #[test]
    fn a_kernel_is_told_what_to_boot_and_heard_to_its_last_line() {
        let (ending, lines) = watch("echo \"$@\"; printf 'first\\r\\nlast'; exit 1", Duration::from_secs(20));
        assert_eq!(ending.expect("it ends by itself"), Ending::Failure);
        assert_eq!(lines, ["--archive x.tar --cpus 3 --memory 64M --cmdline a=b c=d", "first", "last"]);
    }

    #[test]
    fn a_system_that_hangs_is_ended() {
        let (ending, lines) = watch("echo up; exec sleep 60", Duration::from_millis(500));
        assert!(ending.expect_err("it hangs").to_string().contains("not over"));
        assert_eq!(lines, ["up"]);
    }
}
