//! [`become_qemu`] starts a process for the devices and replaces the current process by QEMU.
//!
//! So a machine with models is started like any other: the process is QEMU, with its console and its exit
//! status. The devices' process ends when QEMU closes its connection, or ends before it has connected.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use coppice_mailbox::VECTOR_LIMIT;

use crate::ivshmem::{Announcement, MEMORY_LINE, SOCKET_LINE};

/// Starts a process for `devices` and executes `command`, QEMU with its arguments.
///
/// # Errors
/// Returns only on an error: if the process for the devices or QEMU cannot be started.
pub(crate) fn become_qemu(
    memory: u64,
    devices: &[String],
    announce: Announcement,
    command: &[String],
) -> Result<()> {
    let mut server = Command::new(std::env::current_exe().context("finding this program")?);
    server.args(["serve", "--memory", &memory.to_string()]);
    devices.iter().for_each(|device| {
        server.args(["--device", device]);
    });
    if let Some(value) = announce.to_possible_value() {
        server.args(["--announce", value.get_name()]);
    }
    let mut child = server
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .context("starting a process for devices")?;
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped above")).lines();
    let mut arguments = Vec::new();
    let mut sockets = 0;
    for line in lines {
        let line = line.context("reading the output of the process for devices")?;
        if let Some(path) = line.strip_prefix(MEMORY_LINE) {
            arguments.extend(memory_arguments(memory, path));
        } else if let Some(path) = line.strip_prefix(SOCKET_LINE) {
            arguments.extend(device_arguments(sockets, path));
            sockets += 1;
        }
        if sockets == devices.len() {
            let [program, rest @ ..] = command else { bail!("the command for QEMU is empty") };
            let error = Command::new(program).args(rest).args(arguments).exec();
            // The other process ends with this one.
            return Err(error).with_context(|| program.clone());
        }
    }
    // The process has printed the reason.
    let status = child.wait().context("waiting for the process for devices")?;
    bail!("the process for devices ended early: {status}");
}

fn memory_arguments(bytes: u64, path: &str) -> Vec<String> {
    let object = format!("memory-backend-file,id=coppice-memory,size={bytes},mem-path={path},share=on");
    let machine = "memory-backend=coppice-memory";
    ["-object", &object, "-machine", machine].map(str::to_owned).into()
}

fn device_arguments(index: usize, path: &str) -> Vec<String> {
    let chardev = format!("socket,id=coppice-device{index},path={path}");
    let device = format!("ivshmem-doorbell,chardev=coppice-device{index},vectors={VECTOR_LIMIT}");
    ["-chardev", &chardev, "-device", &device].map(str::to_owned).into()
}
