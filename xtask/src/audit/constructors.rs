//! Safe constructors of the types on which unsafe code relies.
//!
//! A proxy whose core safe code could fill in would be a read and a write of any memory. So the fields of
//! such types are private, and each function that makes one is `unsafe` or on the list in
//! `xtask/constructors.toml` with a reason. The audit finds these types itself: public types of trusted
//! crates that hold a raw pointer, a function pointer, an `UnsafeCell` and the like, that state invariants,
//! or that hold such a type; and the types that the list names besides.
//!
//! A function that a `macro_rules` of the crate generates is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use cargo_metadata::Package;
use quote::ToTokens;
use serde::Deserialize;
use syn::{
    Attribute, GenericArgument, ImplItem, Item, ItemStruct, Meta, PathArguments, ReturnType, Safety,
    Signature, Type, Visibility,
};

use super::Finding;
use super::closure::Closures;
use super::syntax::{SourceFile, attributes, crate_files, is_test_only};
use super::trusted::Trusted;
use crate::workspace::Workspace;

/// The file that findings about the list point at.
const PLACE: &str = "xtask/constructors.toml";

/// Words in a type that only unsafe code gives a meaning.
const RAW: [&str; 8] =
    ["AtomicPtr", "ManuallyDrop", "MaybeUninit", "NonNull", "UnsafeCell", "extern", "fn", "unsafe"];

/// The list.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default, rename = "type")]
    types: Vec<Entry>,
}

/// The safe constructors of one type.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Crate and name.
    name: String,
    /// Functions, constants and derived traits that make one without unsafe code.
    #[serde(default)]
    constructors: BTreeSet<String>,
    /// Fields that are public.
    #[serde(default)]
    fields: BTreeSet<String>,
    /// One sentence: why none of them makes a value with chosen contents.
    reason: String,
}

/// The safe ways to make one type.
#[derive(Default)]
struct Ways {
    constructors: BTreeSet<String>,
    fields: BTreeSet<String>,
}

/// Compares the constructors in the trusted crates of this workspace with the list.
pub(super) fn findings(
    workspace: &Workspace,
    trusted: &Trusted,
    closures: &Closures,
) -> Result<Vec<Finding>> {
    let list = read(&workspace.root.join(PLACE))?;
    let mut found = BTreeMap::new();
    for package in closures.everything() {
        let is_own = workspace.member(&package.name).is_some() && trusted.entry(package).is_some();
        if let Some(library) = library(package).filter(|_| is_own) {
            let files = crate_files(library)?;
            let krate = package.name.replace('-', "_");
            let named = list.types.iter().filter_map(|entry| entry.name.split_once("::"));
            let named = named.filter(|(place, _)| *place == krate).map(|(_, name)| name.to_owned());
            for (name, ways) in Crate::new(&files, named.collect()).ways() {
                found.insert(format!("{krate}::{name}"), ways);
            }
        }
    }
    Ok(compare(&list, &found))
}

fn read(path: &Path) -> Result<List> {
    if !path.exists() {
        return Ok(List::default());
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    toml::from_str(&text).map_err(|error| anyhow!("{PLACE}: {error}"))
}

fn library(package: &Package) -> Option<&Path> {
    let library = package.targets.iter().find(|target| target.is_lib());
    library.map(|target| target.src_path.as_std_path())
}

fn compare(list: &List, found: &BTreeMap<String, Ways>) -> Vec<Finding> {
    let (mut findings, nothing) = (Vec::new(), Ways::default());
    let mut finding = |what: String| findings.push(Finding::new(PLACE, what));
    let listed: BTreeMap<&str, &Entry> = list.types.iter().map(|entry| (&*entry.name, entry)).collect();
    for (name, ways) in found {
        let (constructors, fields) = match listed.get(name.as_str()) {
            Some(entry) => (&entry.constructors, &entry.fields),
            None => (&nothing.constructors, &nothing.fields),
        };
        for way in ways.constructors.difference(constructors) {
            finding(format!("unsafe code relies on {name}, and `{way}` makes one without unsafe code"));
        }
        for field in ways.fields.difference(fields) {
            finding(format!("unsafe code relies on {name}, and its field `{field}` is public"));
        }
    }
    for entry in &list.types {
        let ways = found.get(&entry.name).unwrap_or(&nothing);
        let gone = entry.constructors.difference(&ways.constructors);
        for gone in gone.chain(entry.fields.difference(&ways.fields)) {
            finding(format!("{}: `{gone}` is listed, but is no safe way to make one: remove it", entry.name));
        }
        if !found.contains_key(&entry.name) {
            finding(format!("{} is listed, but there is no such public type: remove it", entry.name));
        }
        if !entry.reason.trim_end().ends_with('.') {
            finding(format!("{} is listed without a reason that is a sentence", entry.name));
        }
    }
    findings
}

/// The items of one crate.
struct Crate<'a> {
    items: Vec<&'a Item>,
    /// The names of the types on which unsafe code relies.
    relied: BTreeSet<String>,
}

impl<'a> Crate<'a> {
    /// Reads a crate. Unsafe code relies on the types in `relied` although they do not look like it.
    fn new(files: &'a [SourceFile], mut relied: BTreeSet<String>) -> Self {
        let mut items = Vec::new();
        for file in files {
            collect(&file.syntax.items, &mut items);
        }
        // Until no further type is found that holds one.
        loop {
            let before = relied.len();
            for item in &items {
                if let Some((name, attributes, content)) = definition(item)
                    && (has_invariants(attributes) || content.iter().any(|ty| is_raw(ty, &relied)))
                {
                    relied.insert(name);
                }
            }
            if relied.len() == before {
                return Self { items, relied };
            }
        }
    }

    /// The safe ways to make each public type on which unsafe code relies.
    fn ways(&self) -> BTreeMap<String, Ways> {
        let mut ways: BTreeMap<String, Ways> = BTreeMap::new();
        for item in &self.items {
            match item {
                Item::Struct(item)
                    if is_public(&item.vis) && self.relied.contains(&item.ident.to_string()) =>
                {
                    ways.entry(item.ident.to_string()).or_default().add_struct(item);
                }
                Item::Enum(item) if is_public(&item.vis) && self.relied.contains(&item.ident.to_string()) => {
                    ways.entry(item.ident.to_string()).or_default();
                }
                _ => {}
            }
        }
        for item in &self.items {
            self.add_functions(item, &mut ways);
        }
        ways
    }

    fn add_functions(&self, item: &Item, ways: &mut BTreeMap<String, Ways>) {
        match item {
            Item::Fn(item) if is_public(&item.vis) => self.add_function(&item.sig, None, "", ways),
            Item::Impl(item) => {
                let own = last_word(&item.self_ty);
                let of_trait = item.trait_.as_ref().map(|(path, _)| path.to_token_stream().to_string());
                let prefix = match (&of_trait, &own) {
                    (Some(of_trait), _) => format!("{}::", of_trait.replace(' ', "")),
                    (None, Some(own)) => format!("{own}::"),
                    (None, None) => String::new(),
                };
                for member in &item.items {
                    match member {
                        ImplItem::Fn(function) if of_trait.is_some() || is_public(&function.vis) => {
                            self.add_function(&function.sig, own.as_deref(), &prefix, ways);
                        }
                        ImplItem::Const(constant) if of_trait.is_some() || is_public(&constant.vis) => {
                            let name = format!("{prefix}{}", constant.ident);
                            self.add(&constant.ty, own.as_deref(), &name, ways);
                        }
                        _ => {}
                    }
                }
            }
            Item::Const(item) if is_public(&item.vis) => {
                self.add(&item.ty, None, &item.ident.to_string(), ways);
            }
            Item::Static(item) if is_public(&item.vis) => {
                self.add(&item.ty, None, &item.ident.to_string(), ways);
            }
            _ => {}
        }
    }

    fn add_function(
        &self,
        signature: &Signature,
        own: Option<&str>,
        prefix: &str,
        ways: &mut BTreeMap<String, Ways>,
    ) {
        let is_unsafe = matches!(signature.safety, Safety::Unsafe(_));
        if let (false, ReturnType::Type(_, ty)) = (is_unsafe, &signature.output) {
            self.add(ty, own, &format!("{prefix}{}", signature.ident), ways);
        }
    }

    /// Adds `name` to each type that is a part of `ty`.
    fn add(&self, ty: &Type, own: Option<&str>, name: &str, ways: &mut BTreeMap<String, Ways>) {
        let mut made = BTreeSet::new();
        made_by(ty, own, &mut made);
        for made in made {
            if let Some(ways) = ways.get_mut(&made) {
                ways.constructors.insert(name.to_owned());
            }
        }
    }
}

impl Ways {
    fn add_struct(&mut self, item: &ItemStruct) {
        for (index, field) in item.fields.iter().enumerate() {
            if is_public(&field.vis) {
                let name = field.ident.as_ref().map_or_else(|| index.to_string(), ToString::to_string);
                self.fields.insert(name);
            }
        }
        for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            let Meta::List(list) = &attribute.meta else { continue };
            let text = list.tokens.to_string();
            // A copy of a value is no value with chosen contents.
            if text.split(',').any(|name| name.trim() == "Default") {
                self.constructors.insert("derive(Default)".to_owned());
            }
        }
    }
}

/// Collects items, those of modules in the same file included, without tests.
fn collect<'a>(items: &'a [Item], into: &mut Vec<&'a Item>) {
    for item in items.iter().filter(|item| !is_test_only(attributes(item))) {
        match item {
            Item::Mod(module) => {
                if let Some((_, inner)) = &module.content {
                    collect(inner, into);
                }
            }
            _ => into.push(item),
        }
    }
}

/// The name, the attributes and the fields' types of a type's definition.
fn definition(item: &Item) -> Option<(String, &[Attribute], Vec<&Type>)> {
    match item {
        Item::Struct(item) => {
            Some((item.ident.to_string(), &item.attrs, item.fields.iter().map(|field| &field.ty).collect()))
        }
        Item::Enum(item) => {
            let fields = item.variants.iter().flat_map(|variant| variant.fields.iter());
            Some((item.ident.to_string(), &item.attrs, fields.map(|field| &field.ty).collect()))
        }
        Item::Union(item) => {
            let fields = item.fields.named.iter().map(|field| &field.ty);
            Some((item.ident.to_string(), &item.attrs, fields.collect()))
        }
        _ => None,
    }
}

/// Returns true if the documentation states invariants.
fn has_invariants(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("doc") && attribute.to_token_stream().to_string().contains("# Invariants")
    })
}

/// Returns true if a value of the type has a meaning that only unsafe code can give it.
fn is_raw(ty: &Type, relied: &BTreeSet<String>) -> bool {
    // The marker of an owned or absent value; it holds none.
    if last_word(ty).as_deref() == Some("PhantomData") {
        return false;
    }
    let mut before = String::new();
    ty.to_token_stream().into_iter().flat_map(flatten).any(|word| {
        let is_pointer = before == "*" && (word == "const" || word == "mut");
        before.clone_from(&word);
        is_pointer || RAW.contains(&word.as_str()) || relied.contains(&word)
    })
}

fn flatten(token: proc_macro2::TokenTree) -> Vec<String> {
    match token {
        proc_macro2::TokenTree::Group(group) => group.stream().into_iter().flat_map(flatten).collect(),
        other => vec![other.to_string()],
    }
}

/// Collects the names of the types of which `ty` holds a value: not behind a reference or a pointer.
fn made_by(ty: &Type, own: Option<&str>, into: &mut BTreeSet<String>) {
    match ty {
        Type::Path(path) => {
            let segments = &path.path.segments;
            if segments.len() > 1 && segments.first().is_some_and(|first| first.ident == "Self") {
                // An associated type.
                return;
            }
            for segment in segments {
                let name = segment.ident.to_string();
                into.insert(if name == "Self" { own.unwrap_or_default().to_owned() } else { name });
                if let PathArguments::AngleBracketed(arguments) = &segment.arguments {
                    for argument in &arguments.args {
                        if let GenericArgument::Type(inner) = argument {
                            made_by(inner, own, into);
                        }
                    }
                }
            }
        }
        Type::Tuple(tuple) => tuple.elems.iter().for_each(|inner| made_by(inner, own, into)),
        Type::Array(array) => made_by(&array.elem, own, into),
        Type::Group(group) => made_by(&group.elem, own, into),
        Type::Paren(paren) => made_by(&paren.elem, own, into),
        _ => {}
    }
}

fn last_word(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
        _ => None,
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The safe ways in one file, as lines.
    fn ways(text: &str) -> Vec<String> {
        let syntax = syn::parse_file(text).expect("the text is Rust");
        let files = [SourceFile { path: "lib.rs".into(), syntax }];
        let found = Crate::new(&files, ["Named".to_owned()].into()).ways();
        let lines = found.iter().flat_map(|(name, ways)| {
            let fields = ways.fields.iter().map(|field| format!("field {field}"));
            ways.constructors.iter().cloned().chain(fields).map(move |way| format!("{name}: {way}"))
        });
        lines.collect()
    }

    #[test]
    fn unsafe_constructors_and_private_fields_are_no_ways() {
        let text = "pub struct Core { target: *mut () }
                    impl Core {
                        pub const unsafe fn new(target: *mut ()) -> Self { Self { target } }
                        fn private() -> Self { loop {} }
                        pub fn target(&self) -> &Core { self }
                    }";
        assert_eq!(ways(text), [] as [&str; 0]);
    }

    #[test]
    fn each_safe_way_is_found() {
        let text = "#[derive(Clone, Default)] pub struct Core { pub target: *mut (), alive: u64 }
                    impl Core { pub fn new() -> Option<Self> { None } pub const NONE: Self = Self {}; }
                    impl From<u64> for Core { fn from(_: u64) -> Self { loop {} } }
                    pub fn free() -> Result<(u8, Core), ()> { Err(()) }
                    pub struct Wrapper(pub Core);
                    pub struct Plain(pub u64);
                    pub struct Named(pub u64);";
        let expected = [
            "Core: Core::NONE",
            "Core: Core::new",
            "Core: From<u64>::from",
            "Core: derive(Default)",
            "Core: free",
            "Core: field target",
            "Named: field 0",
            "Wrapper: field 0",
        ];
        assert_eq!(ways(text), expected);
    }

    #[test]
    fn stated_invariants_make_a_type_one_that_unsafe_code_relies_on() {
        let text = "/// A number.\n///\n/// # Invariants\n/// - It is even.\npub struct Even(pub u64);";
        assert_eq!(ways(text), ["Even: field 0"]);
    }

    #[test]
    fn list_and_source_are_compared_both_ways() {
        let entry = |constructor: &str| Entry {
            name: "a::T".to_owned(),
            constructors: [constructor.to_owned()].into(),
            fields: BTreeSet::new(),
            reason: "Needed.".to_owned(),
        };
        let ways = Ways { constructors: ["T::new".to_owned()].into(), fields: BTreeSet::new() };
        let found = BTreeMap::from([("a::T".to_owned(), ways)]);
        let compared = |list: List| {
            compare(&list, &found).iter().map(|finding| finding.what.clone()).collect::<Vec<_>>()
        };
        assert_eq!(compared(List { types: vec![entry("T::new")] }), [] as [&str; 0]);
        let unlisted = "unsafe code relies on a::T, and `T::new` makes one without unsafe code";
        assert_eq!(compared(List::default()), [unlisted]);
        let stale = "a::T: `T::old` is listed, but is no safe way to make one: remove it";
        assert_eq!(compared(List { types: vec![entry("T::old")] }), [unlisted, stale]);
    }
}
