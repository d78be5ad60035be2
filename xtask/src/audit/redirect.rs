//! Redirected names: an audited package that makes the name of a crate stand for another one.
//!
//! Macros expand to absolute paths such as `::coppice_interfaces`, and the audit reads names. So a name of a
//! crate has to mean the same everywhere: no dependency is renamed, no `extern crate` gives a crate another
//! name, no library takes the name of another, and all packages have the edition in which an absolute path
//! begins with a crate.

use std::collections::BTreeMap;

use anyhow::Result;
use cargo_metadata::{Edition, Package};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;

use super::Finding;
use super::closure::Closures;
use super::syntax::{SourceFile, crate_files};
use crate::workspace::Workspace;

/// Crates that every program has.
const SYSROOT: [&str; 5] = ["alloc", "core", "proc_macro", "std", "test"];

/// Crates of the sysroot that a crate without `std` declares.
const DECLARED: [&str; 2] = ["alloc", "std"];

/// Returns a finding for each way in which an audited package redirects a name.
pub(super) fn findings(workspace: &Workspace, package: &Package) -> Result<Vec<Finding>> {
    let folder = workspace.folder(package);
    let place = folder.join("Cargo.toml").display().to_string();
    let mut findings = Vec::new();
    let mut finding = |what: String| findings.push(Finding::new(place.clone(), what));
    for dependency in &package.dependencies {
        if let Some(alias) = &dependency.rename {
            finding(format!("renames the dependency {} to {alias}", dependency.name));
        }
    }
    if package.edition != Edition::E2024 {
        finding(format!("has the edition {}, and paths mean what they mean in 2024", package.edition));
    }
    for target in package.targets.iter().filter(|target| target.is_lib() || target.is_proc_macro()) {
        if target.name.replace('-', "_") != crate_name(package) {
            finding(format!("calls its library {}, which is not the package's name", target.name));
        }
    }
    let source = workspace.root.join(folder).join("src");
    let library = source.join("lib.rs");
    let mut files = if library.is_file() { crate_files(&library)? } else { Vec::new() };
    let main = source.join("main.rs");
    if main.is_file() {
        files.push(SourceFile::read(&main)?);
    }
    for file in &files {
        let shown = file.path.strip_prefix(&workspace.root).unwrap_or(&file.path).display().to_string();
        renamed_crates(file.syntax.to_token_stream(), &mut |line| {
            let what = "`extern crate` with another name or another crate than `alloc` and `std`";
            findings.push(Finding::new(format!("{shown}:{line}"), what));
        });
    }
    Ok(findings)
}

/// Returns a finding for each two packages among those that domains are built with whose libraries have one
/// name, and for each library with the name of a crate of the sysroot.
pub(super) fn shared_names(closures: &Closures) -> Vec<Finding> {
    let mut known: BTreeMap<String, &Package> = BTreeMap::new();
    let mut findings = Vec::new();
    for package in closures.everything() {
        let Some(library) = package.targets.iter().find(|target| target.is_lib() || target.is_proc_macro())
        else {
            continue;
        };
        let name = library.name.replace('-', "_");
        let place = package.manifest_path.to_string();
        if SYSROOT.contains(&name.as_str()) {
            findings.push(Finding::new(place.clone(), format!("its library has the name of Rust's {name}")));
        }
        // Two versions of one package share its name.
        match known.insert(name.clone(), package) {
            Some(other) if other.name != package.name => {
                let what = format!("its library is called {name}, like that of {}", other.name);
                findings.push(Finding::new(place, what));
            }
            _ => {}
        }
    }
    findings
}

/// The name of a package's library, unless its manifest says otherwise.
fn crate_name(package: &Package) -> String {
    package.name.replace('-', "_")
}

/// Calls `found` with the line of each `extern crate` but `extern crate alloc;` and `extern crate std;`, in
/// the arguments and definitions of macros too.
fn renamed_crates(tokens: TokenStream, found: &mut dyn FnMut(usize)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => renamed_crates(group.stream(), found),
            TokenTree::Ident(word) if word == "extern" => {
                let next = |ahead: usize| tokens.get(index + ahead).map(ToString::to_string);
                let is_declaration = next(2).is_some_and(|name| DECLARED.contains(&name.as_str()))
                    && next(3).as_deref() == Some(";");
                if next(1).as_deref() == Some("crate") && !is_declaration {
                    found(word.span().start().line);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        let mut lines = Vec::new();
        renamed_crates(text.parse().expect("the text is Rust"), &mut |line| lines.push(line));
        lines
    }

    #[test]
    fn only_declarations_of_the_sysroot_are_no_redirections() {
        assert_eq!(lines("extern crate alloc;\nextern crate std;"), [] as [usize; 0]);
        assert_eq!(lines("extern crate self as coppice_interfaces;"), [1]);
        assert_eq!(lines("\nextern crate evil as core;"), [2]);
        assert_eq!(lines("extern crate alloc as core;"), [1]);
        assert_eq!(lines("extern crate evil;"), [1]);
        assert_eq!(lines("macro_rules! m { ($a:ident) => { extern crate self as $a; } }"), [1]);
        assert_eq!(lines("mod inner { extern crate r#evil as coppice_rref; }"), [1]);
    }
}
