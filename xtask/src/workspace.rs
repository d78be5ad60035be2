//! The workspace as cargo describes it: packages, domain images, systems.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_metadata::{CargoOpt, Metadata, MetadataCommand, Package};

use crate::error::Usage;
use crate::{image, kernel};

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
}

/// A package that is built as a domain image.
pub(crate) struct ImagePackage {
    /// Folder, binary and image name.
    pub(crate) name: String,
    /// The cargo package.
    pub(crate) package: String,
}

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
        Ok(Self { metadata, root, target, built: Default::default(), executables: Default::default() })
    }

    /// A cargo command at the root. It does not inherit the caller's `RUSTFLAGS`: they would reach only one
    /// of kernel and images, which have to match, and might enable registers that the kernel does not save.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let mut command = self.scrub(command);
        command.current_dir(&self.root).arg(subcommand);
        command
    }

    /// Removes the caller's settings that change the builds of a cargo in the command.
    pub(crate) fn scrub(&self, mut command: Command) -> Command {
        command
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_ENCODED_RUSTFLAGS", "")
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_BUILD_TARGET");
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

    /// All packages marked `[package.metadata.coppice] image = true`, by image name.
    pub(crate) fn images(&self) -> Result<BTreeMap<String, ImagePackage>> {
        let mut images: BTreeMap<String, ImagePackage> = BTreeMap::new();
        for package in self.metadata.workspace_packages() {
            if !is_image(package) {
                continue;
            }
            let folder = self.folder(package);
            let name = image_name(folder).context("an image package lies in a folder of its own")?;
            if !package.targets.iter().any(|target| target.is_bin() && target.name == name) {
                bail!(
                    "{}/Cargo.toml says `image = true`, but has no [[bin]] named \"{name}\" after its folder",
                    folder.display()
                );
            }
            let image = ImagePackage { name: name.clone(), package: package.name.to_string() };
            if let Some(other) = images.insert(name, image) {
                bail!("{} and {} both build an image \"{}\"", other.package, package.name, other.name);
            }
        }
        Ok(images)
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

/// The name of the image of the package in `folder`: the folder's name. A benchmark is named after its
/// subject, which may be a domain, so its image is named `bench-NAME`.
pub(crate) fn image_name(folder: &Path) -> Option<String> {
    let prefix = if folder.starts_with("benches") { "bench-" } else { "" };
    Some(format!("{prefix}{}", folder.file_name()?.to_string_lossy()))
}

/// Returns true if a package's metadata declares a domain image.
pub(crate) fn is_image(package: &Package) -> bool {
    package.metadata.pointer("/coppice/image").and_then(|value| value.as_bool()).unwrap_or(false)
}

/// The program called `name` on the search path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|candidate| candidate.is_file())
}
