//! The size of a crate, as far as it is compiled.
//!
//! Crates carry code for other platforms and features (the `libc` crate: ten times the code of one platform),
//! so only the files that the compiler read are counted. Its dep-info files name them; they lie beside the
//! libraries that cargo reports as built. Cargo only checks here: the compiler reads the same files and
//! generates no code.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::camino::Utf8PathBuf;
use cargo_metadata::{Artifact, Message, Package, PackageId};

use super::syntax::{code_lines, crate_files};
use crate::kernel::Flavor;
use crate::machine::Kind;
use crate::ui::Step;
use crate::workspace::Workspace;
use crate::{image, kernel};

/// The counting method, in a sentence for reports.
pub(crate) const METHOD: &str = "lines that hold code (not blank, no comment, not under #[cfg(test)]) in the source files \
     that the compiler read for these builds; its own core and alloc are not counted";

/// Lines of code by crate.
pub(crate) struct Lines {
    files: HashMap<PackageId, BTreeSet<PathBuf>>,
    counted: HashMap<PackageId, usize>,
}

impl Lines {
    /// Checks the images and the kernels `kernels`, and records which files the compiler reads for each
    /// crate.
    pub(crate) fn of_builds(workspace: &Workspace, kernels: &[Kind], step: &Step) -> Result<Self> {
        let mut lines = Self { files: HashMap::new(), counted: HashMap::new() };
        let images = workspace.images()?;
        let mut builds = Vec::new();
        if !images.is_empty() {
            builds.push(image::cargo(workspace, "check", &images));
        }
        builds
            .extend(kernels.iter().map(|&kind| kernel::cargo(workspace, "check", kind, Flavor::Production)));
        for mut build in builds {
            let output = step.run(build.arg("--message-format=json-render-diagnostics"))?;
            for message in Message::parse_stream(output.as_bytes()) {
                if let Message::CompilerArtifact(artifact) =
                    message.context("reading cargo's list of artifacts")?
                {
                    lines.record(workspace, &artifact)?;
                }
            }
        }
        Ok(lines)
    }

    fn record(&mut self, workspace: &Workspace, artifact: &Artifact) -> Result<()> {
        let target = &artifact.target;
        if target.is_custom_build() {
            return Ok(());
        }
        // Cargo moves the files of requested packages away from their dep-info. Those are all workspace
        // crates, whose modules name exactly the files that the compiler read.
        let in_deps = |path: &&Utf8PathBuf| path.parent().is_some_and(|folder| folder.ends_with("deps"));
        let found: Vec<PathBuf> = match artifact.filenames.iter().find(in_deps) {
            Some(library) => {
                let name = library.file_stem().unwrap_or_default();
                let name = name.strip_prefix("lib").unwrap_or(name);
                let path = library.with_file_name(format!("{name}.d"));
                let text = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
                sources(&text).into_iter().map(|source| workspace.root.join(source)).collect()
            }
            None => crate_files(target.src_path.as_std_path())?.into_iter().map(|file| file.path).collect(),
        };
        self.files.entry(artifact.package_id.clone()).or_default().extend(found);
        Ok(())
    }

    /// Lines of code of a crate; 0 for one that is in none of the builds.
    pub(crate) fn of(&mut self, package: &Package) -> Result<usize> {
        if let Some(&lines) = self.counted.get(&package.id) {
            return Ok(lines);
        }
        let mut lines = 0;
        for path in self.files.get(&package.id).into_iter().flatten() {
            let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            lines += code_lines(&text);
        }
        self.counted.insert(package.id.clone(), lines);
        Ok(lines)
    }
}

/// The Rust files that a dep-info file names: `output: source source`, as in a makefile.
fn sources(dep_info: &str) -> Vec<PathBuf> {
    let rules = dep_info.lines().filter(|line| !line.starts_with('#'));
    let words = rules.filter_map(|rule| rule.split_once(": ")).flat_map(|(_, sources)| split_words(sources));
    words.map(PathBuf::from).filter(|path| path.extension() == Some(Path::new("rs").as_os_str())).collect()
}

/// Splits at spaces that have no backslash before them.
fn split_words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, words.last_mut()) {
            (' ', _) => words.push(String::new()),
            ('\\', Some(word)) => word.extend(characters.next()),
            (other, Some(word)) => word.push(other),
            (_, None) => {}
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dep_info_names_sources() {
        let text =
            "/t/libx.rlib: src/lib.rs src/my\\ file.rs README.md\n\nsrc/lib.rs:\n# env-dep:A=b: c.rs\n";
        assert_eq!(sources(text), [PathBuf::from("src/lib.rs"), PathBuf::from("src/my file.rs")]);
    }
}
