//! The macros that a crate exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};
use cargo_metadata::{Package, PackageId};
use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, ItemFn, ItemMacro, Meta, Token};

use super::closure::Closures;
use super::syntax::rust_files;

/// Exported macros by package: function-like, attributes, derives, and the attributes that derives read.
#[derive(Default)]
pub(crate) struct Exports(BTreeMap<PackageId, BTreeSet<String>>);

impl Exports {
    /// Reads all crates of the closures.
    pub(crate) fn read(closures: &Closures) -> Result<Self> {
        let mut exports = Self::default();
        for package in closures.everything() {
            let library = package.targets.iter().find(|target| target.is_lib() || target.is_proc_macro());
            let Some(library) = library else { continue };
            let names = exports.0.entry(package.id.clone()).or_default();
            let folder = library.src_path.parent().context("a source file lies in a folder")?;
            // All files rather than all modules: a surplus name only makes the audit stricter.
            for path in rust_files(folder.as_std_path())? {
                let text =
                    fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
                names.extend(exported(&text));
            }
        }
        Ok(exports)
    }

    /// The macros of one package.
    pub(crate) fn of(&self, package: &Package) -> impl Iterator<Item = &str> {
        self.0.get(&package.id).into_iter().flatten().map(String::as_str)
    }
}

/// The macros that one file exports.
fn exported(text: &str) -> BTreeSet<String> {
    let mut visitor = Visitor::default();
    match syn::parse_file(text) {
        Ok(file) => visitor.visit_file(&file),
        // The text has syntax newer than this parser: every macro counts as exported. A file that is not Rust
        // exports none.
        Err(_) => {
            let tokens = text.parse::<TokenStream>().unwrap_or_default();
            visitor.names = defined_inside(&tokens.into_iter().collect::<Vec<_>>());
        }
    }
    visitor.names
}

#[derive(Default)]
struct Visitor {
    names: BTreeSet<String>,
}

impl<'ast> Visit<'ast> for Visitor {
    fn visit_item_macro(&mut self, item: &'ast ItemMacro) {
        if let Some(name) = &item.ident
            && item.attrs.iter().any(is_macro_export)
        {
            self.names.insert(name.to_string());
        }
        // A macro may define and export another one, which is not known before it is expanded.
        let tokens: Vec<TokenTree> = item.mac.tokens.clone().into_iter().collect();
        self.names.extend(defined_inside(&tokens));
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        for attribute in &item.attrs {
            let path = attribute.path();
            if path.is_ident("proc_macro") || path.is_ident("proc_macro_attribute") {
                self.names.insert(item.sig.ident.to_string());
            } else if path.is_ident("proc_macro_derive") {
                self.names.extend(derive_names(attribute));
            }
        }
        visit::visit_item_fn(self, item);
    }
}

fn is_macro_export(attribute: &Attribute) -> bool {
    // It may stand inside `cfg_attr`, so a text search is the safe reading.
    match &attribute.meta {
        Meta::Path(path) => path.is_ident("macro_export"),
        Meta::List(list) => {
            list.path.is_ident("macro_export") || list.tokens.to_string().contains("macro_export")
        }
        Meta::NameValue(_) => false,
    }
}

/// Names after `macro_rules !` in tokens; all count as exported.
fn defined_inside(tokens: &[TokenTree]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                names.extend(defined_inside(&inner));
            }
            TokenTree::Ident(ident) if ident == "macro_rules" => {
                if let Some(TokenTree::Ident(name)) = tokens.get(index + 2) {
                    names.insert(name.to_string());
                }
            }
            _ => {}
        }
    }
    names
}

/// `proc_macro_derive(Name, attributes(a, b))` exports `Name`, `a` and `b`.
fn derive_names(attribute: &Attribute) -> Vec<String> {
    let parse = Punctuated::<Meta, Token![,]>::parse_terminated;
    let Ok(arguments) = attribute.parse_args_with(parse) else { return Vec::new() };
    let mut names = Vec::new();
    for argument in arguments {
        match argument {
            Meta::Path(path) => names.extend(path.get_ident().map(ToString::to_string)),
            Meta::List(list) => {
                let helpers = list.parse_args_with(Punctuated::<syn::Ident, Token![,]>::parse_terminated);
                names.extend(helpers.into_iter().flatten().map(|helper| helper.to_string()));
            }
            Meta::NameValue(_) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        exported(text).into_iter().collect()
    }

    #[test]
    fn only_exported_macro_rules_count() {
        assert_eq!(names("#[macro_export] macro_rules! a { () => {} }  macro_rules! b { () => {} }"), ["a"]);
        assert_eq!(names("#[cfg_attr(x, macro_export)] macro_rules! a { () => {} }"), ["a"]);
    }

    #[test]
    fn derives_and_their_attributes_count() {
        let text = "#[proc_macro_derive(Serialize, attributes(serde, rename))] pub fn derive(i: T) -> T { i }
                    #[proc_macro_attribute] pub fn interface(a: T, b: T) -> T { b }";
        assert_eq!(names(text), ["Serialize", "interface", "rename", "serde"]);
    }

    #[test]
    fn macros_that_define_macros_count() {
        assert_eq!(names("outer! { macro_rules! inner { () => {} } }"), ["inner"]);
    }
}
