//! `--changed`: the part of the tests that a change can break.
//!
//! A changed file belongs to the package in whose folder it is. Unit tests run of that package and of all
//! that depend on it, dev-dependencies included. A system is booted if its manifest, an image in it, or the
//! machine's kernel depends on a changed package, dev-dependencies excluded. Files outside packages that
//! tests read are listed in [`Part::add_file`]. A file that no rule covers selects everything; so do the
//! files that the whole build depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cargo_metadata::{DependencyKind, Package, Target};

use super::scenarios;
use crate::error::Usage;
use crate::machine::Kind;
use crate::workspace::Workspace;
use crate::{kernel, pack, wrapper};

/// This package, whose tests read the documentation and scaffold domains.
const OWN: &str = env!("CARGO_PKG_NAME");
/// The test of the documentation: each test that it names exists.
const DOCS: &str = "docs";
const PROSE: &str = "prose";
const ADDING_A_DOMAIN: &str = "adding_a_domain";
/// The page that [`ADDING_A_DOMAIN`] follows, and the system that it boots first.
const PAGE: &str = "docs/adding-a-domain.md";
const PAGE_SYSTEM: &str = "tour";
/// Files that no test depends on.
const IRRELEVANT: [&str; 4] = [".gitignore", "LICENSE-APACHE", "LICENSE-MIT", "rustfmt.toml"];
/// Folders of packages that are audited although no image depends on them.
const AUDITED: [&str; 3] = ["devices/", "drivers/", "libs/"];

/// The tests that a run includes.
pub(super) struct Scope(Option<Part>);

/// A part of the tests.
#[derive(Debug, Default)]
struct Part {
    /// The commit that the changes are relative to.
    base: String,
    /// The counts of changed files, by package or other location.
    places: BTreeMap<String, usize>,
    /// The packages whose tests run.
    tested: BTreeSet<String>,
    /// Integration tests of this package that run although the package itself is not in `tested`.
    own_tests: BTreeSet<&'static str>,
    hosted: BTreeSet<String>,
    bare: BTreeSet<String>,
    packed: BTreeSet<String>,
    images: BTreeSet<String>,
    is_audited: bool,
}

/// The packages of the workspace, as far as the selection depends on them.
#[derive(Default)]
struct Graph {
    packages: BTreeMap<String, Node>,
    /// The images of each system.
    systems: BTreeMap<String, BTreeSet<String>>,
}

struct Node {
    /// Relative to the root.
    folder: String,
    /// Members that it depends on; true if only its tests do.
    dependencies: Vec<(String, bool)>,
    /// The images that are its binaries.
    images: Vec<String>,
}

impl Scope {
    /// All tests.
    pub(super) fn everything() -> Self {
        Self(None)
    }

    /// The tests that the difference between the working tree and its common ancestor with `base` can break.
    pub(super) fn of_changes(workspace: &Workspace, base: &str) -> Result<Self> {
        let files = changed_files(workspace, base)?;
        let mut scope = Self::of_files(&Graph::new(workspace)?, &files)?;
        if let Some(part) = &mut scope.0 {
            base.clone_into(&mut part.base);
        }
        Ok(scope)
    }

    fn of_files(graph: &Graph, files: &[String]) -> Result<Self> {
        let mut part = Part::default();
        let mut changed = BTreeSet::new();
        for file in files {
            if !part.add_file(graph, file, &mut changed) {
                eprintln!("everything is tested: {file} may affect all tests");
                return Ok(Self::everything());
            }
        }
        part.complete(graph, &changed);
        Ok(Self(Some(part)))
    }

    /// Returns true if the tests of this target run.
    pub(super) fn tests(&self, package: &Package, target: &Target) -> bool {
        let Some(part) = &self.0 else { return true };
        if (package.name.as_str(), target.name.as_str()) == scenarios::SCENARIOS {
            return scenarios::SYSTEMS.iter().any(|system| self.packs(system));
        }
        part.tested.contains(package.name.as_str())
            || (package.name == OWN && target.is_test() && part.own_tests.contains(target.name.as_str()))
    }

    /// Returns true if `system` is booted on that machine.
    pub(super) fn boots(&self, kind: Kind, system: &str) -> bool {
        self.0.as_ref().is_none_or(|part| match kind {
            Kind::Hosted => part.hosted.contains(system),
            Kind::Bare => part.bare.contains(system),
        })
    }

    /// Returns true if `system` is packed, for a boot or to check its manifest.
    pub(super) fn packs(&self, system: &str) -> bool {
        self.0.as_ref().is_none_or(|part| {
            [&part.hosted, &part.bare, &part.packed].iter().any(|systems| systems.contains(system))
        })
    }

    /// Returns true if the image is built, whether or not it is part of a system.
    pub(super) fn builds(&self, image: &str) -> bool {
        self.0.as_ref().is_none_or(|part| part.images.contains(image))
    }

    /// Returns true if the isolation audit runs.
    pub(super) fn audits(&self) -> bool {
        self.0.as_ref().is_none_or(|part| part.is_audited)
    }

    /// Returns true if no test runs.
    pub(super) fn is_empty(&self) -> bool {
        self.0.as_ref().is_some_and(|part| {
            part.tested.is_empty()
                && part.own_tests.is_empty()
                && part.hosted.is_empty()
                && part.bare.is_empty()
                && part.packed.is_empty()
                && part.images.is_empty()
                && !part.is_audited
        })
    }
}

impl fmt::Display for Scope {
    /// Writes the changes and the tests that they select, in a few lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(part) = &self.0 else { return writeln!(f, "everything is tested") };
        if part.places.is_empty() {
            return writeln!(f, "nothing has changed since {}", part.base);
        }
        let places: Vec<_> = part.places.iter().map(|(place, files)| format!("{place} ({files})")).collect();
        writeln!(f, "files changed since {}: {}", part.base, places.join(", "))?;
        if self.is_empty() {
            return writeln!(f, "no test depends on them");
        }
        let join = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        if !part.tested.is_empty() {
            writeln!(f, "packages whose tests depend on them: {}", join(&part.tested))?;
        }
        for test in part.own_tests.iter().filter(|_| !part.tested.contains(OWN)) {
            writeln!(f, "the test {test} of {OWN} reads some of them")?;
        }
        if part.hosted == part.bare && !part.bare.is_empty() {
            writeln!(f, "systems that depend on them, on both machines: {}", join(&part.bare))?;
        } else {
            for (kind, systems) in [(Kind::Hosted, &part.hosted), (Kind::Bare, &part.bare)] {
                if !systems.is_empty() {
                    writeln!(f, "systems that depend on them, on the {kind} machine: {}", join(systems))?;
                }
            }
        }
        if part.is_audited {
            writeln!(f, "the isolation audit reads some of them")?;
        }
        Ok(())
    }
}

impl Part {
    /// Adds a changed file; if it belongs to a package, the package is added to `changed`. Returns false if
    /// the file may affect everything.
    fn add_file(&mut self, graph: &Graph, file: &str, changed: &mut BTreeSet<String>) -> bool {
        let is_source = file.ends_with(".rs");
        let is_page = file.ends_with(".md");
        if is_source || is_page {
            // Documentation names tests, which `DOCS` looks for in all sources; `PROSE` counts words in both.
            self.own_tests.extend([DOCS, PROSE]);
        }
        if file == PAGE {
            self.own_tests.insert(ADDING_A_DOMAIN);
        }
        self.is_audited |=
            file == "xtask/trusted.toml" || AUDITED.iter().any(|folder| file.starts_with(folder));
        // Manifests are in `systems/` and its subfolders; the file's name is the system's.
        let system = file
            .strip_prefix("systems/")
            .and_then(|path| path.strip_suffix(".toml"))
            .map(|path| path.rsplit_once('/').map_or(path, |(_, name)| name));
        let place = if let Some(system) = system {
            if graph.systems.contains_key(system) {
                self.packed.insert(system.to_owned());
            }
            file
        } else if let Some(package) = graph.package_of(file) {
            // No build and no test reads a page beside the sources.
            if !is_page {
                changed.insert(package.to_owned());
            }
            package
        } else if is_page || IRRELEVANT.contains(&file) {
            file
        } else {
            return false;
        };
        *self.places.entry(place.to_owned()).or_default() += 1;
        true
    }

    /// Follows the dependencies from the changed packages.
    fn complete(&mut self, graph: &Graph, changed: &BTreeSet<String>) {
        self.tested = graph.dependents(changed, true);
        let linked = graph.dependents(changed, false);
        let all = graph.packages.iter().filter(|(name, _)| linked.contains(*name));
        self.images = all.flat_map(|(_, node)| node.images.iter().cloned()).collect();
        let has_kernel = |kind| linked.contains(kernel::package(kind));
        let (hosted, bare) =
            (has_kernel(Kind::Hosted), has_kernel(Kind::Bare) || linked.contains(kernel::DEVICE_HOST));
        for (system, used) in &graph.systems {
            let is_changed =
                self.packed.contains(system) || used.iter().any(|image| self.images.contains(image));
            for (systems, has_kernel) in [(&mut self.hosted, hosted), (&mut self.bare, bare)] {
                if is_changed || has_kernel {
                    systems.insert(system.clone());
                }
            }
        }
        if self.hosted.contains(PAGE_SYSTEM) {
            self.own_tests.insert(ADDING_A_DOMAIN);
        }
        self.is_audited |=
            !self.images.is_empty() || [OWN, wrapper::PACKAGE].iter().any(|name| changed.contains(*name));
    }
}

impl Graph {
    fn new(workspace: &Workspace) -> Result<Self> {
        let mut graph = Self::default();
        let members = workspace.metadata.workspace_packages();
        let images = workspace.images()?;
        for package in &members {
            let folder = workspace.folder(package);
            let dependencies = package
                .dependencies
                .iter()
                .filter(|dependency| members.iter().any(|member| *member.name == dependency.name))
                .map(|dependency| (dependency.name.clone(), dependency.kind == DependencyKind::Development))
                .collect();
            let own = images.iter().filter(|(_, owner)| **owner == *package.name);
            let images = own.map(|(image, _)| image.clone()).collect();
            let node = Node { folder: folder.to_string_lossy().into_owned(), dependencies, images };
            graph.packages.insert(package.name.to_string(), node);
        }
        for system in workspace.systems()?.into_keys() {
            let images =
                pack::read_manifest(workspace, &system)?.images().into_iter().map(str::to_owned).collect();
            graph.systems.insert(system, images);
        }
        Ok(graph)
    }

    /// The package with the innermost folder that `file` is in.
    fn package_of(&self, file: &str) -> Option<&str> {
        let holds = |folder: &str| file.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let holders = self.packages.iter().filter(|(_, node)| holds(&node.folder));
        holders.max_by_key(|(_, node)| node.folder.len()).map(|(name, _)| name.as_str())
    }

    /// `changed` and the packages that depend on them, directly or not. A package's tests may have further
    /// dependencies; its dependents do not inherit those.
    fn dependents(&self, changed: &BTreeSet<String>, for_tests: bool) -> BTreeSet<String> {
        let depends = |node: &Node, on: &BTreeSet<String>, with_dev: bool| {
            node.dependencies.iter().any(|(name, is_dev)| (with_dev || !is_dev) && on.contains(name))
        };
        let more = |found: &BTreeSet<String>, with_dev: bool| -> Vec<String> {
            let all = self.packages.iter();
            let new = all.filter(|(name, node)| !found.contains(*name) && depends(node, found, with_dev));
            new.map(|(name, _)| name.clone()).collect()
        };
        let mut found = changed.clone();
        loop {
            let new = more(&found, false);
            if new.is_empty() {
                break;
            }
            found.extend(new);
        }
        if for_tests {
            let new = more(&found, true);
            found.extend(new);
        }
        found
    }
}

/// The files that differ from the common ancestor of `base` and the current commit, untracked files included,
/// relative to the root.
fn changed_files(workspace: &Workspace, base: &str) -> Result<Vec<String>> {
    let ancestor = git(workspace, &["merge-base", base, "HEAD"]).map_err(|error| {
        Usage(format!("--base {base}: git knows no common ancestor with the current commit: {error:#}"))
    })?;
    // Without renames, both the old and the new name are listed.
    let differ =
        git(workspace, &["diff", "--name-only", "--no-renames", "--relative", "-z", ancestor.trim()])?;
    let untracked = git(workspace, &["ls-files", "--others", "--exclude-standard", "-z"])?;
    let names = differ.split_terminator('\0').chain(untracked.split_terminator('\0'));
    Ok(names.map(str::to_owned).collect())
}

fn git(workspace: &Workspace, arguments: &[&str]) -> Result<String> {
    let output = Command::new("git")
        .current_dir(&workspace.root)
        .args(arguments)
        .output()
        .context("cannot start git")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    /// A kernel, an interface crate, two domains and a device model that a driver's tests use.
    fn graph() -> Graph {
        let mut graph = Graph::default();
        /// Name, folder, dependencies (true: of its tests only), images.
        type Package = (&'static str, &'static str, &'static [(&'static str, bool)], &'static [&'static str]);
        let packages: [Package; 9] = [
            ("interfaces", "interfaces", &[], &[]),
            ("core", "kernel", &[("interfaces", false)], &[]),
            ("coppice-hosted", "kernel/hosted", &[("core", false)], &[]),
            ("coppice-bare", "kernel/bare", &[("core", false)], &[]),
            ("model", "devices/chip", &[], &[]),
            ("driver", "drivers/chip", &[("model", true)], &[]),
            ("chip", "domains/chip", &[("driver", false), ("interfaces", false)], &["chip"]),
            ("other", "domains/other", &[("interfaces", false)], &["other"]),
            ("fixtures", "fixtures", &[], &["faulty", "null"]),
        ];
        for (name, folder, dependencies, images) in packages {
            let dependencies = dependencies.iter().map(|&(name, dev)| (name.to_owned(), dev)).collect();
            let images = images.iter().map(|&image| image.to_owned()).collect();
            let node = Node { folder: folder.to_owned(), dependencies, images };
            graph.packages.insert(name.to_owned(), node);
        }
        graph.systems.insert("one".to_owned(), set(&["chip"]));
        graph.systems.insert("two".to_owned(), set(&["other", "faulty"]));
        graph.systems.insert("three".to_owned(), set(&["null"]));
        graph
    }

    fn part(files: &[&str]) -> Part {
        let files: Vec<String> = files.iter().map(|&file| file.to_owned()).collect();
        Scope::of_files(&graph(), &files).expect("the graph is small").0.expect("not everything")
    }

    #[test]
    fn a_driver_selects_its_domain_and_the_systems_that_contain_it() {
        let part = part(&["drivers/chip/src/queue.rs"]);
        assert_eq!(part.tested, set(&["chip", "driver"]));
        assert_eq!((part.hosted, part.bare), (set(&["one"]), set(&["one"])));
        assert_eq!(part.images, set(&["chip"]));
        assert!(part.is_audited);
    }

    #[test]
    fn a_model_used_only_by_tests_selects_those_tests_and_no_boot() {
        let part = part(&["devices/chip/src/lib.rs"]);
        assert_eq!(part.tested, set(&["driver", "model"]), "the domain does not depend on the model");
        assert_eq!((part.hosted, part.bare), (set(&[]), set(&[])));
    }

    #[test]
    fn a_kernel_selects_all_systems_on_its_machine() {
        let part = part(&["kernel/hosted/src/main.rs"]);
        assert_eq!(part.tested, set(&["coppice-hosted"]));
        assert_eq!((part.hosted, part.bare), (set(&["one", "three", "two"]), set(&[])));
    }

    #[test]
    fn an_interface_selects_all_its_dependents() {
        let part = part(&["interfaces/block/src/lib.rs"]);
        assert_eq!(
            part.tested,
            set(&["chip", "core", "coppice-bare", "coppice-hosted", "interfaces", "other"])
        );
        let all = set(&["one", "three", "two"]);
        assert_eq!((part.hosted, part.bare), (all.clone(), all));
    }

    #[test]
    fn a_package_of_several_images_selects_the_systems_of_each() {
        let part = part(&["fixtures/src/bin/null.rs"]);
        assert_eq!(part.images, set(&["faulty", "null"]));
        assert_eq!((part.hosted, part.bare), (set(&["three", "two"]), set(&["three", "two"])));
    }

    #[test]
    fn the_innermost_folder_decides() {
        assert_eq!(graph().package_of("kernel/hosted/src/main.rs"), Some("coppice-hosted"));
        assert_eq!(graph().package_of("kernel/src/lib.rs"), Some("core"));
        assert_eq!(graph().package_of("kernels/src/lib.rs"), None);
    }

    #[test]
    fn a_manifest_selects_only_its_system() {
        let part = part(&["systems/verification/two.toml"]);
        assert_eq!(part.tested, set(&[]));
        assert_eq!((part.hosted, part.bare), (set(&["two"]), set(&["two"])));
    }

    #[test]
    fn a_page_selects_the_tests_that_read_it() {
        assert_eq!(part(&["docs/safety.md"]).own_tests, BTreeSet::from([DOCS, PROSE]));
        assert_eq!(part(&["README.md"]).own_tests, BTreeSet::from([DOCS, PROSE]));
        assert_eq!(
            part(&["docs/adding-a-domain.md"]).own_tests,
            BTreeSet::from([ADDING_A_DOMAIN, DOCS, PROSE])
        );
        assert_eq!(part(&["docs/safety.md"]).tested, set(&[]));
    }

    #[test]
    fn files_that_may_affect_everything_select_everything() {
        for file in
            ["Cargo.toml", "Cargo.lock", ".cargo/config.toml", ".ci/run", "domains/gone/src/lib.rs", "new"]
        {
            let scope = Scope::of_files(&graph(), &[file.to_owned()]).expect("the graph is small");
            assert!(scope.0.is_none(), "{file}");
            assert!(!scope.is_empty() && scope.boots(Kind::Bare, "one") && scope.audits());
        }
    }

    #[test]
    fn no_change_selects_no_test() {
        for files in [&[][..], &["LICENSE-MIT".to_owned()]] {
            assert!(Scope::of_files(&graph(), files).expect("the graph is small").is_empty());
        }
    }

    #[test]
    fn the_graph_of_this_workspace_is_read() {
        let graph =
            Graph::new(&Workspace::load().expect("this is a workspace")).expect("its manifests are valid");
        let of = |file: &str| {
            Scope::of_files(&graph, &[file.to_owned()]).expect("as above").0.expect("not everything")
        };
        let nvme = of("drivers/nvme/src/lib.rs");
        assert!(nvme.tested.contains("coppice-domain-nvme") && nvme.hosted.contains("demo"));
        assert!(!nvme.hosted.contains("tour") && !nvme.tested.contains("ixgbe-driver"));
        let kernel = of("kernel/src/lib.rs");
        assert!(kernel.bare.contains("tour") && kernel.hosted.contains("scenarios"));
        assert!(kernel.own_tests.contains(ADDING_A_DOMAIN));
        assert!(of("devices/nvme/src/lib.rs").bare.contains("demo"), "the device host has the model");
        for name in [DOCS, PROSE, ADDING_A_DOMAIN] {
            let file = format!("tests/{name}.rs");
            assert!(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).exists(), "{file}");
        }
        assert!(graph.systems.contains_key(PAGE_SYSTEM));
    }
}
