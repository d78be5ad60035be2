//! `device`: serves a device model to machines outside this tool.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use device_models::DeviceOption;

use crate::error::Usage;
use crate::kernel;
use crate::machine_args::check_output;
use crate::workspace::Workspace;

/// Replaces this process by the one that serves `device` at `socket`. Returns only if that fails.
pub(crate) fn serve(workspace: &Workspace, device: &str, socket: &Path, once: bool) -> Result<()> {
    // Checked first, so that a mistyped option fails before anything is compiled.
    let checked = device.parse::<DeviceOption>().and_then(|device| device.check());
    checked.map_err(|error| Usage(error.to_string()))?;
    if socket.exists() {
        return Err(Usage(format!("{} exists already", socket.display())).into());
    }
    check_output(socket)?;
    let host = kernel::build_device_host(workspace)?;
    let mut command = Command::new(&host);
    command.args(["vfio-user", device]).arg("--socket").arg(socket);
    if once {
        command.arg("--once");
    }
    Err(command.exec()).with_context(|| host.display().to_string())
}
