//! [`Machine`]: boots an archive, hears its console, and knows what its exit status means. A boot that hangs is ended.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// A machine that is there.
pub(crate) enum Machine {
    /// A Linux process.
    Hosted { kernel: OsString },
    /// QEMU.
    Bare { kernel: OsString, qemu: OsString, device: OsString },
}

/// What to boot it with.
#[derive(Clone, Copy)]
pub(crate) struct Launch<'a> {
    pub(crate) archive: &'a Path,
    pub(crate) cpus: u32,
    pub(crate) memory: &'a str,
    /// Words of the kernel's command line.
    pub(crate) options: &'a str,
    /// Devices for drivers.
    pub(crate) devices: Devices,
    /// Further arguments of QEMU's; later ones win.
    pub(crate) board: &'a [&'a str],
    /// Bare only: one instruction takes one tick of the clock, so that the same seed gives the same run.
    pub(crate) exact: bool,
    /// How long it may take.
    pub(crate) timeout: Duration,
}

/// What devices the machine has besides its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    /// None.
    None,
    /// Two of QEMU's educational ones, or [models](MODELS) of it.
    Educational,
    /// The models, also on bare.
    Models,
    /// The models, where QEMU drops the first rings of their doorbells.
    LateModels,
    /// Models of network controllers whose wires lead back to them.
    Network,
}

/// Models of the educational device, which take 2 ms and 20 ms for a copy.
const MODELS: [&str; 4] = ["--device", "edu,delay=2ms", "--device", "edu,delay=20ms"];

/// The same, with QEMU told of its peer only a while after the first ring.
const LATE_MODELS: [&str; 6] =
    ["--introduction", "late", "--device", "edu,delay=2ms", "--device", "edu,delay=20ms"];

/// Models of a network controller, as in systems/verification/nics.toml: one in order, and one that is not.
const NICS: [&str; 4] = [
    "--device",
    "ixgbe,end=loopback",
    "--device",
    "ixgbe,end=loopback,mac=02:00:00:00:00:02,faults=wrong-length:1/300+garbage:1/300+no-end:1/400+twice:1/400\
     +lost-descriptor:1/400+lost-report:1/400+wrong-head:1/50+hang:1/900+stuck-enable:1/9+unplug:1/3000:3ms",
];

impl Devices {
    /// The models, as whoever hosts them is told.
    fn models(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::Educational | Self::Models => &MODELS,
            Self::LateModels => &LATE_MODELS,
            Self::Network => &NICS,
        }
    }
}

/// How a boot ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ending {
    Success,
    Failure,
    /// The command line makes no sense.
    Usage,
    KernelPanic,
    /// It had to be ended.
    Hung,
    /// Otherwise, with this status.
    Other(Option<i32>),
}

/// What came of a boot.
pub(crate) struct Boot {
    pub(crate) ending: Ending,
    /// All lines of the console, and then of the standard error.
    pub(crate) console: Vec<String>,
}

impl fmt::Display for Boot {
    /// The end of the console.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 60;
        let skipped = self.console.len().saturating_sub(SHOWN);
        writeln!(f, "it ended: {:?}; the console's last lines ({skipped} before them):", self.ending)?;
        self.console[skipped..].iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

impl Machine {
    /// The hosted machine, if its kernel was built.
    pub(crate) fn hosted() -> Option<Self> {
        Some(Self::Hosted { kernel: std::env::var_os("COPPICE_HOSTED")? })
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

    /// `native`, or `emulated` where everything takes longer.
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
                let mut command =
                    if matches!(launch.devices, Devices::Models | Devices::LateModels | Devices::Network) {
                        let mut command = Command::new(device);
                        command.args(["qemu", "--memory", launch.memory]);
                        command.args(launch.devices.models()).arg("--").arg(qemu);
                        command
                    } else {
                        Command::new(qemu)
                    };
                command.args(["-machine", "q35", "-cpu", "max", "-nodefaults", "-no-user-config"]);
                if launch.exact {
                    // One instruction of all CPUs' at a time, and no host clock while they sleep.
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
            // isa-debug-exit: twice the value and one; QEMU's own refusals are 1.
            Self::Bare { .. } => [33, 35, 1, 37],
        };
        let endings = [Ending::Success, Ending::Failure, Ending::Usage, Ending::KernelPanic];
        let meant = known.iter().zip(endings).find(|(code, _)| status == Some(**code));
        meant.map_or(Ending::Other(status), |(_, ending)| ending)
    }

    /// Boots, without input, and waits for the end.
    pub(crate) fn boot(&self, launch: Launch<'_>) -> Boot {
        self.boot_and_watch(launch, |_, _| ())
    }

    /// The same; `watch` is told the machine's process and each line as it comes.
    pub(crate) fn boot_and_watch(&self, launch: Launch<'_>, mut watch: impl FnMut(u32, &str)) -> Boot {
        let mut command = self.command(launch);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (send, receive) = mpsc::channel();
        let errors = lines_of(child.stderr.take().expect("stderr is piped"), send.clone());
        let output = lines_of(child.stdout.take().expect("stdout is piped"), send);
        let deadline = Instant::now() + launch.timeout;
        let mut console = Vec::new();
        let mut hung = false;
        loop {
            match receive.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    watch(child.id(), &line);
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

/// Sends each line of `stream`, on a thread of its own.
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
