//! The isolation audit: no domain holds unsafe code that the trusted set did not write (STYLE.md section 5).
//!
//! # Method on a stable compiler
//! `#![forbid(unsafe_code)]` refuses all `unsafe` in a crate's own text, but is silent about code that
//! another crate's macro expands to. Reading expanded code needs a nightly compiler. So the audit works from
//! the other side and proves that no macro in reach could expand to unsafe code:
//!
//! 1. Each audited crate forbids unsafe code unconditionally, has no build script, and each of its binaries
//!    consists of the runtime's entry macro alone ([`source`]).
//! 2. All crates that its macros could come from are known: each crate of its dependency closure, macro
//!    crates and their dependencies included, is audited too or listed with a reason in `xtask/trusted.toml`
//!    ([`closure`], [`trusted`]).
//! 3. Trust in a macro's crate is not enough: a macro that wraps its argument in an unsafe block would hand
//!    unsafe powers to its caller. So domains may only invoke the macros, derives and attributes that
//!    `trusted.toml` names for each crate, and a fixed list of `core`'s own. This is checked on tokens,
//!    arguments of other macros included, so the check does not depend on a parser's view of macros
//!    ([`source`]). The check goes by name, so a name must be unambiguous: no other crate of the closure may
//!    export it unlisted ([`exports`]), and no `use .. as` may assume it.
//!
//! Code under `#[cfg(test)]` is not in an image and is not audited. Unsoundness of rustc and of the trusted
//! set is outside the audit's reach: docs/safety.md.

mod closure;
mod constructors;
mod contracts;
mod exports;
mod lines;
mod redirect;
mod report;
mod source;
mod syntax;
#[cfg(test)]
mod tests;
mod trusted;
pub(crate) mod verdict;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, Package, TargetKind};
use serde::Serialize;

use crate::ui::Step;
use crate::workspace::{Workspace, is_image, misnamed};
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
    let audit = audit(workspace)?;
    step.done(&format!("{} packages, {} findings", audit.audited.len(), audit.findings.len()));
    // Findings come first: the next step compiles, and broken code must not hide them.
    if !json {
        for finding in &audit.findings {
            println!("FINDING {finding}");
        }
    }
    let step = Step::start("counting linked code");
    let summary = report::Summary::new(workspace, &audit, &step)?;
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
    /// All defects found, sorted.
    pub(crate) findings: Vec<Finding>,
}

/// Audits the workspace.
pub(crate) fn audit(workspace: &Workspace) -> Result<Audit> {
    let trusted = Trusted::read(&workspace.root.join("xtask/trusted.toml"))?;
    let mut findings = Vec::new();
    let by_folder = packages_in_audited_folders(workspace, &trusted, &mut findings);

    // Workspace crates that a domain uses and that the trusted list does not name have to pass the audit as
    // well.
    let mut audited: BTreeSet<String> = by_folder.iter().map(|package| package.name.to_string()).collect();
    let mut closures = Closures::read(workspace, &audited)?;
    let known = audited.len();
    for package in closures.everything() {
        if workspace.member(&package.name).is_some() && !trusted.names(&package.name) {
            audited.insert(package.name.to_string());
        }
    }
    if audited.len() > known {
        closures = Closures::read(workspace, &audited)?;
    }

    trusted.check_against(&closures, &audited, &mut findings);
    let exports = Exports::read(&closures)?;
    trusted.check_macros(&exports, &mut findings);
    for name in &audited {
        let package = workspace.member(name).expect("only members are audited");
        let permitted = trusted.permitted(name, &closures, &audited, &exports, &mut findings);
        findings.extend(shape_findings(workspace, package));
        findings.extend(source::audit(workspace, package, &permitted)?);
        findings.extend(redirect::findings(workspace, package)?);
        findings.extend(contracts::findings(workspace, &trusted, package)?);
    }
    findings.extend(redirect::shared_names(&closures));
    findings.extend(contracts::unnamed(workspace, &trusted));
    findings.extend(constructors::findings(workspace, &trusted, &closures)?);
    findings.extend(contract_findings(workspace, &trusted));
    findings.extend(layer_findings(workspace));
    findings.sort();
    findings.dedup();
    Ok(Audit { audited, closures, trusted, findings })
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
        let inside = AUDITED_FOLDERS.iter().any(|parent| folder.starts_with(parent))
            || trusted.is_contract_folder(folder);
        if trusted.names(&package.name) {
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
    let is_contract = |name: &str| {
        let member = workspace.member(name);
        member.is_some_and(|member| trusted.is_contract_folder(workspace.folder(member)))
    };
    let mut findings = Vec::new();
    for package in workspace.metadata.workspace_packages() {
        if trusted.names(&package.name) || !is_contract(&package.name) {
            continue;
        }
        let dependencies = package.dependencies.iter();
        for dependency in dependencies.filter(|dependency| dependency.kind != DependencyKind::Development) {
            if !trusted.names(&dependency.name) && !is_contract(&dependency.name) {
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
