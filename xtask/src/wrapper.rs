//! The compiler of all builds of kernels and images: rustc, started by `xtask/rustc`.
//!
//! The wrapper forbids unsafe code in each package of the workspace that `xtask/trusted.toml` does not list,
//! and records what the compiler was told and read. Cargo starts it by `RUSTC_WORKSPACE_WRAPPER`, which,
//! unlike `RUSTFLAGS`, knows the package. Unlike `RUSTC_WRAPPER`, its path is a part of cargo's hash of a
//! crate, so nothing that was compiled without the wrapper, or by another list, is taken for fresh.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::image::write_if_changed;
use crate::ui::Step;
use crate::workspace::{PROFILE, Workspace};

/// The package of the wrapper; its executable has the same name.
pub(crate) const PACKAGE: &str = "coppice-rustc";

/// The wrapper with the list of the trusted folders, prepared for one workspace.
pub(crate) struct Plan(PathBuf);

/// The wrapper of a workspace, once it is prepared.
#[derive(Default)]
pub(crate) struct Prepared(OnceLock<Plan>);

impl Plan {
    /// Copies the wrapper `executable` to a folder of its own, beside the list of the folders `trusted`.
    pub(crate) fn new(workspace: &Workspace, executable: &Path, trusted: &[&Path]) -> Result<Self> {
        let program = fs::read(executable).with_context(|| format!("reading {}", executable.display()))?;
        let list: String =
            trusted.iter().map(|folder| format!("{}\n", workspace.root.join(folder).display())).collect();
        let digest = Sha256::new().chain_update(&program).chain_update(&list).finalize();
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let folder = workspace.target.join("audit").join(name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        write_if_changed(&folder.join("trusted"), list.as_bytes())?;
        let plan = Self(folder);
        if !plan.program().is_file() {
            // Another process may start it while it is copied.
            let new = plan.0.join(format!("rustc.{}", std::process::id()));
            fs::copy(executable, &new).with_context(|| format!("writing {}", new.display()))?;
            fs::rename(&new, plan.program()).with_context(|| format!("renaming {}", new.display()))?;
        }
        Ok(plan)
    }

    fn program(&self) -> PathBuf {
        self.0.join("rustc")
    }

    /// The folder of the records.
    pub(crate) fn records(&self) -> PathBuf {
        self.0.join("records")
    }

    /// Makes cargo start the wrapper.
    pub(crate) fn apply<'a>(&self, cargo: &'a mut Command) -> &'a mut Command {
        cargo.env("RUSTC_WORKSPACE_WRAPPER", self.program())
    }
}

/// Returns the wrapper of the workspace, and builds it first if this process has not done so.
pub(crate) fn plan(workspace: &Workspace) -> Result<&Plan> {
    let prepared = &workspace.wrapper.0;
    if let Some(plan) = prepared.get() {
        return Ok(plan);
    }
    let trusted = crate::audit::trusted_folders(workspace)?;
    let trusted: Vec<&Path> = trusted.iter().map(PathBuf::as_path).collect();
    let plan = Plan::new(workspace, &build(workspace)?, &trusted)?;
    Ok(prepared.get_or_init(|| plan))
}

/// Makes a cargo command compile by the workspace's wrapper.
pub(crate) fn guard<'a>(workspace: &Workspace, cargo: &'a mut Command) -> Result<&'a mut Command> {
    Ok(plan(workspace)?.apply(cargo))
}

/// Builds the wrapper and returns its executable.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let step = Step::start("building the compiler's wrapper");
    let mut cargo = workspace.cargo("build");
    step.run(cargo.args(["--profile", PROFILE, "-p", PACKAGE]))?;
    let executable = workspace.target.join(PROFILE).join(PACKAGE);
    ensure!(executable.is_file(), "cargo built {PACKAGE}, but {} is missing", executable.display());
    step.done("");
    Ok(executable)
}
