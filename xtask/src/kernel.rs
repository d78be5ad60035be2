//! The two kernels, each from a cargo invocation of its own: features that one needs must not reach the other. And what hosts
//! device models for the bare one.

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
    executable(workspace, &format!("building the {kind} kernel"), &mut cargo(workspace, kind), package(kind))
}

/// Builds what hosts device models for other machines, and returns its executable.
pub(crate) fn build_device_host(workspace: &Workspace) -> Result<PathBuf> {
    const PACKAGE: &str = "coppice-device";
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "-p", PACKAGE]);
    executable(workspace, "building the device models", &mut cargo, PACKAGE)
}

fn executable(workspace: &Workspace, what: &str, cargo: &mut Command, name: &str) -> Result<PathBuf> {
    let step = Step::start(what);
    step.run(cargo)?;
    let executable = workspace.target.join("release").join(name);
    ensure!(executable.is_file(), "cargo built {name}, but {} is missing", executable.display());
    step.done("");
    Ok(executable)
}
