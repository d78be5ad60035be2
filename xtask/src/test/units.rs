//! Unit tests, files of tests and compile-fail tests: test programs of the host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use cargo_metadata::{Package, Target};

use super::changed::Scope;
use super::executable::{self, Executable, run_in_parallel};
use super::scenarios::SCENARIOS;
use super::suite::{Suite, total};
use crate::ui::Step;
use crate::workspace::{PROFILE, Workspace, is_image};

/// This package. Its tests are compiled by a cargo of their own: together with the others, cargo would unite
/// the features of its dependencies with theirs, and compile a second time all that `cargo xtask` has
/// compiled.
const OWN: &str = env!("CARGO_PKG_NAME");

/// Files of tests that start builds of their own and take longest. They begin first, so that no CPU waits for
/// them at the end.
const LONGEST: [&str; 2] = ["xtask::adding_a_domain", "coppice-interfaces::isolation"];

/// The test programs that one cargo compiles.
#[derive(Default)]
struct Selection {
    packages: BTreeSet<String>,
    has_libraries: bool,
    binaries: BTreeSet<String>,
    tests: BTreeSet<String>,
}

impl Selection {
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        arguments.extend(self.has_libraries.then(|| "--lib".to_owned()));
        for (flag, names) in [("-p", &self.packages), ("--bin", &self.binaries), ("--test", &self.tests)] {
            arguments.extend(names.iter().flat_map(|name| [flag.to_owned(), name.clone()]));
        }
        arguments
    }
}

/// All test programs in `scope`, of this package and of the others; the scenarios are among the latter.
struct Plan {
    own: Selection,
    others: Selection,
}

impl Plan {
    fn new(workspace: &Workspace, scope: &Scope) -> Result<Self> {
        let mut plan = Self { own: Selection::default(), others: Selection::default() };
        let defaults: BTreeSet<_> =
            workspace.metadata.workspace_default_packages().into_iter().map(|package| &package.id).collect();
        for package in workspace.metadata.workspace_packages() {
            let selection = if package.name == OWN { &mut plan.own } else { &mut plan.others };
            let is_default = defaults.contains(&package.id);
            let mut any = false;
            for target in package.targets.iter().filter(|target| target.test) {
                if scope.tests(package, target) && has_tests(package, target, is_default)? {
                    selection.add(target);
                    any = true;
                }
            }
            if any {
                selection.packages.insert(package.name.to_string());
            }
        }
        Ok(plan)
    }
}

impl Selection {
    fn add(&mut self, target: &Target) {
        if target.is_lib() || target.is_proc_macro() {
            self.has_libraries = true;
        } else if target.is_bin() {
            self.binaries.insert(target.name.clone());
        } else {
            self.tests.insert(target.name.clone());
        }
    }
}

/// Returns true if the target has tests that can run on the host.
fn has_tests(package: &Package, target: &Target, is_default: bool) -> Result<bool> {
    if target.is_lib() || target.is_proc_macro() {
        // This covers images too: their own binary is freestanding, but their library is ordinary code.
        return mentions_tests(
            target.src_path.parent().context("a source file lies in a folder")?.as_std_path(),
        );
    }
    Ok(is_default && !is_image(package) && (target.is_bin() || target.is_test()))
}

/// Returns true if a source file in `folder` or below could hold a test. Most domains have none: booting
/// systems tests them, and linking a test harness for each costs a second.
fn mentions_tests(folder: &Path) -> Result<bool> {
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        // Each way to declare a test has one of these: `#[test]`, `#[cfg(test)]`, `#![cfg(all(test, ...))]`.
        let mentions = || {
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            anyhow::Ok(text.contains("test]") || text.contains("(test"))
        };
        if (path.is_dir() && mentions_tests(&path)?) || (is_source && mentions()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The compiled test programs.
pub(super) struct Programs {
    units: Vec<Executable>,
    /// The scenarios, which need systems to boot.
    pub(super) scenarios: Option<Executable>,
}

/// Compiles all test programs in `scope`.
pub(super) fn compile(workspace: &Workspace, scope: &Scope) -> Result<Programs> {
    let plan = Plan::new(workspace, scope)?;
    let step = Step::start("compiling tests");
    let mut units = Vec::new();
    for selection in [&plan.others, &plan.own] {
        if selection.packages.is_empty() {
            continue;
        }
        let mut cargo = workspace.cargo("test");
        cargo.args(["--profile", PROFILE, "--no-run", "--message-format=json-render-diagnostics"]);
        units.extend(executable::read(workspace, &step.run(cargo.args(selection.arguments()))?)?);
    }
    let (package, test) = SCENARIOS;
    let name = format!("{package}::{test}");
    let scenarios = units.iter().position(|program| program.name == name).map(|at| units.remove(at));
    units.sort_by_key(|program| {
        LONGEST.iter().position(|name| *name == program.name).unwrap_or(LONGEST.len())
    });
    step.done(&format!("programs: {}", units.len() + usize::from(scenarios.is_some())));
    Ok(Programs { units, scenarios })
}

/// Runs the unit tests among the programs.
pub(super) fn run(workspace: &Workspace, programs: &Programs, filter: Option<&str>) -> Result<Vec<Suite>> {
    if programs.units.is_empty() {
        return Ok(Vec::new());
    }
    let step = Step::start("running unit tests");
    let mut suites = run_in_parallel(workspace, &step, &programs.units, filter)?;
    step.done(&total(&suites).to_string());
    if filter.is_none() {
        // A library or a file of tests may have no test of its own, but not all of them together.
        for suite in &mut suites {
            let is_file = |program: &&Executable| program.is_file_of_tests && program.name == suite.name;
            if programs.units.iter().any(|program| is_file(&program)) {
                suite.fail_if_empty();
            }
        }
        if !suites.iter().any(Suite::has_outcome) {
            bail!("no unit test ran");
        }
    }
    suites.retain(Suite::has_outcome);
    Ok(suites)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan::new(&Workspace::load().expect("this is a workspace"), &Scope::everything())
            .expect("it has sources")
    }

    #[test]
    fn unit_tests_cover_all_default_members() {
        let Plan { own, others } = plan();
        for (kind, name) in [
            (&others.tests, "isolation"),
            (&others.tests, "scenarios"),
            (&own.tests, "adding_a_domain"),
            (&own.binaries, "xtask"),
            (&others.binaries, "coppice-hosted"),
            (&others.packages, "coppice-domain-integrity"),
        ] {
            assert!(kind.contains(name), "{name} is left out");
        }
        assert!(!others.binaries.contains("echo"), "a freestanding binary has no host tests");
    }

    #[test]
    fn a_library_is_left_out_only_if_none_of_its_files_has_a_test() {
        let workspace = Workspace::load().expect("this is a workspace");
        let Plan { own, others } = plan();
        for package in workspace.metadata.workspace_packages() {
            let tests_library = |target: &Target| target.test && (target.is_lib() || target.is_proc_macro());
            if !package.targets.iter().any(tests_library) {
                continue;
            }
            let source = workspace.root.join(workspace.folder(package)).join("src");
            let mut grep = std::process::Command::new("grep");
            let found = grep.args(["-rqE", r"^\s*#\[(cfg\()?test"]).arg(&source).status().expect("grep runs");
            let name = package.name.as_str();
            if found.success() {
                assert!(others.packages.contains(name) || own.packages.contains(name), "{name} is left out");
            }
        }
        assert!(!others.packages.contains("coppice-domain-echo"), "it has no test");
    }
}
