//! The isolation audit: no domain holds unsafe code that the trusted set did not write (STYLE.md section 5).
//!
//! # Method
//! Three views have to agree; docs/safety.md has the rules in full, and decision 026 the reasons.
//!
//! 1. *The packages*: each crate that takes part in building an audited package is audited too, or listed in
//!    `xtask/trusted.toml` by folder, or by version and checksum, with its features ([`closure`],
//!    [`trusted`]). No manifest or configuration steers the compiler past the audit
//!    ([`manifest`]).
//! 2. *The source*: `#![forbid(unsafe_code)]` is silent about code that another crate's macro expands to, and
//!    reading expanded code needs a nightly compiler. So the audit proves that no macro in reach could expand
//!    to unsafe code: domains invoke only the macros, derives and attributes that `trusted.toml` names for
//!    each crate, and a fixed list of `core`'s own. A macro that wraps its argument in an unsafe block would
//!    hand unsafe powers to its caller. This is checked on tokens, arguments of other macros included, so it
//!    does not depend on a parser's view of macros ([`source`]). The check goes by name, so a name must be
//!    unambiguous: no other crate of the closure may export it unlisted ([`exports`]), no `use .. as` may
//!    assume it, and a package's own macros vouch for nothing else. Shapes of known holes of rustc are
//!    refused ([`holes`]).
//! 3. *The compiler's view*: records of the real build say that rustc forbade unsafe code, what else it was
//!    told, and that it read the files that the audit read ([`units`]). Object code has no symbols but Rust's
//!    ([`objects`]).
//!
//! Code under `#[cfg(test)]` is not in an image and is not audited. Unsoundness of rustc and of the trusted
//! set is outside the audit's reach: docs/safety.md.

mod closure;
mod constructors;
mod contracts;
mod exports;
mod holes;
mod lines;
mod manifest;
mod objects;
mod redirect;
mod report;
mod source;
mod syntax;
#[cfg(test)]
mod tests;
mod trusted;
mod units;
pub(crate) mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, Package, TargetKind};
use serde::Serialize;

use crate::machine::Kind;
use crate::ui::Step;
use crate::workspace::{Workspace, is_image, misnamed};
use crate::{image, kernel, wrapper};
use closure::Closures;
use exports::Exports;
use trusted::Trusted;

/// Folders whose packages are audited unless they are on the trusted list.
const AUDITED_FOLDERS: [&str; 8] =
    ["benches", "devices", "domains", "drivers", "examples", "libs", "posix-shim", "verification"];

/// Folders of code that may run in production. Their packages may not be built with a package of
/// [`VERIFICATION`].
const PRODUCT_FOLDERS: [&str; 9] =
    ["domains", "drivers", "examples", "interfaces", "kernel", "libs", "posix-shim", "rref", "runtime"];

/// Folders of test programs, fixtures, test libraries, and their interfaces.
const VERIFICATION: [&str; 2] = ["verification", "interfaces/testing"];

/// A break of isolation, or a possible one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(crate) struct Finding {
    /// File and line, or the file or package that lacks something.
    pub(crate) place: String,
    /// The defect.
    pub(crate) what: String,
}

impl Finding {
    fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// Audits the workspace, prints findings and the trusted set, and fails if there are findings.
pub(crate) fn run(workspace: &Workspace, json: bool) -> Result<()> {
    let step = Step::start("auditing isolation");
    let mut audit = audit(workspace)?;
    step.done(&format!("{} packages, {} findings", audit.audited.len(), audit.findings.len()));
    let show = |findings: &[Finding]| {
        for finding in findings.iter().filter(|_| !json) {
            println!("FINDING {finding}");
        }
    };
    // A source that is refused already is not worth a build.
    let built = match audit.findings.as_slice() {
        [] => audit_builds(workspace, &mut audit)?,
        _ => units::Built::default(),
    };
    show(&audit.findings);
    let step = Step::start("counting linked code");
    let summary = report::Summary::new(workspace, &audit, built)?;
    step.done("");
    if json {
        println!("{}", serde_json::to_string_pretty(&summary)?);
    } else {
        print!("{summary}");
    }
    if !audit.findings.is_empty() {
        bail!("the isolation audit has {} findings", audit.findings.len());
    }
    Ok(())
}

/// The result of an audit.
pub(crate) struct Audit {
    /// Names of the audited packages.
    pub(crate) audited: BTreeSet<String>,
    /// The crates that each audited package links and is built with.
    closures: Closures,
    trusted: Trusted,
    /// By confined crate and version: its lines with unsafe code, known after the build.
    confined: BTreeMap<String, Vec<String>>,
    /// All defects found, sorted.
    pub(crate) findings: Vec<Finding>,
}

/// Audits the workspace.
pub(crate) fn audit(workspace: &Workspace) -> Result<Audit> {
    let trusted = Trusted::read(workspace)?;
    let mut findings = Vec::new();
    let by_folder = packages_in_audited_folders(workspace, &trusted, &mut findings);

    // Workspace crates that a domain uses and that the trusted list does not name have to pass the audit as
    // well.
    let mut audited: BTreeSet<String> = by_folder.iter().map(|package| package.name.to_string()).collect();
    let mut closures = Closures::read(workspace, &audited)?;
    let known = audited.len();
    for package in closures.everything() {
        if closures.is_member(package) && trusted.entry(package).is_none() {
            audited.insert(package.name.to_string());
        }
    }
    if audited.len() > known {
        closures = Closures::read(workspace, &audited)?;
    }

    trusted.check_against(&closures, &audited, &mut findings);
    let exports = Exports::read(&closures)?;
    trusted.check_macros(&closures, &exports, &mut findings);
    // A name that vouches for a macro in one package is reserved in all: packages re-export to each other.
    let members = closures.everything().filter(|package| closures.is_member(package));
    let own: BTreeSet<String> = members
        .filter(|package| audited.contains(package.name.as_str()))
        .flat_map(|package| exports.of(package).map(str::to_owned))
        .collect();
    for name in &audited {
        let package = workspace.member(name).expect("only members are audited");
        let permitted = trusted.permitted(name, &closures, &audited, &exports, &own, &mut findings);
        findings.extend(shape_findings(workspace, package));
        findings.extend(source::audit(workspace, package, &permitted)?);
        findings.extend(redirect::findings(workspace, package)?);
        findings.extend(contracts::findings(workspace, &trusted, package)?);
    }
    findings.extend(redirect::shared_names(&closures));
    findings.extend(contracts::unnamed(workspace, &trusted));
    findings.extend(constructors::findings(workspace, &trusted, &closures)?);
    let packages: Vec<&Package> = audited.iter().filter_map(|name| workspace.member(name)).collect();
    findings.extend(manifest::audit(workspace, &packages)?);
    findings.extend(contract_findings(workspace, &trusted));
    findings.extend(layer_findings(workspace));
    findings.sort();
    findings.dedup();
    Ok(Audit { audited, closures, trusted, confined: BTreeMap::new(), findings })
}

/// Builds all that is audited, and adds the findings of these builds.
pub(crate) fn audit_builds(workspace: &Workspace, audit: &mut Audit) -> Result<units::Built> {
    let plan = wrapper::plan(workspace)?;
    let step = Step::start("auditing the builds");
    let images = workspace.images()?;
    let mut builds = Vec::new();
    if !images.is_empty() {
        builds.push(image::cargo(workspace, "build", &images));
    }
    // The models of devices are linked into the hosted kernel and into the host of devices.
    for kind in [Kind::Bare, Kind::Hosted] {
        if workspace.member(kernel::package(kind)).is_some() {
            builds.push(kernel::cargo(workspace, "build", kind, kernel::Flavor::Testing)?);
        }
    }
    if workspace.member(kernel::DEVICE_HOST).is_some() {
        builds.push(kernel::device_host(workspace));
    }
    let before = audit.findings.len();
    let built = units::audit_builds(workspace, plan, builds, audit, &step)?;
    step.done(&format!("{} crates, {} more findings", built.files.len(), audit.findings.len() - before));
    Ok(built)
}

/// The folders of the workspace's packages that may hold unsafe code.
pub(crate) fn trusted_folders(workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let trusted = Trusted::read(workspace)?;
    let listed = |package: &Package| trusted.lists_path(&workspace.root.join(workspace.folder(package)));
    let packages = workspace.metadata.workspace_packages();
    let mut open: Vec<&Package> = packages.clone();
    open.retain(|package| is_audited_folder(workspace.folder(package), &trusted) || is_image(package));
    let mut audited = BTreeSet::new();
    while let Some(package) = open.pop() {
        if listed(package) || !audited.insert(workspace.folder(package)) {
            continue;
        }
        // What an audited package is built with is audited too, unless it is listed.
        for dependency in &package.dependencies {
            let is_built = dependency.kind != DependencyKind::Development && !dependency.optional;
            let Some(path) = dependency.path.as_ref().filter(|_| is_built) else { continue };
            let is_it =
                |other: &&&Package| workspace.root.join(workspace.folder(other)) == path.as_std_path();
            open.extend(packages.iter().find(is_it));
        }
    }
    let folders = packages.into_iter().map(|package| workspace.folder(package));
    Ok(folders.filter(|folder| !audited.contains(folder)).map(Path::to_owned).collect())
}

/// Returns true if the packages in `folder` are audited unless they are listed.
fn is_audited_folder(folder: &Path, trusted: &Trusted) -> bool {
    AUDITED_FOLDERS.iter().any(|parent| folder.starts_with(parent)) || trusted.is_contract_folder(folder)
}

/// The packages that are audited because of their folder.
fn packages_in_audited_folders<'a>(
    workspace: &'a Workspace,
    trusted: &Trusted,
    findings: &mut Vec<Finding>,
) -> Vec<&'a Package> {
    let mut audited = Vec::new();
    for package in workspace.metadata.workspace_packages() {
        let folder = workspace.folder(package);
        let inside = is_audited_folder(folder, trusted);
        if trusted.entry(package).is_some() {
            // The runtime lies among the domains and is trusted; a domain itself never is.
            if is_image(package) {
                let place = folder.join("Cargo.toml").display().to_string();
                findings.push(Finding::new(place, "a domain image cannot be on the trusted list"));
            }
        } else if inside || is_image(package) {
            audited.push(package);
        }
    }
    audited
}

/// Returns a finding for each contract crate that depends on more than the mechanism and other contracts.
/// Contracts are linked into the kernel, which must not grow by way of an interface.
fn contract_findings(workspace: &Workspace, trusted: &Trusted) -> Vec<Finding> {
    let is_contract = |path: &Path| {
        let folder = path.strip_prefix(&workspace.root).unwrap_or(path);
        trusted.is_contract_folder(folder) && !trusted.lists_path(path)
    };
    let mut findings = Vec::new();
    for package in workspace.metadata.workspace_packages() {
        if !is_contract(&workspace.root.join(workspace.folder(package))) {
            continue;
        }
        let dependencies = package.dependencies.iter();
        for dependency in dependencies.filter(|dependency| dependency.kind != DependencyKind::Development) {
            let is_fit = match &dependency.path {
                Some(path) => trusted.lists_path(path.as_std_path()) || is_contract(path.as_std_path()),
                // Version and checksum of a crate of the registry are checked with the closures.
                None => trusted.names(&dependency.name),
            };
            if !is_fit {
                let place = workspace.folder(package).join("Cargo.toml").display().to_string();
                let what = format!(
                    "is a contract, but depends on {}, which is neither trusted nor one",
                    dependency.name
                );
                findings.push(Finding::new(place, what));
            }
        }
    }
    findings
}

/// Returns a finding for each product package that is built with verification code. Development dependencies
/// are no part of a build, nor are optional ones that no default feature enables: the kernels take the tests'
/// interfaces by a feature.
fn layer_findings(workspace: &Workspace) -> Vec<Finding> {
    let verification = VERIFICATION.map(|folder| workspace.root.join(folder));
    let is_verification = |path: &Path| verification.iter().any(|folder| path.starts_with(folder));
    let mut findings = Vec::new();
    for package in workspace.metadata.workspace_packages() {
        let folder = workspace.folder(package);
        let is_product = PRODUCT_FOLDERS.iter().any(|product| folder.starts_with(product));
        if !is_product || is_verification(&workspace.root.join(folder)) {
            continue;
        }
        for dependency in &package.dependencies {
            let is_below = dependency.path.as_ref().is_some_and(|path| is_verification(path.as_std_path()));
            let is_off = dependency.kind == DependencyKind::Development
                || dependency.optional && !package.features.contains_key("default");
            if is_below && !is_off {
                let place = folder.join("Cargo.toml").display().to_string();
                let what = format!("depends on {}, which is verification code", dependency.name);
                findings.push(Finding::new(place, what));
            }
        }
    }
    findings
}

/// Checks a package's manifest and layout, before its source is read.
fn shape_findings(workspace: &Workspace, package: &Package) -> Vec<Finding> {
    let folder = workspace.folder(package);
    let place = folder.join("Cargo.toml").display().to_string();
    let mut findings = Vec::new();
    let mut finding = |what: String| findings.push(Finding::new(place.clone(), what));
    let mut has_library = false;
    for target in &package.targets {
        if target.is_kind(TargetKind::CustomBuild) {
            finding("has a build script, which can generate code that the audit does not see".into());
        } else if target.is_kind(TargetKind::ProcMacro) {
            finding("is a macro crate: its expansions are only as safe as it is trusted".into());
        } else if target.is_bin() {
            if !is_image(package) {
                finding(format!("has a binary \"{}\", but does not say `image = true`", target.name));
            } else if workspace.image_name(package, target).as_ref() != Some(&target.name) {
                finding(misnamed(target));
            }
        } else if target.is_lib() {
            has_library = true;
            if target.src_path.as_std_path() != workspace.root.join(folder).join("src/lib.rs") {
                finding("its library is not in src/lib.rs".into());
            }
        }
    }
    if !has_library {
        finding("has no library: a domain's code lives in src/lib.rs".into());
    }
    findings
}
