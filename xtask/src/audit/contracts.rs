//! Contract crates: the packages that define interfaces and types that cross, and the only ones that may.
//!
//! A domain that could define an interface would have a proxy type of its own, and one that could describe a
//! type's layout could describe it wrongly. So the macros that do it are for the crates that `[contracts]` in
//! `xtask/trusted.toml` names. The macros refuse to expand elsewhere as well
//! (`interfaces/macros/src/package.rs`).

use std::collections::BTreeSet;

use anyhow::Result;
use cargo_metadata::{DependencyKind, Package};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

use super::Finding;
use super::syntax::crate_files;
use super::trusted::Trusted;
use crate::workspace::Workspace;

/// Returns a finding for each package in the folder of contracts that the list does not name, and for each
/// name in the list without a package.
pub(super) fn unnamed(workspace: &Workspace, trusted: &Trusted) -> Vec<Finding> {
    let mut named: BTreeSet<&str> = trusted.contract_names().collect();
    let mut findings = Vec::new();
    for package in workspace.metadata.workspace_packages() {
        let folder = workspace.folder(package);
        if !trusted.is_contract_folder(folder) || trusted.entry(package).is_some() {
            continue;
        }
        if !named.remove(package.name.as_str()) {
            let place = folder.join("Cargo.toml").display().to_string();
            let what = "lies among the contracts, but `crates` in xtask/trusted.toml does not name it";
            findings.push(Finding::new(place, what));
        }
    }
    for name in named {
        let what = format!("{name} is listed as a contract, but there is no such package in their folder");
        findings.push(Finding::new("xtask/trusted.toml", what));
    }
    findings
}

/// Returns a finding for each place in an audited package that is no contract where it defines what crosses,
/// and for each of its dependencies that are the trusted set's own.
pub(super) fn findings(workspace: &Workspace, trusted: &Trusted, package: &Package) -> Result<Vec<Finding>> {
    let folder = workspace.folder(package);
    let mut findings = Vec::new();
    for dependency in &package.dependencies {
        if dependency.kind != DependencyKind::Development && trusted.is_internal(&dependency.name) {
            let place = folder.join("Cargo.toml").display().to_string();
            let what = format!(
                "depends on {}, which is internal to the trusted set: use the runtime",
                dependency.name
            );
            findings.push(Finding::new(place, what));
        }
    }
    if trusted.is_contract(package.name.as_str()) {
        return Ok(findings);
    }
    let defining: BTreeSet<&str> = trusted.contract_macros().collect();
    let library = workspace.root.join(folder).join("src/lib.rs");
    if !library.is_file() {
        return Ok(findings);
    }
    for file in crate_files(&library)? {
        let shown = file.path.strip_prefix(&workspace.root).unwrap_or(&file.path).display().to_string();
        attribute_words(file.syntax.to_token_stream(), false, &mut |word, line| {
            if defining.contains(word) {
                let what = format!("`{word}` defines what crosses, which only contract crates may do");
                findings.push(Finding::new(format!("{shown}:{line}"), what));
            }
        });
    }
    Ok(findings)
}

/// Calls `found` with each identifier inside an attribute, and its line. Macros' arguments count.
fn attribute_words(tokens: TokenStream, inside: bool, found: &mut dyn FnMut(&str, usize)) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if inside => {
                found(word.to_string().trim_start_matches("r#"), word.span().start().line);
            }
            TokenTree::Group(group) => {
                let is_attribute = group.delimiter() == Delimiter::Bracket
                    && tokens[..index].iter().rev().find(|before| before.to_string() != "!").is_some_and(
                        |before| matches!(before, TokenTree::Punct(mark) if mark.as_char() == '#'),
                    );
                attribute_words(group.stream(), inside || is_attribute, found);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let tokens = text.parse().expect("the text is Rust");
        attribute_words(tokens, false, &mut |word, _| words.push(word.to_owned()));
        words
    }

    #[test]
    fn each_way_to_apply_a_macro_is_seen() {
        assert_eq!(words("#[interface] trait T {}"), ["interface"]);
        assert_eq!(words("#[coppice_interfaces::interface] trait T {}").last().unwrap(), "interface");
        assert_eq!(words("#[derive(Clone, r#Shareable)] struct S;"), ["derive", "Clone", "Shareable"]);
        assert_eq!(words("#[cfg_attr(all(), derive(Flat))] struct S;").last().unwrap(), "Flat");
        assert_eq!(words("macro_rules! m { () => { #[interface] trait T {} } }"), ["interface"]);
        assert_eq!(words("fn interface() -> [u8; 4] { [interface; 4] }"), [] as [&str; 0]);
    }
}
