//! Checks of an audited crate's own source: forbidden words, and the macros that it invokes.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use cargo_metadata::Package;
use proc_macro2::{Delimiter, Group, Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::visit::{self, Visit};
use syn::{AttrStyle, Attribute, Item, Meta};

use super::syntax::{SourceFile, attributes, crate_files, is_test_only};
use super::{Finding, holes};
use crate::workspace::{Workspace, binaries};

/// Macros, derives and attributes of the language and of `core` and `alloc` that no argument makes unsafe.
///
/// Left out on purpose: `asm`, `global_asm`, `include` (code from other files), `path`, `macro_use` (names
/// from other crates), `no_mangle`, `export_name`, `link_section` and others that touch symbols of other
/// code, and `global_allocator` and `panic_handler`, which belong to the runtime.
#[rustfmt::skip]
pub(crate) const BUILT_IN: &[&str] = &[
    // Macros.
    "assert", "assert_eq", "assert_ne", "cfg", "column", "compile_error", "concat", "debug_assert",
    "debug_assert_eq", "debug_assert_ne", "env", "file", "format", "format_args", "include_bytes", "include_str",
    "line", "macro_rules", "matches", "module_path", "offset_of", "option_env", "panic", "pin", "stringify", "todo",
    "unimplemented", "unreachable", "vec", "write", "writeln",
    // Derives.
    "Clone", "Copy", "Debug", "Default", "Eq", "Hash", "Ord", "PartialEq", "PartialOrd",
    // Attributes.
    "allow", "cfg_attr", "cold", "default", "deny", "deprecated", "derive", "doc", "expect", "forbid", "inline",
    "macro_export", "must_use", "no_main", "no_std", "non_exhaustive", "recursion_limit", "repr", "track_caller",
    "warn",
    // Attributes inside a trait with `#[interface]`, which consumes them. A macro of that name in a domain's
    // reach is a finding, as for all names here.
    "fail", "replay", "retry",
];

/// Other macros and attributes of the language and its libraries. No macro of a package may take such a name:
/// it would vouch for them.
#[rustfmt::skip]
pub(crate) const RESERVED: &[&str] = &[
    // Macros.
    "addr_of", "addr_of_mut", "asm", "assert_matches", "assert_unsafe_precondition", "cfg_match", "cfg_select",
    "concat_bytes", "concat_idents", "const_format_args", "contracts", "dbg", "debug_assert_matches", "eprint",
    "eprintln", "format_args_nl", "global_asm", "global_registry", "include", "is_x86_feature_detected", "join",
    "llvm_asm", "log_syntax", "naked_asm", "print", "println", "ready", "thread_local", "trace_macros", "try",
    "unsafe_binder", "unwrap_binder", "wrap_binder", "yield",
    // Attributes.
    "alloc_error_handler", "automatically_derived", "bench", "cfg", "cfg_accessible", "cfg_eval", "coverage",
    "crate_name", "crate_type", "debugger_visualizer", "export_name", "feature", "ffi_const", "ffi_pure",
    "global_allocator", "ignore", "instruction_set", "lang", "link", "link_name", "link_ordinal", "link_section",
    "macro_use", "naked", "no_builtins", "no_core", "no_implicit_prelude", "no_link", "no_mangle", "no_std",
    "optimize", "panic_handler", "path", "proc_macro", "proc_macro_attribute", "proc_macro_derive", "reexport_test_harness_main",
    "rustc_builtin_macro", "should_panic", "start", "target_feature", "test", "test_case", "test_runner",
    "type_length_limit", "used", "windows_subsystem",
];

/// Tools whose attributes do not affect code generation.
const TOOLS: [&str; 3] = ["clippy", "diagnostic", "rustfmt"];

/// Keywords that may stand before a `!` that negates.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "as", "await", "box", "break", "const", "do", "dyn", "else", "if", "impl", "in", "let", "loop", "match", "move",
    "mut", "ref", "return", "static", "where", "while", "yield",
];

/// The one macro that an image's binary consists of.
const ENTRY_MACRO: &str = "coppice_runtime :: entry";

/// The macro names that an audited package may use.
pub(crate) struct Permitted {
    /// Those that the audited package may use.
    pub(crate) usable: BTreeSet<String>,
    /// Those among them that are not from audited packages, which export no attributes and no derives.
    pub(crate) attributes: BTreeSet<String>,
    /// Names that any audited package may use; no other item may be imported under them.
    pub(crate) reserved: BTreeSet<String>,
    /// Names that macros of other crates in reach have; the package's own may not have them.
    pub(crate) foreign: BTreeSet<String>,
}

/// Audits the files of a package.
pub(crate) fn audit(workspace: &Workspace, package: &Package, permitted: &Permitted) -> Result<Vec<Finding>> {
    let folder = workspace.root.join(workspace.folder(package)).join("src");
    let mut findings = Vec::new();
    let library = folder.join("lib.rs");
    if library.is_file() {
        let files = crate_files(&library)?;
        let shown: Vec<String> = files.iter().map(|file| relative(&file.path, &workspace.root)).collect();
        findings.extend(audit_library(&files, &shown, permitted));
    }
    for binary in binaries(package) {
        let source = binary.src_path.as_std_path();
        findings.extend(audit_binary(&SourceFile::read(source)?.syntax, &relative(source, &workspace.root)));
    }
    Ok(findings)
}

fn relative(path: &Path, root: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

/// Audits a library, its root first; `shown` holds the displayed name of each file.
fn audit_library(files: &[SourceFile], shown: &[String], permitted: &Permitted) -> Vec<Finding> {
    let mut own = BTreeSet::new();
    for file in files {
        own.extend(own_macros(file.syntax.to_token_stream()));
    }
    if !files.iter().take(1).any(|root| root.syntax.attrs.iter().any(forbids_unsafe)) {
        // Such a crate may be full of unsafe code; a finding for each line of it would hide this one.
        let place = shown.first().cloned().unwrap_or_default();
        let what = "lacks `#![forbid(unsafe_code)]`, and its package is not on the trusted list";
        return vec![Finding::new(place, what)];
    }
    let mut findings = Vec::new();
    let language = BUILT_IN.iter().chain(RESERVED).copied();
    let taken: BTreeSet<&str> = language.chain(permitted.foreign.iter().map(String::as_str)).collect();
    for name in own.iter().filter(|name| taken.contains(name.as_str())) {
        let place = shown.first().cloned().unwrap_or_default();
        let what =
            format!("defines a macro `{name}`, which is the name of another crate's macro or attribute");
        findings.push(Finding::new(place, what));
    }
    for (file, shown) in files.iter().zip(shown) {
        findings.extend(holes::audit(file, shown));
        let mut reader = Reader { shown, permitted, own: &own, findings: &mut findings };
        for attribute in &file.syntax.attrs {
            reader.tokens(attribute.to_token_stream(), Inside::Code);
        }
        reader.items(&file.syntax.items);
    }
    findings
}

/// Checks that a binary is the runtime's entry macro and nothing else: all code of its domain is in the
/// library.
fn audit_binary(file: &syn::File, shown: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for attribute in &file.attrs {
        let path = attribute.path();
        if !(["no_std", "no_main", "doc"].iter().any(|&name| path.is_ident(name))
            || forbids_unsafe(attribute))
        {
            findings.push(at(
                shown,
                attribute.pound_token.span,
                "an attribute other than no_std and no_main",
            ));
        }
    }
    let [Item::Macro(item)] = file.items.as_slice() else {
        findings.push(Finding::new(shown, "is more than one line of the runtime's entry macro"));
        return findings;
    };
    let name = item.mac.path.to_token_stream().to_string();
    let plain = item.mac.tokens.clone().into_iter().all(|token| match token {
        TokenTree::Ident(word) => word != "unsafe",
        TokenTree::Punct(mark) => [':', ','].contains(&mark.as_char()),
        TokenTree::Literal(_) => true,
        TokenTree::Group(_) => false,
    });
    if name != ENTRY_MACRO || item.ident.is_some() || !plain || !item.attrs.is_empty() {
        findings.push(Finding::new(shown, "is not the runtime's entry macro with a path"));
    }
    findings
}

fn forbids_unsafe(attribute: &Attribute) -> bool {
    let Meta::List(list) = &attribute.meta else { return false };
    matches!(attribute.style, AttrStyle::Inner(_))
        && list.path.is_ident("forbid")
        && list.tokens.clone().into_iter().any(|token| token.to_string() == "unsafe_code")
}

/// Names of the macros that tokens define.
fn own_macros(tokens: TokenStream) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => names.extend(own_macros(group.stream())),
            TokenTree::Ident(word) if word == "macro_rules" => {
                if let Some(TokenTree::Ident(name)) = tokens.get(index + 2) {
                    names.insert(name.to_string());
                }
            }
            _ => {}
        }
    }
    names
}

fn at(shown: &str, span: Span, what: impl Into<String>) -> Finding {
    Finding::new(format!("{shown}:{}", span.start().line), what)
}

/// The context of tokens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// In plain code.
    Code,
    /// In a macro's argument.
    Argument,
    /// In a macro's definition, which could assemble code that no source file contains: `asm`, `!` and a
    /// group make an invocation. To do that it needs a `tt` parameter, a parameter in the position of a name,
    /// or a definition inside the definition; each is refused. All other parameters stand for pieces that are
    /// audited at the invocation.
    Definition,
}

impl Inside {
    /// The context of an invocation's argument, for an invocation in this context.
    fn of_argument(self) -> Self {
        match self {
            Self::Definition => Self::Definition,
            Self::Code | Self::Argument => Self::Argument,
        }
    }
}

/// Audits one file.
struct Reader<'a> {
    shown: &'a str,
    permitted: &'a Permitted,
    own: &'a BTreeSet<String>,
    findings: &'a mut Vec<Finding>,
}

impl Reader<'_> {
    fn finding(&mut self, span: Span, what: impl Into<String>) {
        self.findings.push(at(self.shown, span, what));
    }

    /// Returns true if the package may invoke the macro `name` by a path that begins with the tokens
    /// `before`. Its own macros vouch only for a name that can be no other crate's: alone, or in the crate's
    /// root.
    fn may_invoke(&self, name: &str, before: &[TokenTree]) -> bool {
        let name = name.trim_start_matches("r#");
        self.permitted.usable.contains(name) || self.own.contains(name) && !is_below_a_path(before)
    }

    /// Returns true if the package may use the attribute or derive `name`. No `macro_rules` is one.
    fn may_attach(&self, name: &str) -> bool {
        self.permitted.attributes.contains(name.trim_start_matches("r#"))
    }

    fn items(&mut self, items: &[Item]) {
        for item in items.iter().filter(|item| !is_test_only(attributes(item))) {
            match item {
                Item::Mod(module) if let Some((_, inner)) = &module.content => {
                    for attribute in &module.attrs {
                        self.tokens(attribute.to_token_stream(), Inside::Code);
                    }
                    self.items(inner);
                }
                _ => {
                    Renames(self).visit_item(item);
                    self.tokens(item.to_token_stream(), Inside::Code);
                }
            }
        }
    }

    fn tokens(&mut self, tokens: TokenStream, inside: Inside) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let (before, after) = (&tokens[..index], &tokens[index + 1..]);
            match token {
                // Groups of an invocation or an attribute are reached through its name.
                TokenTree::Group(_) if is_argument(before) => {}
                TokenTree::Group(group) => self.tokens(group.stream(), inside),
                TokenTree::Ident(word) => self.word(&word.to_string(), word.span(), before, after, inside),
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    let skip = usize::from(after.first().is_some_and(|next| is_punct(next, '!')));
                    if let Some(TokenTree::Group(group)) = after.get(skip)
                        && group.delimiter() == Delimiter::Bracket
                    {
                        self.attribute(group.stream(), mark.span());
                    }
                }
                TokenTree::Punct(mark) if mark.as_char() == '!' && inside == Inside::Definition => {
                    let repeated = before.last().is_some_and(|before| match before {
                        TokenTree::Group(_) => true,
                        before => ['*', '+', '?'].iter().any(|&mark| is_punct(before, mark)),
                    });
                    if repeated && !after.first().is_some_and(|next| is_punct(next, '=')) {
                        self.finding(mark.span(), "`!` after a possible repeated parameter of a macro");
                    }
                }
                _ => {}
            }
        }
    }

    fn word(&mut self, word: &str, span: Span, before: &[TokenTree], after: &[TokenTree], inside: Inside) {
        let next_is = |text: &str| after.first().is_some_and(|next| next.to_string() == text);
        let is_parameter = before.last().is_some_and(|before| is_punct(before, '$'));
        match word {
            "unsafe" => self.finding(span, "`unsafe`"),
            "extern" if !next_is("crate") => {
                self.finding(span, "`extern`: a domain neither imports nor exports symbols");
            }
            // `impl Trait + use<'a>` is no import.
            "use" if inside != Inside::Code && !next_is("<") => {
                self.finding(span, "`use` inside a macro, where it could rename one");
            }
            "mod" if inside != Inside::Code => {
                self.finding(span, "`mod` inside a macro, where its file would not be audited");
            }
            "macro_rules" if inside != Inside::Code => {
                self.finding(span, "a macro that defines a macro");
            }
            "tt" if inside == Inside::Definition
                && before.last().is_some_and(|before| is_punct(before, ':')) =>
            {
                self.finding(span, "a `tt` parameter, from which a macro can assemble an invocation");
            }
            _ => {}
        }
        if is_parameter && inside == Inside::Definition && next_is("!") && word != "crate" {
            self.finding(span, format!("a macro's parameter `${word}` is used as the name of a macro"));
        } else if let Some(argument) = invocation(word, after) {
            if !self.may_invoke(word, before) {
                self.finding(span, format!("the macro `{word}!`, which xtask/trusted.toml does not permit"));
            }
            let inside = if word == "macro_rules" { Inside::Definition } else { inside.of_argument() };
            self.tokens(argument.stream(), inside);
        }
    }

    /// One attribute, without its brackets.
    fn attribute(&mut self, tokens: TokenStream, span: Span) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is_name = |token: &TokenTree| matches!(token, TokenTree::Ident(_)) || is_punct(token, ':');
        let (path, rest) = tokens.split_at(tokens.iter().take_while(|token| is_name(token)).count());
        let (Some(first), Some(name)) = (path.first(), path.last()) else {
            return self.finding(span, "an attribute whose name is a macro's parameter");
        };
        let (first, name) = (first.to_string(), name.to_string());
        if path.len() > 1 && TOOLS.contains(&first.as_str()) {
            return;
        }
        if rest.first().is_some_and(|next| is_punct(next, '$')) {
            self.finding(span, "an attribute whose name is a macro's parameter");
        } else if !self.may_attach(&name) {
            self.finding(span, format!("the attribute `{name}`, which xtask/trusted.toml does not permit"));
        }
        let argument = rest.first().and_then(|token| match token {
            TokenTree::Group(group) => Some(group.stream()),
            _ => None,
        });
        match (name.as_str(), argument) {
            ("derive", Some(list)) => self.derives(list, span),
            ("cfg_attr", Some(list)) => {
                for attribute in split_at_commas(list).into_iter().skip(1) {
                    self.attribute(attribute, span);
                }
            }
            // Lint names, conditions and layouts are no code; `forbid(unsafe_code)` among them.
            ("allow" | "cfg" | "deny" | "expect" | "forbid" | "repr" | "warn", _) => {}
            _ => self.tokens(rest.iter().cloned().collect(), Inside::Argument),
        }
    }

    fn derives(&mut self, list: TokenStream, span: Span) {
        for derive in split_at_commas(list) {
            let tokens: Vec<TokenTree> = derive.into_iter().collect();
            let name = tokens.last().map(ToString::to_string).unwrap_or_default();
            if tokens.iter().any(|token| is_punct(token, '$')) {
                self.finding(span, "a derive whose name is a macro's parameter");
            } else if !self.may_attach(&name) {
                self.finding(span, format!("the derive `{name}`, which xtask/trusted.toml does not permit"));
            }
        }
    }
}

/// Returns true if a name after these tokens is a part of a path that does not begin with `crate` or
/// `$crate`. The package's root leads to another crate's macro only by an import, and none may have this
/// name.
fn is_below_a_path(before: &[TokenTree]) -> bool {
    let mut rest = before;
    let mut first = None;
    while let [path @ .., a, b] = rest
        && is_punct(a, ':')
        && is_punct(b, ':')
    {
        let Some((TokenTree::Ident(segment), further)) = path.split_last() else { return true };
        first = Some(segment);
        rest = further;
    }
    first.is_some_and(|first| first != "crate")
}

/// Finds imports that give an item the name of a permitted macro, or bring in one with the name of an own
/// macro.
struct Renames<'a, 'b>(&'a mut Reader<'b>);

impl<'ast> Visit<'ast> for Renames<'_, '_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let first = match &item.tree {
            syn::UseTree::Path(path) => path.ident.to_string(),
            _ => String::new(),
        };
        // `use name;` without a path can only mean the macro that the text above defines.
        let is_plain = matches!(item.tree, syn::UseTree::Name(_));
        if item.leading_colon.is_some() || !is_plain && !["crate", "self", "super"].contains(&first.as_str())
        {
            let mut leaves = BTreeSet::new();
            collect_leaves(&item.tree, &mut leaves);
            for name in leaves.intersection(self.0.own) {
                let what = format!("a `use` of another `{name}` than the package's own macro");
                self.0.findings.push(at(self.0.shown, item.use_token.span, what));
            }
        }
        visit::visit_item_use(self, item);
    }

    fn visit_use_rename(&mut self, rename: &'ast syn::UseRename) {
        let name = rename.rename.to_string();
        let permitted = self.0.permitted;
        let taken = permitted.reserved.contains(&name)
            || permitted.usable.contains(&name)
            || self.0.own.contains(&name);
        if rename.ident != name && taken {
            let what = format!("`use .. as {name}` takes the name of a permitted macro");
            self.0.finding(rename.rename.span(), what);
        }
        visit::visit_use_rename(self, rename);
    }
}

/// The names that an import brings in.
fn collect_leaves(tree: &syn::UseTree, leaves: &mut BTreeSet<String>) {
    match tree {
        syn::UseTree::Path(path) => collect_leaves(&path.tree, leaves),
        syn::UseTree::Name(name) => {
            leaves.insert(name.ident.to_string());
        }
        syn::UseTree::Rename(rename) => {
            leaves.insert(rename.rename.to_string());
        }
        syn::UseTree::Group(group) => group.items.iter().for_each(|item| collect_leaves(item, leaves)),
        syn::UseTree::Glob(_) => {}
    }
}

fn is_punct(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

/// Returns the argument if `name` and the tokens after it are a macro's invocation or definition.
fn invocation(name: &str, after: &[TokenTree]) -> Option<Group> {
    let (TokenTree::Punct(bang), rest) = after.split_first()? else { return None };
    if bang.as_char() != '!' || KEYWORDS.contains(&name) {
        return None;
    }
    match rest {
        [TokenTree::Group(group), ..] => Some(group.clone()),
        [TokenTree::Ident(_), TokenTree::Group(group), ..] if name == "macro_rules" => Some(group.clone()),
        _ => None,
    }
}

/// Returns true if a group after these tokens belongs to a macro's name or to an attribute's `#`.
fn is_argument(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(rules), bang, TokenTree::Ident(_)] if rules == "macro_rules" => {
            is_punct(bang, '!')
        }
        [.., hash, bang] if is_punct(hash, '#') && is_punct(bang, '!') => true,
        [.., TokenTree::Ident(name), TokenTree::Punct(bang)] => {
            bang.as_char() == '!' && !KEYWORDS.contains(&name.to_string().as_str())
        }
        [.., hash] => is_punct(hash, '#'),
        [] => false,
    }
}

fn split_at_commas(tokens: TokenStream) -> Vec<TokenStream> {
    let mut parts = vec![TokenStream::new()];
    for token in tokens {
        if is_punct(&token, ',') {
            parts.push(TokenStream::new());
        } else {
            parts.last_mut().expect("there is always a part").extend([token]);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests;
