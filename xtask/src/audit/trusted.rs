//! `xtask/trusted.toml`: the crates that domains depend on without an audit, each with a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use cargo_metadata::Package;
use cargo_metadata::semver::VersionReq;
use serde::Deserialize;

use super::Finding;
use super::closure::Closures;
use super::exports::Exports;
use super::source::{BUILT_IN, Permitted};

/// The file that findings about the list point at.
const PLACE: &str = "xtask/trusted.toml";

/// The list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trusted {
    #[serde(default, rename = "crate")]
    crates: Vec<Entry>,
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

/// One trusted crate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// Package name.
    pub(crate) name: String,
    /// The versions that were reviewed.
    version: VersionReq,
    /// One sentence: why the crate is needed, and why it can be trusted.
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
}

impl Trusted {
    /// Reads the list.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {PLACE}"))
    }

    fn parse(text: &str) -> Result<Self> {
        // The parser's message shows the line and points at the column.
        toml::from_str(text).map_err(|error| anyhow!("{error}"))
    }

    /// Returns true if packages in `folder` are contract crates, unless they are trusted by name.
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

    /// Returns true if some version of a crate of that name is trusted.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.crates.iter().any(|entry| entry.name == name)
    }

    /// The entry for a package in its version.
    pub(crate) fn entry(&self, package: &Package) -> Option<&Entry> {
        self.crates
            .iter()
            .find(|entry| *package.name == entry.name && entry.version.matches(&package.version))
    }

    /// Checks that every crate of the closures is audited or listed, and that every entry names a crate of
    /// the closures.
    pub(crate) fn check_against(
        &self,
        closures: &Closures,
        audited: &BTreeSet<String>,
        findings: &mut Vec<Finding>,
    ) {
        for package in closures.everything() {
            if audited.contains(package.name.as_str()) || self.entry(package).is_some() {
                continue;
            }
            let user = audited.iter().find(|name| closures.of(name).iter().any(|part| part.id == package.id));
            let user = user.map_or("a domain", String::as_str);
            let listed: Vec<String> = self
                .crates
                .iter()
                .filter(|e| e.name == *package.name)
                .map(|e| e.version.to_string())
                .collect();
            let state = if listed.is_empty() {
                "it is not listed".to_owned()
            } else {
                format!("only {} is listed", listed.join(" and "))
            };
            let what = format!("{user} is built with {} {}, but {state}", package.name, package.version);
            findings.push(Finding::new(PLACE, what));
        }
        for entry in &self.crates {
            let Entry { name, version, reason, users, .. } = entry;
            if !closures
                .everything()
                .any(|package| *package.name == *name && version.matches(&package.version))
            {
                let what = format!("{name} {version} is listed, but no domain is built with it: remove it");
                findings.push(Finding::new(PLACE, what));
            }
            let is_built_with = |user: &&String| closures.of(user).iter().any(|part| *part.name == *name);
            let excluded = audited.iter().filter(|user| !users.is_empty() && !users.contains(*user));
            for user in excluded.filter(is_built_with) {
                findings.push(Finding::new(
                    PLACE,
                    format!("{user} is built with {name}, but is not among its users"),
                ));
            }
            if !reason.trim_end().ends_with('.') {
                findings.push(Finding::new(
                    PLACE,
                    format!("{name} {version} is listed without a reason that is a sentence"),
                ));
            }
        }
    }

    /// Checks that each listed macro exists; an entry for a macro that is gone is stale.
    pub(crate) fn check_macros(&self, exports: &Exports, findings: &mut Vec<Finding>) {
        for entry in &self.crates {
            let exported: BTreeSet<&str> = exports.of(&entry.name).collect();
            // A crate outside all closures is already reported as a stale entry.
            if !exports.knows(&entry.name) {
                continue;
            }
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
        findings: &mut Vec<Finding>,
    ) -> Permitted {
        let mut usable: BTreeSet<String> = BUILT_IN.iter().map(|&name| name.to_owned()).collect();
        let listed = self.crates.iter().flat_map(|entry| entry.macros.iter().chain(&entry.contract_macros));
        let reserved = usable.iter().chain(listed).cloned().collect();
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
            let is_audited = audited.contains(package.name.as_str());
            for export in exports.of(&package.name) {
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
        Permitted { usable, reserved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_list_is_refused_with_its_line() {
        let error = Trusted::parse("[[crate]]\nname = \"log\"\nversion = \"not a version\"\n").unwrap_err();
        assert!(format!("{error}").contains("line 3"), "{error}");
        let error = Trusted::parse("[[crate]]\nname = \"log\"\nverson = \"1\"\n").unwrap_err();
        assert!(format!("{error}").contains("verson"), "{error}");
    }
}
