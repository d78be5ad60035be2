//! A lint on known holes of rustc: safe code that the compiler accepts although it is unsound.
//!
//! Nothing but a corrected compiler closes these holes. Their published forms share a few shapes of
//! declarations, which no package of this tree needs. Each shape is a finding. An author who needs one in
//! earnest states the missing bound, which makes it sound, or changes the shape.
//!
//! - A signature that relies on an implied bound between two lifetimes, and passes data of the shorter one on
//!   as data of the longer one (rust-lang/rust 25860, 157316, 84591, 100051).
//! - An implementation, or a `for<..>` bound, with a reference of one of its lifetimes to data of another
//!   (84591, 100051).
//! - A trait object, or a supertrait, that fixes an associated type (57893, 114389, 152783).
//! - An associated type in an implementation for every type (57893, 91068, 100051).
//! - `'static` required of a type, and an associated type of it taken as a parameter (84366).
//! - A function type that is `'static` and mentions a lifetime (112905).
//! - `Any`, by which closures that differ in lifetimes are the same type (84366, 112905).
//!
//! Measured on rustc 1.95: the tests hold a program for each that this compiler accepts. docs/safety.md says
//! what the lint cannot see.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{
    FnArg, GenericArgument, GenericParam, Generics, ImplItem, ItemImpl, ItemTrait, Path, PathArguments,
    ReceiverKind, ReturnType, Signature, Token, Type, TypeParamBound, WherePredicate, parse_quote,
};

use super::Finding;
use super::syntax::{SourceFile, is_test_only};

/// Lints one file, which is displayed as `shown`.
pub(crate) fn audit(file: &SourceFile, shown: &str) -> Vec<Finding> {
    let mut lint = Lint { shown, scopes: Vec::new(), findings: Vec::new() };
    lint.visit_file(&file.syntax);
    lint.findings
}

/// The header of an implementation or trait around a function.
#[derive(Clone, Default)]
struct Scope {
    /// Types of the header, which hold the same implied bounds as parameters.
    header: Vec<Type>,
    /// The type that `Self` stands for.
    own: Option<Type>,
    generics: Generics,
}

struct Lint<'a> {
    shown: &'a str,
    scopes: Vec<Scope>,
    findings: Vec<Finding>,
}

impl Lint<'_> {
    fn finding(&mut self, span: Span, what: impl Into<String>) {
        self.findings.push(Finding::new(format!("{}:{}", self.shown, span.start().line), what));
    }

    fn function(&mut self, signature: &Signature) {
        let scope = self.scopes.last().cloned().unwrap_or_default();
        let mut bounds = Bounds::of(&scope.generics);
        bounds.extend(&signature.generics);
        let mut mentions = Mentions::new(scope.own.as_ref());
        for ty in &scope.header {
            mentions.take(ty, Part::Header);
        }
        for input in &signature.inputs {
            match input {
                FnArg::Typed(input) => mentions.take(&input.ty, Part::Input),
                FnArg::Receiver(receiver) => {
                    let ty = receiver_type(&receiver.kind);
                    mentions.take(&ty, Part::Input);
                    if let Type::Reference(_) = &ty {
                        // The output's omitted lifetimes are that of the reference, the first one taken.
                        mentions.receiver = mentions.first_of_last.clone();
                    }
                }
            }
        }
        mentions.end_inputs();
        if let ReturnType::Type(_, ty) = &signature.output {
            mentions.take(ty, Part::Output);
        }
        for (outer, inner) in mentions.pairs() {
            if !bounds.outlives(&inner, &outer) && mentions.moves(&outer, &inner) {
                self.finding(
                    signature.ident.span(),
                    format!(
                        "the signature of `{}` relies on {inner} outliving {outer} without saying so \
                         (rust-lang/rust 25860): state the bound `{inner}: {outer}`",
                        signature.ident
                    ),
                );
            }
        }
        self.projections(signature, &scope.generics);
    }

    /// Finds parameters of an associated type of a type that is `'static`: of some closures it is not.
    fn projections(&mut self, signature: &Signature, outer: &Generics) {
        let mut limited = BTreeSet::new();
        let mut said = BTreeSet::new();
        for generics in [outer, &signature.generics] {
            for (name, bounds) in type_bounds(generics) {
                let is_static = bounds.iter().any(is_static);
                if is_static && name.contains("::") {
                    said.insert(name);
                } else if is_static {
                    limited.insert(name);
                }
            }
        }
        let mut found = Projections { of: &limited, found: Vec::new() };
        for input in &signature.inputs {
            found.visit_fn_arg(input);
        }
        for (name, text, span) in found.found {
            if !said.contains(&text) {
                let what = format!(
                    "takes `{text}` where {name} is 'static, which {text} need not be (rust-lang/rust 84366): \
                     state the bound `{text}: 'static`"
                );
                self.finding(span, what);
            }
        }
    }

    fn implementation(&mut self, item: &ItemImpl) {
        let has_type = item.items.iter().any(|item| matches!(item, ImplItem::Type(_)));
        let parameters: BTreeSet<String> = item.generics.type_params().map(|p| p.ident.to_string()).collect();
        if let Type::Path(own) = &*item.self_ty
            && has_type
        {
            let is_parameter =
                own.path.get_ident().is_some_and(|name| parameters.contains(&name.to_string()));
            if is_parameter || own.qself.is_some() {
                self.finding(
                    item.self_ty.span(),
                    "an associated type in an implementation for types that include trait objects \
                     (rust-lang/rust 57893)",
                );
            }
        }
        let bounds = Bounds::of(&item.generics);
        let mut mentions = Mentions::new(None);
        mentions.only_references = true;
        mentions.take(&item.self_ty, Part::Header);
        if let Some((path, _)) = &item.trait_ {
            for ty in arguments(path) {
                mentions.only_references = false;
                mentions.take(ty, Part::Header);
            }
        }
        let own: BTreeSet<String> = item.generics.lifetimes().map(|l| l.lifetime.to_string()).collect();
        for (outer, inner) in mentions.pairs() {
            if own.contains(&outer) && own.contains(&inner) && !bounds.outlives(&inner, &outer) {
                let what = format!(
                    "the implementation relies on {inner} outliving {outer} without saying so (rust-lang/rust \
                     84591): state the bound `{inner}: {outer}`"
                );
                self.finding(item.self_ty.span(), what);
            }
        }
    }

    /// Finds shapes in tokens that no parser sees as types: arguments and definitions of macros.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let after = &tokens[index + 1..];
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(word) if word == "dyn" && fixes_a_type(after) => {
                    self.finding(word.span(), FIXED);
                }
                TokenTree::Ident(word) if word == "Any" => self.finding(word.span(), ANY),
                TokenTree::Punct(mark) if mark.as_char() == '&' => {
                    // `& 'a & 'b`: an apostrophe and a name are two tokens.
                    let text: Vec<String> = after.iter().take(5).map(ToString::to_string).collect();
                    let text: Vec<&str> =
                        text.iter().map(String::as_str).filter(|word| *word != "mut").collect();
                    if let ["'", outer, "&", "'", inner, ..] = text.as_slice()
                        && outer != inner
                        && *inner != "static"
                    {
                        self.finding(
                            mark.span(),
                            "a macro with a reference of one lifetime to a reference of another \
                             (rust-lang/rust 25860)",
                        );
                    }
                }
                _ => {}
            }
        }
    }
}

const FIXED: &str = "a trait object or supertrait that fixes an associated type (rust-lang/rust 57893)";
const ANY: &str =
    "`Any`, which takes closures that differ in lifetimes for one type (rust-lang/rust 84366, 112905)";

/// Returns true if tokens after `dyn` have an equals sign between angle brackets.
fn fixes_a_type(after: &[TokenTree]) -> bool {
    let mut depth = 0;
    for token in after {
        match token {
            TokenTree::Punct(mark) => match mark.as_char() {
                '<' => depth += 1,
                '>' => depth -= 1,
                '=' if depth > 0 => return true,
                ';' | '=' => return false,
                ',' if depth == 0 => return false,
                _ => {}
            },
            TokenTree::Group(group) if group.delimiter() == proc_macro2::Delimiter::Brace => return false,
            _ => {}
        }
    }
    false
}

impl<'ast> Visit<'ast> for Lint<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !is_test_only(super::syntax::attributes(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.implementation(item);
        let mut header = vec![(*item.self_ty).clone()];
        if let Some((path, _)) = &item.trait_ {
            header.extend(arguments(path).cloned());
        }
        self.scopes.push(Scope {
            header,
            own: Some((*item.self_ty).clone()),
            generics: item.generics.clone(),
        });
        visit::visit_item_impl(self, item);
        self.scopes.pop();
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        let own_bounds = type_bounds(&item.generics).into_iter().filter(|(name, _)| name == "Self");
        let supertraits = item.supertraits.iter().cloned().chain(own_bounds.flat_map(|(_, bounds)| bounds));
        for bound in supertraits {
            if let TypeParamBound::Trait(bound) = &bound
                && binds(&bound.path)
            {
                self.finding(item.ident.span(), FIXED);
            }
        }
        self.scopes.push(Scope { header: Vec::new(), own: None, generics: item.generics.clone() });
        visit::visit_item_trait(self, item);
        self.scopes.pop();
    }

    fn visit_signature(&mut self, signature: &'ast Signature) {
        self.function(signature);
        visit::visit_signature(self, signature);
    }

    fn visit_type_trait_object(&mut self, object: &'ast syn::TypeTraitObject) {
        for bound in &object.bounds {
            if let TypeParamBound::Trait(bound) = bound
                && binds(&bound.path)
            {
                self.finding(bound.span(), FIXED);
            }
        }
        visit::visit_type_trait_object(self, object);
    }

    fn visit_type_impl_trait(&mut self, opaque: &'ast syn::TypeImplTrait) {
        let mut mentions = Mentions::new(None);
        for bound in &opaque.bounds {
            if let TypeParamBound::Trait(bound) = bound {
                mentions.functions(&bound.path);
            }
        }
        if opaque.bounds.iter().any(is_static) && mentions.has_named() {
            self.finding(
                opaque.span(),
                "a function type that is 'static and mentions a lifetime (rust-lang/rust 112905)",
            );
        }
        visit::visit_type_impl_trait(self, opaque);
    }

    fn visit_trait_bound(&mut self, bound: &'ast syn::TraitBound) {
        if let Some(binder) = &bound.lifetimes {
            let own: BTreeSet<String> = binder
                .lifetimes
                .iter()
                .filter_map(|parameter| match parameter {
                    GenericParam::Lifetime(lifetime) => Some(lifetime.lifetime.to_string()),
                    _ => None,
                })
                .collect();
            let mut mentions = Mentions::new(None);
            mentions.only_references = true;
            for ty in arguments(&bound.path) {
                mentions.take(ty, Part::Header);
            }
            let pairs = mentions.pairs();
            if pairs.iter().any(|(outer, inner)| own.contains(outer) && own.contains(inner)) {
                self.finding(
                    bound.span(),
                    "a `for<..>` bound with a reference of one of its lifetimes to data of another \
                     (rust-lang/rust 84591)",
                );
            }
        }
        visit::visit_trait_bound(self, bound);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.last().is_some_and(|last| last.ident == "Any") {
            self.finding(path.span(), ANY);
        }
        visit::visit_path(self, path);
    }

    fn visit_use_tree(&mut self, tree: &'ast syn::UseTree) {
        let name = match tree {
            syn::UseTree::Name(name) => Some(&name.ident),
            syn::UseTree::Rename(rename) => Some(&rename.ident),
            _ => None,
        };
        if let Some(name) = name.filter(|name| *name == "Any") {
            self.finding(name.span(), ANY);
        }
        visit::visit_use_tree(self, tree);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}

/// The types among a path's generic arguments.
fn arguments(path: &Path) -> impl Iterator<Item = &Type> {
    path.segments
        .iter()
        .flat_map(|segment| match &segment.arguments {
            PathArguments::AngleBracketed(list) => list.args.iter().collect::<Vec<_>>(),
            _ => Vec::new(),
        })
        .filter_map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty),
            _ => None,
        })
}

/// Returns true if a path fixes an associated type: `Trait<Name = Type>`.
fn binds(path: &Path) -> bool {
    path.segments.iter().any(|segment| match &segment.arguments {
        PathArguments::AngleBracketed(list) => {
            list.args.iter().any(|argument| matches!(argument, GenericArgument::AssocType(_)))
        }
        _ => false,
    })
}

/// The type of a method's receiver, written out.
fn receiver_type(kind: &ReceiverKind) -> Type {
    match kind {
        ReceiverKind::Reference(_, lifetime, _) => parse_quote!(& #lifetime Self),
        ReceiverKind::Typed(_, ty) => (**ty).clone(),
        _ => parse_quote!(Self),
    }
}

fn is_static(bound: &TypeParamBound) -> bool {
    matches!(bound, TypeParamBound::Lifetime(lifetime) if lifetime.ident == "static")
}

/// The bounds of each type, by its text: of parameters, and of `where` clauses.
fn type_bounds(generics: &Generics) -> Vec<(String, Vec<TypeParamBound>)> {
    let mut bounds = Vec::new();
    for parameter in generics.type_params() {
        bounds.push((parameter.ident.to_string(), parameter.bounds.iter().cloned().collect()));
    }
    for predicate in generics.where_clause.iter().flat_map(|clause| &clause.predicates) {
        if let WherePredicate::Type(predicate) = predicate {
            bounds.push((text(&predicate.bounded_ty), predicate.bounds.iter().cloned().collect()));
        }
    }
    bounds
}

fn text(tokens: &impl quote::ToTokens) -> String {
    tokens.to_token_stream().to_string().replace(' ', "")
}

/// Finds associated types of certain type parameters.
struct Projections<'a> {
    of: &'a BTreeSet<String>,
    found: Vec<(String, String, Span)>,
}

impl<'ast> Visit<'ast> for Projections<'_> {
    fn visit_type_path(&mut self, path: &'ast syn::TypePath) {
        let base = match &path.qself {
            Some(qself) => Some(text(&qself.ty)),
            None if path.path.segments.len() > 1 => {
                path.path.segments.first().map(|first| text(&first.ident))
            }
            None => None,
        };
        if let Some(base) = base.filter(|base| self.of.contains(base)) {
            self.found.push((base, text(path), path.span()));
        }
        visit::visit_type_path(self, path);
    }
}

/// Bounds between lifetimes that are stated.
#[derive(Default)]
struct Bounds(BTreeMap<String, BTreeSet<String>>);

impl Bounds {
    fn of(generics: &Generics) -> Self {
        let mut bounds = Self::default();
        bounds.extend(generics);
        bounds
    }

    fn extend(&mut self, generics: &Generics) {
        let mut add = |lifetime: &syn::Lifetime, bounds: &Punctuated<syn::Lifetime, Token![+]>| {
            let entry = self.0.entry(lifetime.to_string()).or_default();
            entry.extend(bounds.iter().map(ToString::to_string));
        };
        for parameter in generics.lifetimes() {
            add(&parameter.lifetime, &parameter.bounds);
        }
        for predicate in generics.where_clause.iter().flat_map(|clause| &clause.predicates) {
            if let WherePredicate::Lifetime(predicate) = predicate {
                add(&predicate.lifetime, &predicate.bounds);
            }
        }
    }

    /// Returns true if `longer` is stated to outlive `shorter`, in one step or several.
    fn outlives(&self, longer: &str, shorter: &str) -> bool {
        let mut open = vec![longer];
        let mut seen = BTreeSet::new();
        while let Some(lifetime) = open.pop() {
            if lifetime == shorter {
                return true;
            }
            if seen.insert(lifetime) {
                open.extend(self.0.get(lifetime).into_iter().flatten().map(String::as_str));
            }
        }
        false
    }
}

/// A part of a signature.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The implementation's or trait's header.
    Header,
    Input,
    Output,
}

/// One lifetime at one place of a signature.
struct Mention {
    name: String,
    part: Part,
    /// The type of the signature that it is in.
    place: usize,
    /// Lifetimes that it has to outlive at this place.
    under: Vec<String>,
}

/// All lifetimes that a signature mentions.
struct Mentions<'a> {
    own: Option<&'a Type>,
    all: Vec<Mention>,
    under: Vec<String>,
    part: Part,
    place: usize,
    omitted: usize,
    /// The lifetime of a receiver that is a reference.
    receiver: Option<String>,
    first_of_last: Option<String>,
    /// Takes only references for nesting, not generic arguments beside each other.
    only_references: bool,
}

impl<'a> Mentions<'a> {
    fn new(own: Option<&'a Type>) -> Self {
        Self {
            own,
            all: Vec::new(),
            under: Vec::new(),
            part: Part::Header,
            place: 0,
            omitted: 0,
            receiver: None,
            first_of_last: None,
            only_references: false,
        }
    }

    fn take(&mut self, ty: &Type, part: Part) {
        self.part = part;
        self.place += 1;
        let before = self.all.len();
        self.visit_type(ty);
        self.first_of_last = self.all.get(before).map(|first| first.name.clone());
    }

    /// Determines the lifetime that omitted ones in the output stand for.
    fn end_inputs(&mut self) {
        if self.receiver.is_none() {
            let inputs = self.all.iter().filter(|mention| mention.part == Part::Input);
            let names: BTreeSet<&String> = inputs.map(|mention| &mention.name).collect();
            if let Some(name) = names.first().filter(|_| names.len() == 1) {
                self.receiver = Some((*name).clone());
            }
        }
    }

    /// The lifetimes inside the arguments of a function trait: `Fn(&'a u8) -> &'a u8`.
    fn functions(&mut self, path: &Path) {
        for segment in &path.segments {
            if let PathArguments::Parenthesized(list) = &segment.arguments {
                list.inputs.iter().for_each(|input| self.take(&input.ty, Part::Input));
                if let ReturnType::Type(_, ty) = &list.output {
                    self.take(ty, Part::Output);
                }
            }
        }
    }

    fn has_named(&self) -> bool {
        self.all.iter().any(|mention| mention.name != "'static" && !mention.name.starts_with("'_"))
    }

    fn mention(&mut self, name: Option<&syn::Lifetime>) -> String {
        let name = match name {
            Some(name) if name.ident != "_" => name.to_string(),
            _ if self.part == Part::Output => self.receiver.clone().unwrap_or_else(|| "'_".to_owned()),
            _ => {
                self.omitted += 1;
                format!("'_{}", self.omitted)
            }
        };
        let (part, place, under) = (self.part, self.place, self.under.clone());
        self.all.push(Mention { name: name.clone(), part, place, under });
        name
    }

    /// Pairs of a lifetime and another one that an implied bound makes outlive it.
    fn pairs(&self) -> BTreeSet<(String, String)> {
        let mut pairs = BTreeSet::new();
        for mention in &self.all {
            for outer in &mention.under {
                if *outer != mention.name && outer != "'static" && mention.name != "'static" {
                    pairs.insert((outer.clone(), mention.name.clone()));
                }
            }
        }
        pairs
    }

    /// Returns true if data of the lifetime `inner` comes in at a place without the implied bound, and data
    /// of the lifetime `outer` goes out by another one.
    fn moves(&self, outer: &str, inner: &str) -> bool {
        let is_witness = |place: usize| {
            let mut at = self.all.iter().filter(|mention| mention.place == place && mention.name == inner);
            at.any(|mention| mention.under.iter().any(|name| name == outer))
        };
        let comes_in = self.all.iter().any(|mention| {
            mention.part == Part::Input
                && mention.name == inner
                && !mention.under.iter().any(|name| name == outer)
        });
        let goes_out = self.all.iter().any(|mention| {
            mention.name == outer
                && (mention.part == Part::Output || mention.part == Part::Input && !is_witness(mention.place))
        });
        comes_in && goes_out
    }
}

impl<'ast> Visit<'ast> for Mentions<'_> {
    fn visit_type_reference(&mut self, reference: &'ast syn::TypeReference) {
        let name = self.mention(reference.lifetime.as_ref());
        self.under.push(name);
        self.visit_type(&reference.elem);
        self.under.pop();
    }

    fn visit_type_path(&mut self, path: &'ast syn::TypePath) {
        if path.qself.is_none()
            && path.path.is_ident("Self")
            && let Some(own) = self.own
        {
            // Its lifetimes are named, since it is a header's type; `Self` in it would be a circle.
            let own = own.clone();
            let outer = self.own.take();
            self.visit_type(&own);
            self.own = outer;
            return;
        }
        visit::visit_type_path(self, path);
    }

    fn visit_angle_bracketed_generic_arguments(&mut self, list: &'ast syn::AngleBracketedGenericArguments) {
        // The type's definition may bound each of its lifetimes by each other one, and its types too.
        let own: Vec<String> = list
            .args
            .iter()
            .filter_map(|argument| match argument {
                GenericArgument::Lifetime(lifetime) if lifetime.ident != "_" => Some(lifetime.to_string()),
                _ => None,
            })
            .collect();
        let depth = self.under.len();
        // In an output, which the caller receives, such a bound takes effect with the value.
        if !self.only_references && self.part != Part::Output {
            self.under.extend(own);
        }
        visit::visit_angle_bracketed_generic_arguments(self, list);
        self.under.truncate(depth);
    }

    fn visit_lifetime(&mut self, lifetime: &'ast syn::Lifetime) {
        self.mention(Some(lifetime));
    }

    fn visit_bound_lifetimes(&mut self, _: &'ast syn::BoundLifetimes) {
        // They are declared here, and mentioned where they are used.
    }
}

#[cfg(test)]
mod tests;
