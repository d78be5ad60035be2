//! The two kernels, each from a cargo invocation of its own, so that features of one do not reach the other;
//! and the device host of the bare machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, ensure};

use crate::machine::Kind;
use crate::seal;
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
///
/// # Errors
/// If there is no signing key and none can be made: the kernel is built with its public half.
pub(crate) fn cargo(workspace: &Workspace, subcommand: &str, kind: Kind, flavor: Flavor) -> Result<Command> {
    let mut cargo = workspace.cargo(subcommand);
    cargo.args(["--release", "-p", package(kind)]);
    if flavor == Flavor::Testing {
        cargo.args(["--features", "testing"]);
    }
    cargo.env(seal::TRUSTED_KEY, seal::signing_key(workspace)?.public().to_string());
    Ok(cargo)
}

/// Builds the kernel of a machine and returns its executable.
pub(crate) fn build(workspace: &Workspace, kind: Kind, flavor: Flavor) -> Result<PathBuf> {
    let step = match flavor {
        Flavor::Testing => format!("building the {kind} kernel"),
        Flavor::Production => format!("building the {kind} kernel for production"),
    };
    let name = match flavor {
        Flavor::Testing => format!("{}-testing", package(kind)),
        Flavor::Production => format!("{}-production", package(kind)),
    };
    let mut cargo = cargo(workspace, "build", kind, flavor)?;
    executable(workspace, &step, &mut cargo, package(kind), &name)
}

/// Builds the host of device models for other machines, and returns its executable.
pub(crate) fn build_device_host(workspace: &Workspace) -> Result<PathBuf> {
    let step = "building the device models";
    executable(workspace, step, &mut device_host(workspace), DEVICE_HOST, DEVICE_HOST)
}

/// The cargo command that builds the host of device models.
pub(crate) fn device_host(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo("build");
    cargo.args(["--release", "-p", DEVICE_HOST]);
    cargo
}

/// Executables that this process has built, by package and flavor: cargo builds each once.
#[derive(Default)]
pub(crate) struct Built(Mutex<BTreeMap<String, PathBuf>>);

/// Runs `cargo`, which writes the executable of `package`, and returns the path of its copy `name`. Both
/// flavors of a kernel are executables of one package, and cargo writes them to one path.
fn executable(
    workspace: &Workspace,
    what: &str,
    cargo: &mut Command,
    package: &str,
    name: &str,
) -> Result<PathBuf> {
    let mut built = workspace.executables.0.lock().expect("no thread panics with it");
    if let Some(executable) = built.get(name) {
        return Ok(executable.clone());
    }
    let step = Step::start(what);
    step.run(wrapper::guard(workspace, cargo)?)?;
    let folder = workspace.target.join("release");
    let (linked, executable) = (folder.join(package), folder.join(name));
    ensure!(linked.is_file(), "cargo built {package}, but {} is missing", linked.display());
    if linked != executable {
        // The next build of another flavor replaces what cargo linked. Another process may run the file, so it
        // is replaced and not written to.
        let copy = folder.join(format!("{name}.{}", std::process::id()));
        let replaced = fs::copy(&linked, &copy).and_then(|_| fs::rename(&copy, &executable));
        replaced.with_context(|| format!("writing {}", executable.display()))?;
    }
    step.done("");
    built.insert(name.to_owned(), executable.clone());
    Ok(executable)
}
