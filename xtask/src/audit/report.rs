//! The output of `check`: findings, the trusted set, and the trusted share of all linked code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use anyhow::Result;
use cargo_metadata::{Package, PackageId};
use serde::Serialize;

use super::closure::Closures;
use super::lines::{Lines, METHOD};
use super::units::Built;
use super::{Audit, Finding};
use crate::kernel;
use crate::machine::Kind;
use crate::ui::table;
use crate::workspace::Workspace;

/// The result of an audit, for terminals and scripts.
#[derive(Serialize)]
pub(crate) struct Summary {
    /// The findings, sorted.
    findings: Vec<Finding>,
    /// Packages that were audited.
    audited: BTreeSet<String>,
    /// Confined crates, with their lines of unsafe code.
    confined: BTreeMap<String, Vec<String>>,
    /// Crates that domains depend on without an audit, and crates that kernels link.
    trusted: Vec<TrustedCrate>,
    /// Kernels and images.
    programs: Vec<Program>,
    /// Each kernel together with all images, a crate that several link counted once.
    systems: Vec<Program>,
    /// All crates of all programs, each counted once.
    total: Share,
    /// The counting method.
    method: &'static str,
}

/// A crate that is trusted without an audit.
#[derive(Serialize)]
struct TrustedCrate {
    name: String,
    version: String,
    lines: usize,
    /// True if it is linked into a program; false if it only generates or configures code at build time.
    linked: bool,
    /// The reason in `xtask/trusted.toml`; absent for crates that only kernels use.
    reason: Option<String>,
}

/// A kernel or an image.
#[derive(Serialize)]
struct Program {
    name: String,
    #[serde(flatten)]
    share: Share,
}

/// The trusted share of some code.
#[derive(Serialize, Clone, Copy)]
struct Share {
    lines: usize,
    trusted_lines: usize,
    trusted_percent: f64,
}

/// A crate that is linked into some program.
#[derive(Clone, Copy)]
struct Linked<'a> {
    package: &'a Package,
    lines: usize,
    trusted: bool,
}

/// The crates of one program, or of several together.
type Crates<'a> = BTreeMap<&'a PackageId, Linked<'a>>;

impl Share {
    fn of(crates: &Crates<'_>) -> Self {
        let lines = crates.values().map(|linked| linked.lines).sum();
        let trusted_lines = crates.values().filter(|linked| linked.trusted).map(|linked| linked.lines).sum();
        Self { lines, trusted_lines, trusted_percent: percent(trusted_lines, lines) }
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

impl Summary {
    /// Counts the audited packages and the kernels; every crate of a kernel is trusted.
    pub(crate) fn new(workspace: &Workspace, audit: &Audit, built: Built) -> Result<Self> {
        let mut kinds = vec![Kind::Bare, Kind::Hosted];
        kinds.retain(|&kind| workspace.member(kernel::package(kind)).is_some());
        let mut lines = Lines::new(workspace, built);

        let mut programs = Vec::new();
        let mut images = Crates::new();
        for package in workspace.images()?.into_values().collect::<BTreeSet<_>>() {
            let linked = audit.closures.linked_into(&package);
            let crates = crates(linked, &mut lines, |name| !audit.audited.contains(name))?;
            programs.push(Program { name: package, share: Share::of(&crates) });
            images.extend(crates);
        }
        let mut closures = Vec::new();
        for &kind in &kinds {
            // One kernel at a time, as they are built.
            let name = kernel::package(kind).to_owned();
            closures.push((name.clone(), Closures::read(workspace, &BTreeSet::from([name]))?));
        }
        let mut systems = Vec::new();
        let mut all = images.clone();
        for (name, closures) in &closures {
            let crates = crates(closures.linked_into(name), &mut lines, |_| true)?;
            programs.push(Program { name: name.clone(), share: Share::of(&crates) });
            all.extend(crates.clone());
            // A crate that the kernel links as well is trusted, so the kernel's crates are entered last.
            let mut system = images.clone();
            system.extend(crates);
            systems.push(Program { name: format!("{name} with all images"), share: Share::of(&system) });
        }

        let mut trusted = Vec::new();
        for linked in all.values().filter(|linked| linked.trusted) {
            trusted.push(TrustedCrate::new(linked.package, linked.lines, true, audit));
        }
        for package in audit.closures.everything() {
            if !all.contains_key(&package.id) && audit.trusted.entry(package).is_some() {
                trusted.push(TrustedCrate::new(package, lines.of(package)?, false, audit));
            }
        }
        trusted.sort_by(|a, b| (!a.linked, &a.name, &a.version).cmp(&(!b.linked, &b.name, &b.version)));
        lines.keep()?;
        let total = Share::of(&all);
        let confined = audit.confined.clone();
        let (findings, audited) = (audit.findings.clone(), audit.audited.clone());
        Ok(Self { findings, audited, confined, trusted, programs, systems, total, method: METHOD })
    }
}

fn crates<'a>(
    packages: Vec<&'a Package>,
    lines: &mut Lines,
    is_trusted: impl Fn(&str) -> bool,
) -> Result<Crates<'a>> {
    let linked = |package: &'a Package| {
        Ok((&package.id, Linked { package, lines: lines.of(package)?, trusted: is_trusted(&package.name) }))
    };
    packages.into_iter().map(linked).collect()
}

impl TrustedCrate {
    fn new(package: &Package, lines: usize, linked: bool, audit: &Audit) -> Self {
        Self {
            name: package.name.to_string(),
            version: package.version.to_string(),
            lines,
            linked,
            reason: audit.trusted.entry(package).map(|entry| entry.reason.clone()),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows =
            vec![["trusted crate", "version", "lines", "% of all linked"].map(str::to_owned).to_vec()];
        for trusted in &self.trusted {
            let share = percent(trusted.lines, self.total.lines);
            let share = if trusted.linked { format!("{share:.1}") } else { "build time".to_owned() };
            rows.push(vec![trusted.name.clone(), trusted.version.clone(), trusted.lines.to_string(), share]);
        }
        writeln!(f, "{}", table(&rows))?;

        let mut rows = vec![["program", "lines", "trusted", "%"].map(str::to_owned).to_vec()];
        for Program { name, share } in self.programs.iter().chain(&self.systems) {
            let percent = format!("{:.1}", share.trusted_percent);
            rows.push(vec![name.clone(), share.lines.to_string(), share.trusted_lines.to_string(), percent]);
        }
        writeln!(f, "{}", table(&rows))?;
        if !self.confined.is_empty() {
            let mut rows = vec![["confined crate", "lines with unsafe code"].map(str::to_owned).to_vec()];
            rows.extend(
                self.confined.iter().map(|(name, lines)| vec![name.clone(), lines.len().to_string()]),
            );
            writeln!(f, "{}", table(&rows))?;
        }
        writeln!(f, "Lines: {}.", self.method)?;
        writeln!(f, "Audited: {}.", self.audited.iter().cloned().collect::<Vec<_>>().join(", "))
    }
}
