//! The bare machine: QEMU without KVM, a q35 board, the kernel given with `-kernel`.

use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

use crate::devices::Device;
use crate::machine::{Ending, Launch};
use crate::workspace::find_program;

/// The name of QEMU's emulator program.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";

/// The kernel ends by writing to `isa-debug-exit`, which makes QEMU exit with twice the value plus one.
const SUCCESS: i32 = 33;
const FAILURE: i32 = 35;
const KERNEL_PANIC: i32 = 37;

/// An installed QEMU.
pub(crate) struct Qemu {
    /// The path of the program.
    pub(crate) program: PathBuf,
    version: String,
}

impl fmt::Display for Qemu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QEMU {} ({})", self.version, self.program.display())
    }
}

impl Qemu {
    /// The QEMU that `COPPICE_QEMU` names, or else the one on the search path, if any.
    pub(crate) fn find() -> Result<Option<Self>> {
        if let Some(program) = std::env::var_os("COPPICE_QEMU").map(PathBuf::from) {
            let qemu = Self::probe(&program).with_context(|| {
                format!("COPPICE_QEMU names {}, which does not run as QEMU", program.display())
            })?;
            return Ok(Some(qemu));
        }
        Ok(find_program(PROGRAM).and_then(|program| Self::probe(&program)))
    }

    fn probe(program: &Path) -> Option<Self> {
        let output = Command::new(program).arg("--version").output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        output.status.success().then(|| Self { program: program.to_owned(), version: version(&text) })
    }

    /// The major version; 0 if it is unknown.
    pub(crate) fn major(&self) -> u32 {
        self.version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    /// The command that boots `kernel`. `device_host` serves devices that QEMU does not have.
    pub(crate) fn launch(&self, kernel: &Path, device_host: &Path, launch: &Launch) -> Command {
        let models: Vec<_> = launch.devices.iter().filter_map(Device::beside_qemu).collect();
        let mut command = Command::new(if models.is_empty() { &self.program } else { device_host });
        if !models.is_empty() {
            command.args(["qemu", "--memory", &launch.memory]);
            models.iter().for_each(|model| {
                command.args(["--device", model]);
            });
            command.arg("--").arg(&self.program);
        }
        command.args(["-machine", "q35", "-cpu", "max", "-nodefaults", "-no-user-config"]);
        if launch.count_instructions {
            // Instructions are counted for one CPU at a time; virtual time may run ahead while it sleeps.
            command.args(["-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off"]);
            // An MSR write to an APIC register, which QEMU supports from 9.0 on, reads the clock at a point
            // where that is not permitted, and QEMU ends with "Bad icount read" (10.0).
            command.args(["-cpu", "max,-x2apic"]);
        } else {
            command.args(["-accel", "tcg,thread=multi"]);
        }
        command.args(["-smp", &launch.cpus.to_string(), "-m", &launch.memory]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(&launch.archive);
        command.args(["-append", &launch.options.join(" ")]);
        command.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot"]);
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        for (index, device) in launch.devices.iter().enumerate() {
            if self.major() < device.least_qemu() {
                eprintln!(
                    "a device is left out: it needs QEMU {} or later, and this is {self}",
                    device.least_qemu()
                );
            } else {
                command.args(device.qemu(index));
            }
        }
        command
    }
}

fn version(text: &str) -> String {
    // "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
    let mut words = text.split_whitespace().skip_while(|&word| word != "version");
    words.nth(1).unwrap_or("of unknown version").to_owned()
}

/// The meaning of QEMU's exit status.
pub(crate) fn ending(status: ExitStatus) -> Ending {
    let what = match status.code() {
        Some(SUCCESS) => return Ending::Success,
        Some(FAILURE) => return Ending::Failure,
        Some(KERNEL_PANIC) => return Ending::KernelPanic,
        Some(0) => "the machine was reset or switched off without an exit status, as by a triple fault \
             (`-d int,cpu_reset -D FILE` makes QEMU say more)"
            .to_owned(),
        Some(1) => "QEMU did not start or aborted; its message is above".to_owned(),
        Some(code) => format!("QEMU ended with status {code}"),
        None => format!("QEMU was killed by signal {}", status.signal().unwrap_or(0)),
    };
    Ending::Unexplained(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn exit_statuses_are_mapped_to_endings() {
        assert_eq!(ending(exit(33)), Ending::Success);
        assert_eq!(ending(exit(35)), Ending::Failure);
        assert_eq!(ending(exit(37)), Ending::KernelPanic);
    }

    #[test]
    fn a_reset_is_not_success() {
        assert!(matches!(ending(exit(0)), Ending::Unexplained(what) if what.contains("triple fault")));
    }

    #[test]
    fn a_signal_is_named() {
        let killed = ExitStatus::from_raw(9);
        assert!(matches!(ending(killed), Ending::Unexplained(what) if what.contains("signal 9")));
    }

    #[test]
    fn version_is_read_from_the_output_of_qemu() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"), "7.2.22");
    }
}
