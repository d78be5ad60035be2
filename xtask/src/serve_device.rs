//! `device`: serves a device model to machines outside this tool.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::kernel;
use crate::workspace::Workspace;

/// Replaces this process by the one that serves `device` at `socket`. Returns only if that fails.
pub(crate) fn serve(workspace: &Workspace, device: &str, socket: &Path, once: bool) -> Result<()> {
    let host = kernel::build_device_host(workspace)?;
    let mut command = Command::new(&host);
    command.args(["vfio-user", device]).arg("--socket").arg(socket);
    if once {
        command.arg("--once");
    }
    Err(command.exec()).with_context(|| host.display().to_string())
}
