//! Dependency closures: the crates that are linked into an image, and those that only take part in its build.
//!
//! The source is `cargo tree` and not `cargo metadata`, because only the former resolves features for the
//! packages that are built together; metadata unites the features of the whole workspace, which would put a
//! TOML parser in the kernel.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Package, PackageId, Target};

use crate::workspace::{TARGET, Workspace};

/// The dependency closures of some packages, each package included.
pub(crate) struct Closures {
    packages: BTreeMap<PackageId, Package>,
    /// By package name: all crates that take part, macros and build scripts with their dependencies included.
    all: BTreeMap<String, BTreeSet<PackageId>>,
    /// By package name: all crates that are linked.
    linked: BTreeMap<String, BTreeSet<PackageId>>,
}

impl Closures {
    /// Resolves `names` as built together.
    pub(crate) fn read(workspace: &Workspace, names: &BTreeSet<String>) -> Result<Self> {
        let mut closures = Self { packages: BTreeMap::new(), all: BTreeMap::new(), linked: BTreeMap::new() };
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
        cargo.args(["--format", " {p}"]);
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

    fn select(&self, ids: Option<&BTreeSet<PackageId>>) -> Vec<&Package> {
        ids.into_iter().flatten().map(|id| &self.packages[id]).collect()
    }
}

/// A line of `cargo tree --prefix depth --format ' {p}'`.
#[derive(Debug, PartialEq, Eq)]
struct Node<'a> {
    depth: usize,
    name: &'a str,
    version: &'a str,
}

impl<'a> Node<'a> {
    /// Returns `None` for a blank line or a heading such as `[build-dependencies]`.
    fn parse(line: &'a str) -> Option<Self> {
        let (depth, package) = line.split_once(' ')?;
        let mut words = package.split(' ');
        let name = words.next()?;
        let version = words.next()?.strip_prefix('v')?;
        Some(Self { depth: depth.parse().ok()?, name, version })
    }
}

fn find<'a>(workspace: &'a Workspace, node: &Node<'_>) -> Result<&'a Package> {
    workspace
        .metadata
        .packages
        .iter()
        .find(|package| *package.name == node.name && package.version.to_string() == node.version)
        .with_context(|| {
            format!("`cargo tree` names {} {}, but `cargo metadata` does not", node.name, node.version)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_cargo_tree_are_parsed() {
        let node = Node { depth: 2, name: "serde_derive", version: "1.0.229" };
        assert_eq!(Node::parse("2 serde_derive v1.0.229 (proc-macro)"), Some(node));
        let node = Node { depth: 0, name: "echo", version: "0.1.0" };
        assert_eq!(Node::parse("0 echo v0.1.0 (/some where/echo)"), Some(node));
        assert_eq!(Node::parse("[build-dependencies]"), None);
        assert_eq!(Node::parse(""), None);
    }
}
