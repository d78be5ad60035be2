//! The two kernels, each from a cargo invocation of its own: features that one needs must not reach the other.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::machine::Kind;
use crate::ui::Step;
use crate::workspace::Workspace;

/// The package of a machine's kernel; its executable has the same name.
pub(crate) fn package(kind: Kind) -> &'static str {
    match kind {
        Kind::Bare => "coppice-bare",
        Kind::Hosted => "coppice-hosted",
    }
}

/// The command that builds it.
pub(crate) fn cargo(workspace: &Workspace, kind: Kind) -> Command {
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "-p", package(kind)]);
    cargo
}

/// Builds the kernel of a machine and returns its executable.
pub(crate) fn build(workspace: &Workspace, kind: Kind) -> Result<PathBuf> {
    let step = Step::start(format!("building the {kind} kernel"));
    step.run(&mut cargo(workspace, kind))?;
    let executable = workspace.target.join("release").join(package(kind));
    ensure!(executable.is_file(), "cargo built {}, but {} is missing", package(kind), executable.display());
    step.done("");
    Ok(executable)
}
