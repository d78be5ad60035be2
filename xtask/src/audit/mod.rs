//! The isolation audit: no domain holds unsafe code that the trusted set did not write (STYLE.md section 5).
//!
//! # How, on a stable compiler
//! `#![forbid(unsafe_code)]` refuses all `unsafe` that a crate spells out itself, and is silent about what another
//! crate's macro expands to. Reading expanded code needs a nightly compiler. So the audit closes the gap from the
//! other side and proves that there is no macro which could bring any in:
//!
//! 1. Each audited crate forbids unsafe code, unconditionally, has no build script, and its `main.rs` is nothing
//!    but the runtime's entry macro ([`source`]).
//! 2. All crates that its macros could come from are known: its whole dependency closure, macro crates and what
//!    they are made of included, is audited likewise or listed with a reason in `xtask/trusted.toml`
//!    ([`closure`], [`trusted`]).
//! 3. Being trusted is not enough for a macro: one that wraps its argument in an unsafe block would hand its caller
//!    unsafe powers. So domains may only invoke the macros, derives and attributes that `trusted.toml` names
//!    for each crate, and a fixed list of `core`'s own. This is checked on tokens, arguments of other macros
//!    included, so nothing hides from a parser ([`source`]). Names decide, so a name must be unambiguous: no other
//!    crate of the closure may export it unlisted ([`exports`]), and no `use .. as` may assume it.
//!
//! Code under `#[cfg(test)]` is not in an image and is left alone. What stays outside is unsoundness of rustc
//! itself and of the trusted set: docs/safety.md.

mod closure;
mod exports;
mod lines;
mod report;
mod source;
mod syntax;
#[cfg(test)]
mod tests;
mod trusted;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use cargo_metadata::{DependencyKind, Package, TargetKind};
use serde::Serialize;

use crate::ui::Step;
use crate::workspace::{Workspace, image_name, is_image};
use closure::Closures;
use exports::Exports;
use trusted::Trusted;

/// Folders whose packages are audited unless they are on the trusted list.
const AUDITED_FOLDERS: [&str; 8] =
    ["benches", "devices", "domains", "drivers", "examples", "libs", "posix-shim", "verification"];

/// Folders of what may run in production. Nothing in them may be built with a package of [`VERIFICATION`].
const PRODUCT_FOLDERS: [&str; 9] =
    ["domains", "drivers", "examples", "interfaces", "kernel", "libs", "posix-shim", "rref", "runtime"];

/// Folders of test programs, fixtures, test libraries, and their interfaces.
const VERIFICATION: [&str; 2] = ["verification", "interfaces/testing"];

/// Something that breaks isolation or might.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub(crate) struct Finding {
    /// File and line, or the file or package that lacks something.
    pub(crate) place: String,
    /// What is wrong with it.
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
    // Findings come first: what follows compiles, and broken code is no reason to keep them back.
    if !json {
        for finding in &audit.findings {
            println!("FINDING {finding}");
        }
    }
    let step = Step::start("counting what is linked");
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

/// What an audit looked at and what it found.
pub(crate) struct Audit {
    /// Names of the audited packages.
    pub(crate) audited: BTreeSet<String>,
    /// What each links and is built with.
    closures: Closures,
    trusted: Trusted,
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
}

/// Audits the workspace.
pub(crate) fn audit(workspace: &Workspace) -> Result<Audit> {
    let trusted = Trusted::read(&workspace.root.join("xtask/trusted.toml"))?;
    let mut findings = Vec::new();
    let subjects = subjects(workspace, &trusted, &mut findings);

    // Workspace crates that a domain uses and that nobody vouches for have to stand the audit as well.
    let mut audited: BTreeSet<String> = subjects.iter().map(|package| package.name.to_string()).collect();
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
    }
    findings.extend(contract_findings(workspace, &trusted));
    findings.extend(layer_findings(workspace));
    findings.sort();
    findings.dedup();
    Ok(Audit { audited, closures, trusted, findings })
}

/// The packages that must stand the audit because of where they lie.
fn subjects<'a>(
    workspace: &'a Workspace,
    trusted: &Trusted,
    findings: &mut Vec<Finding>,
) -> Vec<&'a Package> {
    let mut subjects = Vec::new();
    for package in workspace.metadata.workspace_packages() {
        let folder = workspace.folder(package);
        let inside = AUDITED_FOLDERS.iter().any(|audited| folder.starts_with(audited))
            || trusted.is_contract_folder(folder);
        if trusted.names(&package.name) {
            // The runtime lies among the domains and is trusted; a domain itself never is.
            if is_image(package) {
                let place = folder.join("Cargo.toml").display().to_string();
                findings.push(Finding::new(place, "a domain image cannot be on the trusted list"));
            }
        } else if inside || is_image(package) {
            subjects.push(package);
        }
    }
    subjects
}

/// Contract crates that are built with more than the mechanism and other contracts. They are linked into the kernel, which
/// must not grow by way of an interface.
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

/// Packages of the product that are built with verification code. Development dependencies are no part of a build, nor are
/// optional ones that no default feature turns on: the kernels take interfaces of tests by a feature.
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

/// What is wrong with a package before a line of it is read.
fn shape_findings(workspace: &Workspace, package: &Package) -> Vec<Finding> {
    let folder = workspace.folder(package);
    let place = folder.join("Cargo.toml").display().to_string();
    let own_name = image_name(folder).unwrap_or_default();
    let mut findings = Vec::new();
    let mut finding = |what: String| findings.push(Finding::new(place.clone(), what));
    let mut has_library = false;
    for target in &package.targets {
        let path = target.src_path.as_std_path();
        let expected = |file: &str| path == workspace.root.join(folder).join("src").join(file);
        if target.is_kind(TargetKind::CustomBuild) {
            finding("has a build script, which can write code that nobody reads".into());
        } else if target.is_kind(TargetKind::ProcMacro) {
            finding("is a macro crate: what it expands to is only as safe as it is trusted".into());
        } else if target.is_bin() {
            if !is_image(package) || target.name != own_name || !expected("main.rs") {
                finding(format!("has a binary \"{}\" other than an image's src/main.rs", target.name));
            }
        } else if target.is_lib() {
            has_library = true;
            if !expected("lib.rs") {
                finding("keeps its library elsewhere than in src/lib.rs".into());
            }
        }
    }
    if !has_library {
        finding("has no library: a domain's code lives in src/lib.rs".into());
    }
    findings
}
