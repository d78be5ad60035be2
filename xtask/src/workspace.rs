//! The workspace as cargo describes it: packages, domain images, systems.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package, Target};

use crate::audit::verdict::Verdicts;
use crate::error::Usage;
use crate::{image, kernel, wrapper};

/// The only target of all builds.
pub(crate) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The profile of this program, by `.cargo/config.toml`, and of the tests that it runs, which share its
/// dependencies.
pub(crate) const PROFILE: &str = "host";

/// The workspace.
pub(crate) struct Workspace {
    /// Packages and the dependencies between them, for [`TARGET`] only.
    pub(crate) metadata: Metadata,
    /// The folder that holds the root manifest.
    pub(crate) root: PathBuf,
    /// The folder of cargo's output and of archives and reports.
    pub(crate) target: PathBuf,
    /// The images that this process has built.
    pub(crate) built: image::Built,
    /// The executables that this process has built, by package.
    pub(crate) executables: kernel::Built,
    /// The audit's verdicts on the images that this process packed last.
    pub(crate) verdicts: Mutex<Option<Arc<Verdicts>>>,
    /// The compiler's wrapper, once a build needs it.
    pub(crate) wrapper: wrapper::Prepared,
}

/// The package of each domain image, by the name of the image and of its binary.
pub(crate) type Images = BTreeMap<String, String>;

impl Workspace {
    /// Reads the workspace that this program was built from.
    pub(crate) fn load() -> Result<Self> {
        // Cargo sets the variable when it runs this program; a direct start uses the path of the build.
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let own = folder.as_deref().unwrap_or(Path::new(env!("CARGO_MANIFEST_DIR")));
        // In this package's own folder, it would be the only default member.
        Self::load_at(own.parent().unwrap_or(own))
    }

    /// Reads the workspace of the package in `folder`, or the workspace with its root there.
    pub(crate) fn load_at(folder: &Path) -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(folder.join("Cargo.toml"))
            .features(CargoOpt::AllFeatures)
            .other_options(vec!["--filter-platform".to_owned(), TARGET.to_owned()])
            .exec()
            .context("cargo cannot describe the workspace")?;
        let root = metadata.workspace_root.clone().into_std_path_buf();
        let target = metadata.target_directory.clone().into_std_path_buf();
        let built = image::Built::default();
        let executables = kernel::Built::default();
        let (wrapper, verdicts) = (wrapper::Prepared::default(), Mutex::default());
        Ok(Self { metadata, root, target, built, executables, verdicts, wrapper })
    }

    /// A cargo command at the root. It does not inherit the caller's `RUSTFLAGS`: they would reach only one
    /// of kernel and images, which have to match, and might enable registers that the kernel does not save.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let mut command = self.scrub(command);
        command.current_dir(&self.root).arg(subcommand);
        // The lock file decides which crates are built; the audit compares its checksums.
        command.arg("--locked");
        command
    }

    /// Removes the caller's settings that change the builds of a cargo in the command.
    pub(crate) fn scrub(&self, mut command: Command) -> Command {
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_none_or(changes_builds) {
                command.env_remove(name);
            }
        }
        // Set and empty, these prevail over the same settings in cargo's configuration.
        command
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_ENCODED_RUSTFLAGS", "")
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_WORKSPACE_WRAPPER", "");
        command
    }

    /// The output of `rustc --version`.
    pub(crate) fn compiler(&self) -> Result<String> {
        rustc("--version")
    }

    /// The toolchain's folder.
    pub(crate) fn sysroot(&self) -> Result<PathBuf> {
        rustc("--print=sysroot").map(PathBuf::from)
    }

    /// The member package of that name.
    pub(crate) fn member(&self, name: &str) -> Option<&Package> {
        self.metadata.workspace_packages().into_iter().find(|package| *package.name == name)
    }

    /// A package's folder, relative to the root.
    pub(crate) fn folder<'a>(&self, package: &'a Package) -> &'a Path {
        let folder = package.manifest_path.parent().expect("a manifest lies in a folder").as_std_path();
        folder.strip_prefix(&self.root).unwrap_or(folder)
    }

    /// The binaries of all packages marked `[package.metadata.coppice] image = true`.
    pub(crate) fn images(&self) -> Result<Images> {
        let mut images = Images::new();
        for package in self.metadata.workspace_packages().into_iter().filter(|package| is_image(package)) {
            let manifest = self.folder(package).join("Cargo.toml");
            for binary in binaries(package) {
                if self.image_name(package, binary).as_ref() != Some(&binary.name) {
                    bail!("{}: {}", manifest.display(), misnamed(binary));
                }
                if let Some(other) = images.insert(binary.name.clone(), package.name.to_string()) {
                    bail!("{other} and {} both build an image \"{}\"", package.name, binary.name);
                }
            }
            if binaries(package).next().is_none() {
                bail!("{} says `image = true`, but the package has no binary", manifest.display());
            }
        }
        Ok(images)
    }

    /// The name that a binary of an image package must have, by the place of its source: `src/main.rs` is the
    /// image of the package's folder, `src/bin/NAME.rs` the image `NAME`. Returns `None` for another place.
    pub(crate) fn image_name(&self, package: &Package, binary: &Target) -> Option<String> {
        let folder = self.folder(package);
        let source = binary.src_path.as_std_path().strip_prefix(self.root.join(folder)).ok()?;
        if source == Path::new("src/main.rs") {
            return name_of_folder(folder);
        }
        let file = source.strip_prefix("src/bin").ok()?;
        let is_rust = file.extension().is_some_and(|extension| extension == "rs");
        (is_rust && file.components().count() == 1).then(|| file.with_extension("").display().to_string())
    }

    /// The manifest of each system by its name: `systems/NAME.toml`, or one folder below.
    pub(crate) fn systems(&self) -> Result<BTreeMap<String, PathBuf>> {
        let mut systems = BTreeMap::new();
        let folder = self.root.join("systems");
        if folder.exists() {
            collect_systems(&folder, &mut systems)?;
        }
        Ok(systems)
    }

    /// The manifest of the system `name`.
    pub(crate) fn system(&self, name: &str) -> Result<PathBuf> {
        let mut systems = self.systems()?;
        if let Some(path) = systems.remove(name) {
            return Ok(path);
        }
        let known = if systems.is_empty() {
            "none".to_owned()
        } else {
            systems.into_keys().collect::<Vec<_>>().join(", ")
        };
        Err(Usage(format!("there is no system \"{name}\"; systems/ holds: {known}")).into())
    }
}

/// Returns true for environment variables by which cargo or rustc build something else. `CARGO_BUILD_JOBS`
/// and the like do not.
fn changes_builds(name: &str) -> bool {
    const PREFIXES: [&str; 5] =
        ["CARGO_BUILD_RUST", "CARGO_PROFILE_", "CARGO_SOURCE_", "CARGO_TARGET_", "CARGO_UNSTABLE_"];
    const NAMES: [&str; 8] = [
        "CARGO_BUILD_TARGET",
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_BOOTSTRAP",
        "RUSTC_FORCE_RUSTC_VERSION",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "RUST_TARGET_PATH",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Adds the manifests in `folder` and in the folders below it to `systems`.
fn collect_systems(folder: &Path, systems: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in folder.read_dir().with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        if path.is_dir() {
            collect_systems(&path, systems)?;
        } else if path.extension().is_some_and(|extension| extension == "toml")
            && let Some(name) = path.file_stem().map(|stem| stem.to_string_lossy().into_owned())
            && let Some(other) = systems.insert(name, path.clone())
        {
            bail!("{} and {} are manifests of the same name", other.display(), path.display());
        }
    }
    Ok(())
}

fn rustc(argument: &str) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).arg(argument).output().with_context(|| format!("running rustc {argument}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The binaries of a package.
pub(crate) fn binaries(package: &Package) -> impl Iterator<Item = &Target> {
    package.targets.iter().filter(|target| target.is_bin())
}

/// The defect of an image's binary with another name than its source file requires.
pub(crate) fn misnamed(binary: &Target) -> String {
    format!(
        "has a binary \"{}\" that is neither src/main.rs, named like the folder, nor src/bin/{}.rs",
        binary.name, binary.name
    )
}

/// The name of the image whose source is the `src/main.rs` of the package in `folder`: the folder's name. A
/// benchmark's folder is named after what it measures, which may be a domain, so its image is `bench-NAME`.
fn name_of_folder(folder: &Path) -> Option<String> {
    let prefix = if folder.starts_with("benches") { "bench-" } else { "" };
    Some(format!("{prefix}{}", folder.file_name()?.to_string_lossy()))
}

/// Returns true if a package's metadata declares its binaries domain images.
pub(crate) fn is_image(package: &Package) -> bool {
    package.metadata.pointer("/coppice/image").and_then(|value| value.as_bool()).unwrap_or(false)
}

/// The program called `name` on the search path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_does_not_change_builds() {
        for name in [
            "RUSTFLAGS",
            "RUSTC_WRAPPER",
            "CARGO_BUILD_RUSTC_WRAPPER",
            "CARGO_BUILD_RUSTFLAGS",
            "CARGO_BUILD_TARGET",
            "CARGO_ENCODED_RUSTFLAGS",
            "CARGO_PROFILE_RELEASE_OPT_LEVEL",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER",
            "RUSTC_BOOTSTRAP",
        ] {
            assert!(changes_builds(name), "{name}");
        }
        for name in ["CARGO_BUILD_JOBS", "CARGO_HOME", "PATH", "RUST_BACKTRACE", "CARGO_BUILD_BUILD_DIR"] {
            assert!(!changes_builds(name), "{name}");
        }
    }
}
