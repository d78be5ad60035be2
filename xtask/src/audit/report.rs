//! What `check` prints: findings, the trusted set, and how much of what is linked has to be trusted.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use cargo_metadata::PackageId;
use serde::Serialize;

use super::closure::Closures;
use super::lines::{Lines, METHOD};
use super::{Audit, Finding};
use crate::kernel;
use crate::machine::Kind;
use crate::ui::{Step, table};
use crate::workspace::Workspace;

/// The result of an audit, for people and for scripts.
#[derive(Serialize)]
pub(crate) struct Summary {
    /// What is wrong.
    findings: Vec<Finding>,
    /// Packages that were audited.
    audited: BTreeSet<String>,
    /// What domains lean on, and what kernels link.
    trusted: Vec<TrustedCrate>,
    /// Kernels and images.
    linked: Vec<Program>,
    /// All crates of all programs, each counted once.
    total: Share,
    /// How lines were counted.
    method: &'static str,
}

/// A crate that nobody proves safe.
#[derive(Serialize)]
struct TrustedCrate {
    name: String,
    version: String,
    lines: usize,
    /// Whether it ends in a program; else it only writes or configures code at build time.
    linked: bool,
    /// Why, as `xtask/trusted.toml` says; absent for what only kernels use.
    reason: Option<String>,
}

/// A kernel or an image.
#[derive(Serialize)]
struct Program {
    name: String,
    #[serde(flatten)]
    share: Share,
}

/// How much of some code is trusted.
#[derive(Serialize, Default, Clone, Copy)]
struct Share {
    lines: usize,
    trusted_lines: usize,
    trusted_percent: f64,
}

impl Share {
    fn add(&mut self, lines: usize, trusted: bool) {
        self.lines += lines;
        self.trusted_lines += if trusted { lines } else { 0 };
        self.trusted_percent = 100.0 * self.trusted_lines as f64 / self.lines.max(1) as f64;
    }
}

impl Summary {
    /// Counts what an audit went over, and the kernels, every crate of which is trusted by being there.
    pub(crate) fn new(workspace: &Workspace, audit: &Audit, step: &Step) -> Result<Self> {
        let mut kinds = vec![Kind::Bare, Kind::Hosted];
        kinds.retain(|&kind| workspace.member(kernel::package(kind)).is_some());
        let mut lines = Lines::of_builds(workspace, &kinds, step)?;
        let mut linked = Vec::new();
        let mut total = Share::default();
        let mut counted: BTreeSet<PackageId> = BTreeSet::new();
        let mut trusted: BTreeMap<PackageId, TrustedCrate> = BTreeMap::new();

        let images: BTreeSet<String> = workspace.images()?.into_values().map(|image| image.package).collect();
        let kernels: Vec<String> = kinds.iter().map(|&kind| kernel::package(kind).to_owned()).collect();
        let mut kernel_closures = Vec::new();
        for kernel in &kernels {
            // One at a time, as they are built.
            kernel_closures.push((kernel, Closures::read(workspace, &BTreeSet::from([kernel.clone()]))?));
        }
        let programs = kernel_closures
            .iter()
            .map(|(kernel, closures)| (*kernel, closures, true))
            .chain(images.iter().map(|image| (image, &audit.closures, false)));
        for (name, closures, is_kernel) in programs {
            let mut share = Share::default();
            for package in closures.linked_into(name) {
                let is_trusted = is_kernel || !audit.audited.contains(package.name.as_str());
                let size = lines.of(package)?;
                share.add(size, is_trusted);
                if counted.insert(package.id.clone()) {
                    total.add(size, is_trusted);
                }
                if is_trusted {
                    trusted.entry(package.id.clone()).or_insert_with(|| TrustedCrate {
                        name: package.name.to_string(),
                        version: package.version.to_string(),
                        lines: size,
                        linked: true,
                        reason: audit.trusted.entry(package).map(|entry| entry.reason.clone()),
                    });
                }
            }
            linked.push(Program { name: name.clone(), share });
        }
        for package in audit.closures.everything() {
            if let Some(entry) = audit.trusted.entry(package)
                && !trusted.contains_key(&package.id)
            {
                let entry = TrustedCrate {
                    name: package.name.to_string(),
                    version: package.version.to_string(),
                    lines: lines.of(package)?,
                    linked: false,
                    reason: Some(entry.reason.clone()),
                };
                trusted.insert(package.id.clone(), entry);
            }
        }
        let mut trusted: Vec<TrustedCrate> = trusted.into_values().collect();
        trusted.sort_by(|a, b| (!a.linked, &a.name, &a.version).cmp(&(!b.linked, &b.name, &b.version)));
        Ok(Self {
            findings: audit.findings.clone(),
            audited: audit.audited.clone(),
            trusted,
            linked,
            total,
            method: METHOD,
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows =
            vec![["trusted crate", "version", "lines", "% of all linked"].map(str::to_owned).to_vec()];
        for trusted in &self.trusted {
            let share = 100.0 * trusted.lines as f64 / self.total.lines.max(1) as f64;
            let share = if trusted.linked { format!("{share:.1}") } else { "build time".to_owned() };
            rows.push(vec![trusted.name.clone(), trusted.version.clone(), trusted.lines.to_string(), share]);
        }
        writeln!(f, "{}", table(&rows))?;

        let mut rows = vec![["program", "lines", "trusted", "%"].map(str::to_owned).to_vec()];
        let total = Program { name: "all, each crate once".to_owned(), share: self.total };
        for Program { name, share } in self.linked.iter().chain([&total]) {
            let percent = format!("{:.1}", share.trusted_percent);
            rows.push(vec![name.clone(), share.lines.to_string(), share.trusted_lines.to_string(), percent]);
        }
        writeln!(f, "{}", table(&rows))?;
        writeln!(f, "Lines: {}.", self.method)?;
        writeln!(f, "Audited: {}.", self.audited.iter().cloned().collect::<Vec<_>>().join(", "))
    }
}
