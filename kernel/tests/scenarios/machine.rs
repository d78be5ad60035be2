//! [`Machine`]: boots an archive, reads its console, and interprets its exit status. A boot that exceeds its
//! timeout is killed.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// An available machine.
pub(crate) enum Machine {
    /// A Linux process: the hosted kernel.
    Hosted { kernel: OsString },
    /// The bare kernel in QEMU; `device` is the program that hosts device models.
    Bare { kernel: OsString, qemu: OsString, device: OsString },
}

/// The parameters of a boot.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    pub(crate) archive: &'a Path,
    pub(crate) cpus: u32,
    pub(crate) memory: &'a str,
    /// The kernel's command line.
    pub(crate) options: &'a str,
    /// Devices for drivers.
    pub(crate) devices: Devices,
    /// Further arguments for QEMU; later ones override earlier ones.
    pub(crate) board: &'a [&'a str],
    /// Bare only: one instruction takes one tick of the clock, so that a seed reproduces the run.
    pub(crate) exact: bool,
    /// The limit for the whole run.
    pub(crate) timeout: Duration,
}

/// The devices that the machine has for drivers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    /// None.
    None,
    /// Two of QEMU's educational devices; on hosted, [models](MODELS) of them.
    Educational,
    /// The models, also on bare.
    Models,
    /// The models, with QEMU dropping the first rings of their doorbells.
    LateModels,
    /// Models of network controllers whose links loop back.
    Network,
    /// Models of a disk and of a network controller, as in systems/shell.toml.
    DiskAndNetwork,
}

/// Models of the educational device that take 2 ms and 20 ms for a copy.
const MODELS: [&str; 4] = ["--device", "edu,delay=2ms", "--device", "edu,delay=20ms"];

/// The same models, introduced to QEMU only some time after the first ring.
const LATE_MODELS: [&str; 6] =
    ["--announce", "delayed", "--device", "edu,delay=2ms", "--device", "edu,delay=20ms"];

/// Models of a disk and of a network controller without faults.
const DISK_AND_NIC: [&str; 4] = ["--device", "nvme,memory=16M", "--device", "ixgbe,peer=loopback"];

/// Models of a network controller, as in systems/verification/nics.toml: one without faults, and one with.
const NICS: [&str; 4] = [
    "--device",
    "ixgbe,peer=loopback",
    "--device",
    "ixgbe,peer=loopback,mac=02:00:00:00:00:02,faults=wrong-length:1/300+garbage:1/300+no-end:1/400+twice:1/400\
     +lost-descriptor:1/400+lost-report:1/400+wrong-head:1/50+hang:1/900+stuck-enable:1/9+unplug:1/3000:3ms",
];

impl Devices {
    /// The arguments for the program that hosts the models.
    fn models(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Educational | Self::Models => &MODELS,
            Self::LateModels => &LATE_MODELS,
            Self::Network => &NICS,
            Self::DiskAndNetwork => &DISK_AND_NIC,
        }
    }
}

/// The end of a boot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Success,
    Failure,
    /// The command line was refused.
    Usage,
    KernelPanic,
    /// The boot exceeded its timeout and was killed.
    Hung,
    /// Any other exit status.
    Other(Option<i32>),
}

/// The result of a boot.
pub(crate) struct Boot {
    pub(crate) ending: Ending,
    /// All lines of the console, followed by those of standard error.
    pub(crate) console: Vec<String>,
}

impl fmt::Display for Boot {
    /// Formats the last lines of the console.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        let skipped = self.console.len().saturating_sub(SHOWN);
        writeln!(
            f,
            "the boot ended with {:?}; the last lines of the console ({skipped} skipped):",
            self.ending
        )?;
        self.console[skipped..].iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

impl Machine {
    /// The hosted machine, if its kernel was built.
    pub(crate) fn hosted() -> Option<Self> {
        Some(Self::Hosted { kernel: std::env::var_os("COPPICE_HOSTED")? })
    }

    /// The hosted machine with a kernel for production, if that was built.
    pub(crate) fn hosted_for_production() -> Option<Self> {
        Some(Self::Hosted { kernel: std::env::var_os("COPPICE_HOSTED_PRODUCTION")? })
    }

    /// The bare machine with a kernel for production, if there is a QEMU and that kernel was built.
    pub(crate) fn bare_for_production() -> Option<Self> {
        let kernel = std::env::var_os("COPPICE_BARE_PRODUCTION")?;
        Some(match Self::bare()? {
            Self::Bare { qemu, device, .. } => Self::Bare { kernel, qemu, device },
            hosted @ Self::Hosted { .. } => hosted,
        })
    }

    /// The bare machine, if there is a QEMU and its kernel was built.
    pub(crate) fn bare() -> Option<Self> {
        Some(Self::Bare {
            kernel: std::env::var_os("COPPICE_BARE")?,
            qemu: std::env::var_os("COPPICE_QEMU")?,
            device: std::env::var_os("COPPICE_DEVICE")?,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hosted { .. } => "hosted",
            Self::Bare { .. } => "bare",
        }
    }

    /// Returns `native` on hosted, and `emulated` on bare, where everything takes longer.
    pub(crate) fn choose<T>(&self, native: T, emulated: T) -> T {
        match self {
            Self::Hosted { .. } => native,
            Self::Bare { .. } => emulated,
        }
    }

    /// The command that boots (the same as xtask's).
    fn command(&self, launch: Launch<'_>) -> Command {
        let cpus = launch.cpus.to_string();
        match self {
            Self::Hosted { kernel } => {
                let mut command = Command::new(kernel);
                command.arg("--archive").arg(launch.archive);
                command.args(["--cpus", &cpus, "--memory", launch.memory, "--cmdline", launch.options]);
                command.args(launch.devices.models());
                command
            }
            Self::Bare { kernel, qemu, device } => {
                let mut command = if !matches!(launch.devices, Devices::None | Devices::Educational) {
                    let mut command = Command::new(device);
                    command.args(["qemu", "--memory", launch.memory]);
                    command.args(launch.devices.models()).arg("--").arg(qemu);
                    command
                } else {
                    Command::new(qemu)
                };
                command.args(["-machine", "q35", "-cpu", "max", "-nodefaults", "-no-user-config"]);
                if launch.exact {
                    // One CPU runs at a time, and the clock does not follow the host's while all sleep.
                    command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]);
                    command.args(["-cpu", "max,-x2apic"]);
                } else {
                    command.args(["-accel", "tcg,thread=multi"]);
                }
                command.args(["-smp", &cpus, "-m", launch.memory]);
                command.arg("-kernel").arg(kernel).arg("-initrd").arg(launch.archive);
                command.args(["-append", launch.options]);
                command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
                command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
                if launch.devices == Devices::Educational {
                    command.args(["-device", "edu", "-device", "edu"]);
                }
                command.args(launch.board);
                command
            }
        }
    }

    fn ending(&self, status: Option<i32>) -> Ending {
        let known = match self {
            Self::Hosted { .. } => [0, 1, 2, 70],
            // isa-debug-exit: twice the value plus one; QEMU's own errors are 1.
            Self::Bare { .. } => [33, 35, 1, 37],
        };
        let endings = [Ending::Success, Ending::Failure, Ending::Usage, Ending::KernelPanic];
        let matching = known.iter().zip(endings).find(|(code, _)| status == Some(**code));
        matching.map_or(Ending::Other(status), |(_, ending)| ending)
    }

    /// Boots without input, and waits for the end.
    pub(crate) fn boot(&self, launch: Launch<'_>) -> Boot {
        self.boot_and_watch(launch, |_, _| ())
    }

    /// Boots as [`Self::boot`] does, and begins to read the console after `delay`.
    pub(crate) fn boot_and_read_after(&self, launch: Launch<'_>, delay: Duration) -> Boot {
        self.run(launch, Stdio::null(), delay, |_, _| ())
    }

    /// Boots without a reader of the console, and waits for the end.
    pub(crate) fn end_of_unread(&self, launch: Launch<'_>) -> Ending {
        let mut command = self.command(launch);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let deadline = Instant::now() + launch.timeout;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                return self.ending(status.code());
            }
            thread::sleep(Duration::from_millis(50));
        }
        child.kill().expect("the child is ours");
        child.wait().expect("the child is ours");
        Ending::Hung
    }

    /// Boots as [`Self::boot`] does. `watch` receives the machine's process id and each line as it arrives.
    pub(crate) fn boot_and_watch(&self, launch: Launch<'_>, mut watch: impl FnMut(u32, &str)) -> Boot {
        self.run(launch, Stdio::null(), Duration::ZERO, |child, line| watch(child.id(), line))
    }

    /// Boots as [`Self::boot`] does, and types `input` when a line of the console contains `prompt`.
    pub(crate) fn boot_and_type(&self, launch: Launch<'_>, prompt: &str, input: &str) -> Boot {
        let mut is_typed = false;
        self.run(launch, Stdio::piped(), Duration::ZERO, |child, line| {
            if !is_typed && line.contains(prompt) {
                is_typed = true;
                let console = child.stdin.as_mut().expect("stdin is piped");
                console.write_all(input.as_bytes()).expect("the machine reads its console");
            }
        })
    }

    fn run(
        &self,
        launch: Launch<'_>,
        input: Stdio,
        delay: Duration,
        mut watch: impl FnMut(&mut Child, &str),
    ) -> Boot {
        let mut command = self.command(launch);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        thread::sleep(delay);
        let (send, receive) = mpsc::channel();
        let errors = lines_of(child.stderr.take().expect("stderr is piped"), send.clone());
        let output = lines_of(child.stdout.take().expect("stdout is piped"), send);
        let deadline = Instant::now() + launch.timeout;
        let mut console = Vec::new();
        let mut hung = false;
        loop {
            match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    watch(&mut child, &line);
                    console.push(line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    hung = true;
                    child.kill().expect("the child is ours");
                    break;
                }
            }
        }
        let status = child.wait().expect("the child is ours");
        console.extend(receive.iter());
        for reader in [errors, output] {
            reader.join().expect("a reader only reads");
        }
        Boot { ending: if hung { Ending::Hung } else { self.ending(status.code()) }, console }
    }
}

/// Sends each line of `stream`, from a separate thread.
fn lines_of(stream: impl Read + Send + 'static, send: mpsc::Sender<String>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        for bytes in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned();
            if send.send(line).is_err() {
                return;
            }
        }
    })
}
