//! Dependency closures: the crates that are linked into an image, and those that only take part in its build.
//!
//! The source is `cargo tree` and not `cargo metadata`, because only the former resolves features for the
//! packages that are built together; metadata unites the features of the whole workspace, which would put a
//! TOML parser in the kernel.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Package, PackageId, Target};

use crate::workspace::{TARGET, Workspace};

/// The only registry that crates may come from, as cargo writes it.
pub(crate) const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The dependency closures of some packages, each package included.
pub(crate) struct Closures {
    packages: BTreeMap<PackageId, Package>,
    /// The features that each crate is built with.
    features: BTreeMap<PackageId, BTreeSet<String>>,
    members: BTreeSet<PackageId>,
    /// By package name: all crates that take part, macros and build scripts with their dependencies included.
    all: BTreeMap<String, BTreeSet<PackageId>>,
    /// By package name: all crates that are linked.
    linked: BTreeMap<String, BTreeSet<PackageId>>,
}

impl Closures {
    /// Resolves `names` as built together.
    pub(crate) fn read(workspace: &Workspace, names: &BTreeSet<String>) -> Result<Self> {
        let mut closures = Self {
            packages: BTreeMap::new(),
            features: BTreeMap::new(),
            members: workspace.metadata.workspace_members.iter().cloned().collect(),
            all: BTreeMap::new(),
            linked: BTreeMap::new(),
        };
        if !names.is_empty() {
            closures.all = closures.query(workspace, names, "normal,build")?;
            closures.linked = closures.query(workspace, names, "normal,no-proc-macro")?;
        }
        Ok(closures)
    }

    fn query(
        &mut self,
        workspace: &Workspace,
        names: &BTreeSet<String>,
        edges: &str,
    ) -> Result<BTreeMap<String, BTreeSet<PackageId>>> {
        let mut cargo = workspace.cargo("tree");
        cargo.args(["--quiet", "--target", TARGET, "--edges", edges, "--prefix", "depth", "--no-dedupe"]);
        // The space keeps the depth apart from a package name that starts with a digit.
        cargo.args(["--format", " {p}\t{f}"]);
        for name in names {
            cargo.args(["-p", name]);
        }
        let output = cargo.output().context("cannot start `cargo tree`")?;
        if !output.status.success() {
            bail!("`cargo tree` failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let text = String::from_utf8(output.stdout).context("`cargo tree` prints UTF-8")?;

        let mut roots: BTreeMap<String, BTreeSet<PackageId>> = BTreeMap::new();
        let mut root = None;
        for line in text.lines() {
            let Some(node) = Node::parse(line) else { continue };
            let package = find(workspace, &node)?;
            let features = node.features.split(',').filter(|feature| !feature.is_empty());
            self.features.entry(package.id.clone()).or_default().extend(features.map(str::to_owned));
            if node.depth == 0 {
                root = Some(node.name.to_owned());
            }
            let root = root.as_ref().context("`cargo tree` begins with a root")?;
            roots.entry(root.clone()).or_default().insert(package.id.clone());
            self.packages.entry(package.id.clone()).or_insert_with(|| package.clone());
        }
        Ok(roots)
    }

    /// All crates that take part in building the package, itself included.
    pub(crate) fn of(&self, name: &str) -> Vec<&Package> {
        self.select(self.all.get(name))
    }

    /// The crates that are linked into the package, itself included.
    pub(crate) fn linked_into(&self, name: &str) -> Vec<&Package> {
        self.select(self.linked.get(name))
    }

    /// The crates whose macros the package's code could name: those that are linked, and macro crates.
    /// Dependencies of macro crates are out of reach, since macro crates export nothing but macros.
    pub(crate) fn nameable_in(&self, name: &str) -> Vec<&Package> {
        let macros =
            self.of(name).into_iter().filter(|package| package.targets.iter().any(Target::is_proc_macro));
        self.linked_into(name).into_iter().chain(macros).collect()
    }

    /// All crates of all closures.
    pub(crate) fn everything(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// Returns true if the package is a member of the workspace, by its identity and not by its name.
    pub(crate) fn is_member(&self, package: &Package) -> bool {
        self.members.contains(&package.id)
    }

    /// The features that a crate is built with.
    pub(crate) fn features_of(&self, package: &Package) -> impl Iterator<Item = &str> {
        self.features.get(&package.id).into_iter().flatten().map(String::as_str)
    }

    fn select(&self, ids: Option<&BTreeSet<PackageId>>) -> Vec<&Package> {
        ids.into_iter().flatten().map(|id| &self.packages[id]).collect()
    }
}

/// A line of `cargo tree --prefix depth --format ' {p}\t{f}'`.
#[derive(Debug, PartialEq, Eq)]
struct Node<'a> {
    depth: usize,
    name: &'a str,
    version: &'a str,
    /// The folder of a path dependency, the address of a git repository, the name of another registry; empty
    /// for a crate of the default registry.
    source: &'a str,
    /// Separated by commas.
    features: &'a str,
}

impl<'a> Node<'a> {
    /// Returns `None` for a blank line or a heading such as `[build-dependencies]`.
    fn parse(line: &'a str) -> Option<Self> {
        let (depth, package) = line.split_once(' ')?;
        let (package, features) = package.split_once('\t')?;
        let (name, rest) = package.split_once(' ')?;
        let (version, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let rest = rest.strip_prefix("(proc-macro)").unwrap_or(rest).trim();
        let source = rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).unwrap_or(rest);
        let version = version.strip_prefix('v')?;
        Some(Self { depth: depth.parse().ok()?, name, version, source, features })
    }

    /// Returns true if the line names the package. Name and version alone are no identity: a member of the
    /// workspace may have those of a crate of the registry.
    fn names(&self, package: &Package) -> bool {
        let source = package.source.as_ref().map(|source| source.repr.as_str());
        let same_source = match (self.source, source) {
            ("", source) => source == Some(REGISTRY),
            (path, None) => package.manifest_path.parent().is_some_and(|folder| folder == path),
            (_, Some(source)) => source != REGISTRY,
        };
        same_source && *package.name == self.name && package.version.to_string() == self.version
    }
}

fn find<'a>(workspace: &'a Workspace, node: &Node<'_>) -> Result<&'a Package> {
    workspace.metadata.packages.iter().find(|package| node.names(package)).with_context(|| {
        format!("`cargo tree` names {} {}, but `cargo metadata` does not", node.name, node.version)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_tree_are_parsed() {
        let node = Node { depth: 2, name: "serde_derive", version: "1.0.229", source: "", features: "a,b" };
        assert_eq!(Node::parse("2 serde_derive v1.0.229 (proc-macro)\ta,b"), Some(node));
        let node =
            Node { depth: 0, name: "echo", version: "0.1.0", source: "/some (where)/echo", features: "" };
        assert_eq!(Node::parse("0 echo v0.1.0 (/some (where)/echo)\t"), Some(node));
        let node = Node { depth: 1, name: "m", version: "0.1.0", source: "/m", features: "" };
        assert_eq!(Node::parse("1 m v0.1.0 (proc-macro) (/m)\t"), Some(node));
        assert_eq!(Node::parse("[build-dependencies]"), None);
        assert_eq!(Node::parse(""), None);
    }
}
