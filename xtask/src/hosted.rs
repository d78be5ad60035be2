//! The hosted machine: the kernel as an ordinary Linux process.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use crate::machine::{Ending, Launch};

/// Exit statuses of the hosted kernel; 70 is `EX_SOFTWARE` of sysexits.
const FAILURE: i32 = 1;
const BAD_INPUT: i32 = 2;
const KERNEL_PANIC: i32 = 70;

/// The command that boots `kernel`.
pub(crate) fn launch(kernel: &Path, launch: &Launch) -> Command {
    let mut command = Command::new(kernel);
    command.arg("--archive").arg(&launch.archive);
    command.args(["--cpus", &launch.cpus.to_string(), "--memory", &launch.memory]);
    if !launch.options.is_empty() {
        command.args(["--cmdline", &launch.options.join(" ")]);
    }
    for device in &launch.devices {
        match device.model() {
            Some(model) => {
                command.args(["--device", &model]);
            }
            None => eprintln!("a device is left out: only QEMU has {}", device.name()),
        }
    }
    command
}

/// The meaning of the process's exit status.
pub(crate) fn ending(status: ExitStatus) -> Ending {
    match status.code() {
        Some(0) => Ending::Success,
        Some(FAILURE) => Ending::Failure,
        Some(KERNEL_PANIC) => Ending::KernelPanic,
        Some(BAD_INPUT) => Ending::Unexplained("the kernel refused its input; its message is above".into()),
        Some(code) => Ending::Unexplained(format!("the hosted kernel ended with status {code}")),
        None => Ending::Unexplained(format!(
            "the hosted kernel was killed by signal {}",
            status.signal().unwrap_or(0)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_mapped_to_endings() {
        let exit = |code: i32| ending(ExitStatus::from_raw(code << 8));
        assert_eq!(exit(0), Ending::Success);
        assert_eq!(exit(1), Ending::Failure);
        assert_eq!(exit(70), Ending::KernelPanic);
        assert!(matches!(exit(2), Ending::Unexplained(what) if what.contains("refused")));
    }
}
