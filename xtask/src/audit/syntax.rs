//! Reading Rust source for the audit: files without their tests, and the lines that hold code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{TokenStream, TokenTree};
use quote::ToTokens;
use syn::{Attribute, Item, Meta};

/// Returns true if these attributes exclude an item from all builds but tests.
pub(crate) fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        _ => false,
    })
}

/// An item's attributes; empty for an item that syn does not know.
pub(crate) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// One file of a crate.
pub(crate) struct SourceFile {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its parsed text, items of tests included.
    pub(crate) syntax: syn::File,
}

impl SourceFile {
    /// Reads and parses a file.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let syntax = syn::parse_file(&text).map_err(|error| {
            let start = error.span().start();
            anyhow::anyhow!("{}:{}:{}: {error}", path.display(), start.line, start.column + 1)
        })?;
        Ok(Self { path: path.to_owned(), syntax })
    }
}

/// A crate's files: `root` and all modules below it that are not only for tests, as the compiler finds them.
///
/// A `#[path]` is not followed; the audit refuses it.
pub(crate) fn crate_files(root: &Path) -> Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    let folder = root.parent().context("a source file lies in a folder")?;
    let mut open = vec![(root.to_owned(), folder.to_owned())];
    while let Some((path, children)) = open.pop() {
        let file = SourceFile::read(&path)?;
        find_modules(&file.syntax.items, &children, &mut open);
        files.push(file);
    }
    Ok(files)
}

fn find_modules(items: &[Item], folder: &Path, open: &mut Vec<(PathBuf, PathBuf)>) {
    for item in items {
        let Item::Mod(module) = item else { continue };
        if is_test_only(&module.attrs) {
            continue;
        }
        let name = module.ident.to_string();
        let name = name.trim_start_matches("r#");
        let children = folder.join(name);
        match &module.content {
            Some((_, items)) => find_modules(items, &children, open),
            None => {
                // If neither file exists, the compiler reports it better than this function could.
                let candidates = [folder.join(format!("{name}.rs")), children.join("mod.rs")];
                if let Some(path) = candidates.into_iter().find(|path| path.is_file()) {
                    open.push((path, children));
                }
            }
        }
    }
}

/// All Rust files below a folder, except those named as tests.
pub(crate) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry.with_context(|| format!("reading {}", folder.display()))?.path();
            let name = path.file_stem().unwrap_or_default();
            if name == "tests" || name == "test" {
                continue;
            }
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The lines of a text with the word `unsafe`, those of tests included.
pub(crate) fn unsafe_lines(text: &str) -> BTreeSet<usize> {
    fn collect(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
        for token in tokens {
            match token {
                TokenTree::Group(group) => collect(group.stream(), lines),
                TokenTree::Ident(word) if word == "unsafe" => {
                    lines.insert(word.span().start().line);
                }
                _ => {}
            }
        }
    }
    let mut lines = BTreeSet::new();
    match text.parse::<TokenStream>() {
        Ok(tokens) => collect(tokens, &mut lines),
        // The text was included as data, or is too new for the lexer: every mention counts.
        Err(_) => {
            let numbered = text.lines().enumerate();
            lines.extend(numbered.filter(|(_, line)| line.contains("unsafe")).map(|(number, _)| number + 1));
        }
    }
    lines
}

/// The number of lines of a text that hold code: neither blank, nor comment, nor under `#[cfg(test)]`.
pub(crate) fn code_lines(text: &str) -> usize {
    let mut lines = BTreeSet::new();
    match syn::parse_file(text) {
        Ok(file) => {
            for attribute in &file.attrs {
                collect_lines(attribute.to_token_stream(), &mut lines);
            }
            collect_item_lines(&file.items, &mut lines);
        }
        // The text has syntax newer than this parser, or is a fragment for `include!`.
        Err(_) => match text.parse::<TokenStream>() {
            Ok(tokens) => collect_lines(tokens, &mut lines),
            Err(_) => return text.lines().map(str::trim).filter(|line| !is_comment(line)).count(),
        },
    }
    lines.len()
}

fn is_comment(line: &str) -> bool {
    line.is_empty() || line.starts_with("//")
}

fn collect_item_lines(items: &[Item], lines: &mut BTreeSet<usize>) {
    for item in items {
        if is_test_only(attributes(item)) {
            continue;
        }
        match item {
            Item::Mod(module) if let Some((brace, items)) = &module.content => {
                for attribute in &module.attrs {
                    collect_lines(attribute.to_token_stream(), lines);
                }
                lines.insert(module.mod_token.span.start().line);
                lines.insert(brace.span.close().end().line);
                collect_item_lines(items, lines);
            }
            _ => collect_lines(item.to_token_stream(), lines),
        }
    }
}

fn collect_lines(tokens: TokenStream, lines: &mut BTreeSet<usize>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                // Comments for rustdoc arrive as `#[doc = ".."]` or `#![doc = ".."]`.
                let bang = tokens.next_if(|next| matches!(next, TokenTree::Punct(p) if p.as_char() == '!'));
                if tokens.next_if(is_doc).is_none() {
                    lines.insert(punct.span().start().line);
                }
                drop(bang);
            }
            TokenTree::Group(group) => {
                lines.insert(group.span_open().start().line);
                lines.insert(group.span_close().end().line);
                collect_lines(group.stream(), lines);
            }
            other => {
                let span = other.span();
                lines.extend(span.start().line..=span.end().line);
            }
        }
    }
}

fn is_doc(token: &TokenTree) -> bool {
    let TokenTree::Group(group) = token else { return false };
    matches!(group.stream().into_iter().next(), Some(TokenTree::Ident(name)) if name == "doc")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_lines_comments_and_tests_do_not_count_as_code() {
        let text = "//! Docs.\n\n// why\n/// Docs.\nfn f() {\n    /* a\n       b */\n    g(\"x\n    y\");\n}\n\n\
                    #[cfg(test)]\nmod tests {\n    fn t() {}\n}\n";
        assert_eq!(code_lines(text), 4);
    }

    #[test]
    fn unsafe_lines_are_those_of_the_word() {
        let text = "// unsafe\nfn f() { unsafe { g() } unsafe { g() } }\nmacro_rules! m { () => {\n unsafe } }\n\"unsafe\"";
        assert_eq!(unsafe_lines(text).into_iter().collect::<Vec<_>>(), [2, 4]);
    }

    #[test]
    fn lines_in_modules_count() {
        assert_eq!(code_lines("mod a {\n    fn f() {}\n    #[cfg(test)]\n    fn t() {}\n}\n"), 3);
    }
}
