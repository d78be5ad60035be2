//! `xtask/trusted.toml`: the crates that domains depend on without an audit, each with a reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use cargo_metadata::semver::Version;
use cargo_metadata::{Package, Target};
use serde::Deserialize;

use super::Finding;
use super::closure::{Closures, REGISTRY};
use super::exports::Exports;
use super::source::{BUILT_IN, Permitted};
use crate::workspace::Workspace;

/// The file that findings about the list point at.
pub(crate) const PLACE: &str = "xtask/trusted.toml";

/// The list, and the checksums of the workspace's lock file.
#[derive(Debug)]
pub(crate) struct Trusted {
    crates: Vec<Entry>,
    contracts: Option<Contracts>,
    /// The root of the workspace, against which the entries' paths are resolved.
    root: PathBuf,
    lock: Lock,
}

/// The list as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default, rename = "crate")]
    crates: Vec<Entry>,
    #[serde(default)]
    confined: Vec<Entry>,
    contracts: Option<Contracts>,
}

/// The class of contract crates: audited like domains, and linked into the kernel.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contracts {
    /// The folder that holds them, except for crates in it that are trusted by name.
    folder: PathBuf,
    /// The names of the packages: a new contract is noticed.
    crates: BTreeSet<String>,
    /// One sentence: the reason why they may be linked into the kernel.
    #[expect(dead_code, reason = "read by people")]
    reason: String,
}

/// One listed crate, identified by its folder in the workspace, or by its version and checksum in the
/// registry.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Package name.
    pub(crate) name: String,
    /// The folder of a crate of the workspace.
    path: Option<PathBuf>,
    /// The version of a crate of the registry.
    version: Option<Version>,
    /// The checksum of that version, as in `Cargo.lock`.
    checksum: Option<String>,
    /// The features that the crate is built with, no more and no fewer.
    #[serde(default)]
    features: BTreeSet<String>,
    /// For a trusted crate, one sentence: why it is needed, and why it can be trusted. For a confined crate,
    /// one sentence: the code that was reviewed.
    pub(crate) reason: String,
    /// Its macros, derives and attributes that domains may use.
    #[serde(default)]
    macros: BTreeSet<String>,
    /// Its macros, derives and attributes that define what crosses: only contract crates may use them.
    #[serde(default)]
    contract_macros: BTreeSet<String>,
    /// True if no audited package may depend on it directly.
    #[serde(default)]
    internal: bool,
    /// The only packages that may be built with it; empty if all may.
    #[serde(default)]
    users: BTreeSet<String>,
    /// The number of lines with the word `unsafe` in the code of a confined crate.
    pub(crate) unsafe_lines: Option<usize>,
    /// True if a confined crate has a build script, which was reviewed too.
    #[serde(default)]
    build_script: bool,
}

impl Entry {
    /// Returns true if the crate is confined: its unsafe code was reviewed line by line.
    pub(crate) fn is_confined(&self) -> bool {
        self.unsafe_lines.is_some()
    }

    fn identity(&self) -> String {
        match (&self.path, &self.version) {
            (Some(path), _) => format!("{} in {}", self.name, path.display()),
            (None, Some(version)) => format!("{} {version}", self.name),
            (None, None) => self.name.clone(),
        }
    }

    /// Returns an error unless the entry has the fields of its class and names one crate.
    fn check(&self, confined: bool) -> Result<()> {
        let identity = self.identity();
        match (&self.path, &self.version, &self.checksum) {
            (Some(_), None, None) => ensure!(!confined, "{identity} is confined, but not from the registry"),
            (None, Some(_), Some(_)) => {}
            _ => anyhow::bail!("{identity} needs either a path, or a version and a checksum"),
        }
        ensure!(
            self.unsafe_lines.is_some() == confined,
            "{identity} {} unsafe_lines",
            if confined { "is confined, and needs" } else { "is not confined, and has no" }
        );
        Ok(())
    }
}

/// The checksums of a lock file, by name and version.
#[derive(Debug, Default)]
struct Lock(BTreeMap<(String, Version), String>);

impl Lock {
    /// Reads a lock file. Only crates of the registry count.
    fn read(path: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct File {
            #[serde(default)]
            package: Vec<Locked>,
        }
        #[derive(Deserialize)]
        struct Locked {
            name: String,
            version: Version,
            source: Option<String>,
            checksum: Option<String>,
        }
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let file: File = toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        let mut checksums = BTreeMap::new();
        for package in file.package {
            if let (Some(REGISTRY), Some(checksum)) = (package.source.as_deref(), package.checksum) {
                checksums.insert((package.name, package.version), checksum);
            }
        }
        Ok(Self(checksums))
    }

    fn checksum(&self, package: &Package) -> Option<&str> {
        self.0.get(&(package.name.to_string(), package.version.clone())).map(String::as_str)
    }
}

impl Trusted {
    /// Reads the list of a workspace.
    pub(crate) fn read(workspace: &Workspace) -> Result<Self> {
        let path = workspace.root.join(PLACE);
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let list = Self::parse(&text).with_context(|| format!("in {PLACE}"))?;
        let lock = Lock::read(&workspace.root.join("Cargo.lock"))?;
        let crates = list.crates.into_iter().chain(list.confined).collect();
        Ok(Self { crates, contracts: list.contracts, root: workspace.root.clone(), lock })
    }

    fn parse(text: &str) -> Result<List> {
        // The parser's message shows the line and points at the column.
        let list: List = toml::from_str(text).map_err(|error| anyhow!("{error}"))?;
        for entry in &list.crates {
            entry.check(false)?;
        }
        for entry in &list.confined {
            entry.check(true)?;
        }
        Ok(list)
    }

    /// Returns true if packages in `folder` are contract crates, unless they are trusted.
    pub(crate) fn is_contract_folder(&self, folder: &Path) -> bool {
        self.contracts.as_ref().is_some_and(|contracts| folder.starts_with(&contracts.folder))
    }

    /// The packages that are listed as contract crates.
    pub(crate) fn contract_names(&self) -> impl Iterator<Item = &str> {
        self.contracts.iter().flat_map(|contracts| &contracts.crates).map(String::as_str)
    }

    /// Returns true if the package of that name is listed as a contract crate.
    pub(crate) fn is_contract(&self, name: &str) -> bool {
        self.contract_names().any(|contract| contract == name)
    }

    /// The macros that only contract crates may use.
    pub(crate) fn contract_macros(&self) -> impl Iterator<Item = &str> {
        self.crates.iter().flat_map(|entry| &entry.contract_macros).map(String::as_str)
    }

    /// Returns true if no audited package may depend on that crate directly.
    pub(crate) fn is_internal(&self, name: &str) -> bool {
        self.crates.iter().any(|entry| entry.internal && entry.name == name)
    }

    /// The entry for a package: of its folder, if it is in the workspace, or of its name and version, if it
    /// is of the registry.
    pub(crate) fn entry(&self, package: &Package) -> Option<&Entry> {
        let entries = self.crates.iter().filter(|entry| *package.name == entry.name);
        match package.source.as_ref().map(|source| source.repr.as_str()) {
            None => {
                let folder = package.manifest_path.parent()?;
                entries.into_iter().find(|entry| {
                    entry.path.as_ref().is_some_and(|path| self.root.join(path) == folder.as_std_path())
                })
            }
            Some(REGISTRY) => {
                entries.into_iter().find(|entry| entry.version.as_ref() == Some(&package.version))
            }
            Some(_) => None,
        }
    }

    /// Returns true if some version of a crate of the registry is trusted, and not only confined.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.crates.iter().any(|entry| entry.path.is_none() && entry.name == name && !entry.is_confined())
    }

    /// Returns true if the crate in a folder is listed.
    pub(crate) fn lists_path(&self, path: &Path) -> bool {
        self.crates.iter().any(|entry| entry.path.as_ref().is_some_and(|own| self.root.join(own) == path))
    }

    /// Checks that every crate of the closures is audited, or listed by its identity, and that every entry
    /// names a crate of the closures.
    pub(crate) fn check_against(
        &self,
        closures: &Closures,
        audited: &BTreeSet<String>,
        findings: &mut Vec<Finding>,
    ) {
        for package in closures.everything() {
            if closures.is_member(package) && audited.contains(package.name.as_str()) {
                continue;
            }
            let Some(entry) = self.entry(package) else {
                findings.push(self.unlisted(package, closures, audited));
                continue;
            };
            let mut finding = |what| findings.push(Finding::new(PLACE, what));
            let identity = entry.identity();
            if entry.path.is_none() && self.lock.checksum(package) != entry.checksum.as_deref() {
                finding(format!("{identity} is not listed with the checksum that Cargo.lock gives"));
            }
            let features: BTreeSet<&str> = closures.features_of(package).collect();
            let listed: BTreeSet<&str> = entry.features.iter().map(String::as_str).collect();
            if features != listed {
                let (built, listed) = (features.into_iter(), listed.into_iter());
                let (built, listed): (Vec<_>, Vec<_>) = (built.collect(), listed.collect());
                finding(format!(
                    "{identity} is built with the features [{}], but listed with [{}]",
                    built.join(", "),
                    listed.join(", ")
                ));
            }
            if entry.is_confined() && package.targets.iter().any(Target::is_proc_macro) {
                finding(format!("{identity} is confined, but a macro crate"));
            }
            if entry.is_confined()
                && package.targets.iter().any(Target::is_custom_build) != entry.build_script
            {
                let listed = if entry.build_script { "with" } else { "without" };
                finding(format!("{identity} is listed {listed} a build script, and is not so"));
            }
        }
        for entry in &self.crates {
            let identity = entry.identity();
            let is_it =
                |package: &&Package| self.entry(package).is_some_and(|found| std::ptr::eq(found, entry));
            if !closures.everything().any(|package| is_it(&package)) {
                let what = format!("{identity} is listed, but no domain is built with it: remove it");
                findings.push(Finding::new(PLACE, what));
            }
            let is_built_with = |user: &&String| closures.of(user).iter().any(is_it);
            let Entry { users, reason, .. } = entry;
            let excluded = audited.iter().filter(|user| !users.is_empty() && !users.contains(*user));
            for user in excluded.filter(is_built_with) {
                let what = format!("{user} is built with {}, but is not among its users", entry.name);
                findings.push(Finding::new(PLACE, what));
            }
            if !reason.trim_end().ends_with('.') {
                let what = format!("{identity} is listed without a reason that is a sentence");
                findings.push(Finding::new(PLACE, what));
            }
        }
    }

    fn unlisted(&self, package: &Package, closures: &Closures, audited: &BTreeSet<String>) -> Finding {
        let user = audited.iter().find(|name| closures.of(name).iter().any(|part| part.id == package.id));
        let user = user.map_or("a domain", String::as_str);
        let listed: Vec<String> =
            self.crates.iter().filter(|e| e.name == *package.name).map(Entry::identity).collect();
        let state = match package.source.as_ref().map(|source| source.repr.as_str()) {
            None if !closures.is_member(package) => {
                format!("its folder {} is outside of the workspace", package.manifest_path)
            }
            Some(source) if source != REGISTRY => format!("it comes from {source}"),
            _ if listed.is_empty() => "it is not listed".to_owned(),
            _ => format!("only {} is listed", listed.join(" and ")),
        };
        let what = format!("{user} is built with {} {}, but {state}", package.name, package.version);
        Finding::new(PLACE, what)
    }

    /// Checks that each listed macro exists; an entry for a macro that is gone is stale.
    pub(crate) fn check_macros(&self, closures: &Closures, exports: &Exports, findings: &mut Vec<Finding>) {
        // A crate outside all closures is already reported as a stale entry.
        for package in closures.everything() {
            let Some(entry) = self.entry(package) else { continue };
            let exported: BTreeSet<&str> = exports.of(package).collect();
            let listed = entry.macros.iter().chain(&entry.contract_macros);
            for name in listed.filter(|name| !exported.contains(name.as_str())) {
                let what = format!(
                    "{} is listed with the macro \"{name}\", but exports none of that name",
                    entry.name
                );
                findings.push(Finding::new(PLACE, what));
            }
        }
    }

    /// The macros that the audited package `name` may use. A permitted name that another crate in its reach
    /// exports as well, unlisted, is a finding.
    pub(crate) fn permitted(
        &self,
        name: &str,
        closures: &Closures,
        audited: &BTreeSet<String>,
        exports: &Exports,
        exported: &BTreeSet<String>,
        findings: &mut Vec<Finding>,
    ) -> Permitted {
        let mut usable: BTreeSet<String> = BUILT_IN.iter().map(|&name| name.to_owned()).collect();
        let listed = self.crates.iter().flat_map(|entry| entry.macros.iter().chain(&entry.contract_macros));
        let reserved = usable.iter().chain(listed).chain(exported).cloned().collect();
        let mut attributes = usable.clone();
        let mut foreign = BTreeSet::new();
        let mut unlisted = Vec::new();
        for package in closures.nameable_in(name) {
            let entry = self.entry(package);
            let is_listed = |export: &str| {
                entry.is_some_and(|entry| {
                    entry.macros.contains(export)
                        || entry.contract_macros.contains(export) && self.is_contract(name)
                })
            };
            // Exports of an audited crate were audited themselves and hold nothing unsafe.
            let is_audited = closures.is_member(package) && audited.contains(package.name.as_str());
            let is_own = closures.is_member(package) && *package.name == name;
            for export in exports.of(package) {
                if !is_own {
                    foreign.insert(export.to_owned());
                }
                if !is_audited && is_listed(export) {
                    attributes.insert(export.to_owned());
                }
                if is_audited || is_listed(export) {
                    usable.insert(export.to_owned());
                } else {
                    unlisted.push((package, export));
                }
            }
        }
        for (package, export) in unlisted {
            if usable.contains(export) {
                let what = format!(
                    "in {name}, \"{export}\" may mean the macro of {} {}, which is not listed",
                    package.name, package.version
                );
                findings.push(Finding::new(PLACE, what));
            }
        }
        Permitted { usable, attributes, reserved, foreign }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        format!("{}", Trusted::parse(text).expect_err("the list is broken"))
    }

    #[test]
    fn a_broken_list_is_refused_with_its_line() {
        let error = refusal("[[crate]]\nname = \"log\"\nversion = \"not a version\"\n");
        assert!(error.contains("line 3"), "{error}");
        let error = refusal("[[crate]]\nname = \"log\"\nverson = \"1\"\n");
        assert!(error.contains("verson"), "{error}");
        // A range of versions is no identity.
        let error = refusal("[[crate]]\nname = \"log\"\nversion = \"0.4\"\n");
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn an_entry_that_identifies_no_crate_is_refused() {
        let entry = |fields: &str| format!("[[crate]]\nname = \"log\"\nreason = \"Needed.\"\n{fields}");
        for fields in ["", "version = \"1.2.3\"", "checksum = \"0\"", "path = \"log\"\nversion = \"1.2.3\""] {
            let error = refusal(&entry(fields));
            assert!(error.contains("needs either a path, or a version and a checksum"), "{error}");
        }
        let error = refusal(&entry("path = \"log\"\nunsafe_lines = 1"));
        assert!(error.contains("is not confined"), "{error}");
        let confined = entry("version = \"1.2.3\"\nchecksum = \"0\"").replace("crate", "confined");
        let error = refusal(&confined);
        assert!(error.contains("needs unsafe_lines"), "{error}");
    }
}
