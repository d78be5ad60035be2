//! The two kernels, each from a cargo invocation of its own, so that features of one do not reach the other;
//! and the device host of the bare machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Result, ensure};

use crate::machine::Kind;
use crate::ui::Step;
use crate::workspace::Workspace;
use crate::wrapper;

/// The package that hosts device models for other machines; its executable has the same name.
pub(crate) const DEVICE_HOST: &str = "coppice-device";

/// The package of a machine's kernel; its executable has the same name.
pub(crate) fn package(kind: Kind) -> &'static str {
    match kind {
        Kind::Bare => "coppice-bare",
        Kind::Hosted => "coppice-hosted",
    }
}

/// The set of interfaces that a kernel is built with (docs/decisions/024-interfaces-per-kernel-image.md).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flavor {
    /// All interfaces, those of examples and tests included: for every system that is booted from a checkout.
    Testing,
    /// Only those that production systems use.
    Production,
}

impl Flavor {
    /// The flavor that `--production` selects.
    pub(crate) fn new(production: bool) -> Self {
        if production { Self::Production } else { Self::Testing }
    }
}

/// The cargo command that builds or checks a kernel.
pub(crate) fn cargo(workspace: &Workspace, subcommand: &str, kind: Kind, flavor: Flavor) -> Command {
    let mut cargo = workspace.cargo(subcommand);
    cargo.args(["--release", "-p", package(kind)]);
    if flavor == Flavor::Testing {
        cargo.args(["--features", "testing"]);
    }
    cargo
}

/// Builds the kernel of a machine and returns its executable.
pub(crate) fn build(workspace: &Workspace, kind: Kind, flavor: Flavor) -> Result<PathBuf> {
    let step = match flavor {
        Flavor::Testing => format!("building the {kind} kernel"),
        Flavor::Production => format!("building the {kind} kernel for production"),
    };
    executable(workspace, &step, &mut cargo(workspace, "build", kind, flavor), package(kind))
}

/// Builds the host of device models for other machines, and returns its executable.
pub(crate) fn build_device_host(workspace: &Workspace) -> Result<PathBuf> {
    executable(workspace, "building the device models", &mut device_host(workspace), DEVICE_HOST)
}

/// The cargo command that builds the host of device models.
pub(crate) fn device_host(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "-p", DEVICE_HOST]);
    cargo
}

/// Executables that this process has built, by package: cargo builds each once.
#[derive(Default)]
pub(crate) struct Built(Mutex<BTreeMap<String, PathBuf>>);

fn executable(workspace: &Workspace, what: &str, cargo: &mut Command, name: &str) -> Result<PathBuf> {
    let mut built = workspace.executables.0.lock().expect("no thread panics with it");
    if let Some(executable) = built.get(name) {
        return Ok(executable.clone());
    }
    let step = Step::start(what);
    step.run(wrapper::guard(workspace, cargo)?)?;
    let executable = workspace.target.join("release").join(name);
    ensure!(executable.is_file(), "cargo built {name}, but {} is missing", executable.display());
    step.done("");
    built.insert(name.to_owned(), executable.clone());
    Ok(executable)
}
