//! Checks of the files that steer cargo: manifests, and cargo's configuration.
//!
//! Each of them could change what the compiler is told or which files it reads. The audit reads the files
//! themselves where cargo's own description leaves a setting out. The command lines that the compiler did
//! receive are checked as well ([`super::units`]); the findings here name the setting instead of its effect.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::Package;
use toml::{Table, Value};

use super::Finding;
use crate::workspace::Workspace;

/// Settings of a profile that select neither flags nor crates.
const PROFILE: [&str; 11] = [
    "codegen-units",
    "debug",
    "debug-assertions",
    "incremental",
    "inherits",
    "lto",
    "opt-level",
    "overflow-checks",
    "panic",
    "split-debuginfo",
    "strip",
];

/// Tables of an audited package's manifest. Build dependencies serve a build script, which it does not have.
const TABLES: [&str; 11] = [
    "badges",
    "bench",
    "bin",
    "dependencies",
    "dev-dependencies",
    "example",
    "features",
    "lib",
    "lints",
    "package",
    "target",
];

/// Keys of `[package]` that change the compiler's input or flags.
const PACKAGE: [&str; 6] = ["build", "default-target", "forced-target", "im-a-teapot", "links", "metabuild"];

/// Keys of a target's table that change its kind or flags.
const TARGET: [&str; 5] = ["crate-type", "crate_type", "plugin", "proc-macro", "edition"];

/// Keys of a dependency that take it from elsewhere than the workspace or the registry.
const DEPENDENCY: [&str; 9] =
    ["artifact", "base", "branch", "git", "registry", "registry-index", "rev", "tag", "target"];

/// Folders of the checkout that hold output.
const OUTPUT: [&str; 2] = [".git", "target"];

/// Checks the root manifest, cargo's configuration in the checkout, and the manifest of each audited package.
pub(crate) fn audit(workspace: &Workspace, audited: &[&Package]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let root = read(&workspace.root.join("Cargo.toml"))?;
    root_findings(&root, &mut findings);
    config_findings(workspace, &mut findings)?;
    let edition = ["workspace", "package", "edition"].iter().try_fold(None, |table: Option<&Value>, key| {
        table.map_or_else(|| root.get(*key), |table| table.get(*key)).map(Some)
    });
    let edition = edition.flatten().and_then(Value::as_str);
    for package in audited {
        let place = workspace.folder(package).join("Cargo.toml").display().to_string();
        let manifest = read(package.manifest_path.as_std_path())?;
        package_findings(&manifest, &place, &mut findings);
        let own = package.edition.as_str();
        if edition.is_some_and(|edition| edition != own) {
            findings.push(Finding::new(&place, format!("is of edition {own}, unlike the workspace")));
        }
    }
    Ok(findings)
}

fn read(path: &Path) -> Result<Table> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("in {}", path.display()))
}

fn root_findings(manifest: &Table, findings: &mut Vec<Finding>) {
    let mut finding = |what: String| findings.push(Finding::new("Cargo.toml", what));
    for key in ["cargo-features", "patch", "replace"] {
        if manifest.contains_key(key) {
            finding(format!("has `{key}`, which replaces crates or adds unstable settings"));
        }
    }
    for (profile, settings) in tables(manifest.get("profile")) {
        for key in settings.keys().filter(|key| !PROFILE.contains(&key.as_str())) {
            finding(format!("the profile {profile} sets `{key}`, which the audit does not know"));
        }
    }
    let workspace = manifest.get("workspace").and_then(|workspace| workspace.get("lints"));
    for lints in [workspace, manifest.get("lints")].into_iter().flatten() {
        lint_findings(lints, "Cargo.toml", findings);
    }
}

/// Finds levels of the lint `unsafe_code` that permit it. The command line forbids it in spite of them, but
/// an author who writes one has a plan.
fn lint_findings(lints: &Value, place: &str, findings: &mut Vec<Finding>) {
    for (_, lints) in tables(Some(lints)) {
        let Some(level) = lints.get("unsafe_code") else { continue };
        let level = level.get("level").unwrap_or(level).as_str().unwrap_or_default();
        if !["deny", "forbid"].contains(&level) {
            findings.push(Finding::new(place, format!("sets the lint unsafe_code to \"{level}\"")));
        }
    }
}

fn package_findings(manifest: &Table, place: &str, findings: &mut Vec<Finding>) {
    let mut finding = |what: String| findings.push(Finding::new(place, what));
    for key in manifest.keys().filter(|key| !TABLES.contains(&key.as_str()) && *key != "test") {
        finding(format!("has `{key}`, which no audited package needs"));
    }
    let package = manifest.get("package").and_then(Value::as_table).into_iter().flat_map(Table::iter);
    for (key, value) in package {
        if PACKAGE.contains(&key.as_str()) && value.as_bool() != Some(false) {
            finding(format!("sets `package.{key}`"));
        }
    }
    let library = manifest.get("lib").into_iter();
    let binaries = manifest.get("bin").and_then(Value::as_array).into_iter().flatten();
    for target in library.chain(binaries).filter_map(Value::as_table) {
        for key in target.keys().filter(|key| TARGET.contains(&key.as_str())) {
            finding(format!("sets `{key}` of a target"));
        }
    }
    let platforms = tables(manifest.get("target")).map(|(_, platform)| platform);
    for table in platforms.chain([manifest]) {
        if table.contains_key("build-dependencies") && !std::ptr::eq(table, manifest) {
            finding("has `build-dependencies`, which no audited package needs".to_owned());
        }
        for (name, dependency) in tables(table.get("dependencies")) {
            for key in dependency.keys().filter(|key| DEPENDENCY.contains(&key.as_str())) {
                finding(format!("sets `{key}` of the dependency {name}"));
            }
        }
    }
    if let Some(lints) = manifest.get("lints") {
        lint_findings(lints, place, findings);
    }
}

/// The entries of a table that are tables themselves.
fn tables(table: Option<&Value>) -> impl Iterator<Item = (&String, &Table)> {
    let entries = table.and_then(Value::as_table).into_iter().flat_map(Table::iter);
    entries.filter_map(|(key, value)| Some((key, value.as_table()?)))
}

/// Checks cargo's configuration and the choice of the toolchain in the checkout. Configuration of the
/// developer's own, above the checkout and in the home folder, is not the author's of a domain; its effect on
/// a command line is checked there.
fn config_findings(workspace: &Workspace, findings: &mut Vec<Finding>) -> Result<()> {
    let mut open = vec![workspace.root.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name == ".cargo" {
                configuration(workspace, &path, findings)?;
            } else if name == "rust-toolchain" || name == "rust-toolchain.toml" {
                let place = relative(workspace, &path);
                findings.push(Finding::new(place, "chooses a compiler, which the developer's machine does"));
            } else if path.is_dir() && !path.is_symlink() && !OUTPUT.contains(&name.as_str()) {
                open.push(path);
            }
        }
    }
    Ok(())
}

/// Checks one folder `.cargo`. The root's may define aliases and nothing else.
fn configuration(workspace: &Workspace, folder: &Path, findings: &mut Vec<Finding>) -> Result<()> {
    for path in ["config", "config.toml"].map(|name| folder.join(name)) {
        if !path.exists() {
            continue;
        }
        let place = relative(workspace, &path);
        if folder.parent() != Some(&workspace.root) {
            findings.push(Finding::new(place, "configures cargo below the workspace's root"));
            continue;
        }
        for key in read(&path)?.keys().filter(|key| *key != "alias") {
            findings.push(Finding::new(&place, format!("configures `{key}`, which changes the builds")));
        }
    }
    Ok(())
}

fn relative(workspace: &Workspace, path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(&workspace.root).unwrap_or(path).to_owned();
    path.display().to_string()
}
