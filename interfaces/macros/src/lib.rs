//! `#[interface]`, and the derives for types that may cross a domain boundary.
//!
//! Part of the trusted set: their expansions contain `unsafe`, which relies on the checks that these macros
//! make. The rules for users are documented in `coppice_interfaces` and at `coppice_rref::Shareable`.

mod imports;
mod interface;
mod package;
mod recovery;
mod shareable;

use proc_macro::TokenStream;
use syn::parse_macro_input;

/// Makes a trait an interface: adds its proxy, its fingerprint and `<dyn Trait>::export`.
///
/// Each method takes `&self`, arguments that are `Shareable` (moved) or `&RRef<T>` (borrowed for the call),
/// and returns `RpcResult<T>` with a `Shareable` `T`. The trait has no generics, no associated items and no
/// default bodies.
///
/// `#[retry]`, `#[replay]`, `#[replay(last)]` or `#[fail]` on each method says how a call survives a crash,
/// and makes the macro write a shadow: see `coppice_interfaces::shadow`. These attributes are no part of the
/// fingerprint, since they do not change the values that cross.
#[proc_macro_attribute]
pub fn interface(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let attribute = proc_macro2::TokenStream::from(attribute);
    let item = parse_macro_input!(item as syn::ItemTrait);
    interface::expand(attribute, item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `coppice_rref::Shareable` for a struct or enum whose fields all are.
#[proc_macro_derive(Shareable)]
pub fn shareable(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    shareable::expand(&item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `coppice_rref::Flat` for a struct or enum whose fields all are.
#[proc_macro_derive(Flat)]
pub fn flat(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    shareable::expand_flat(&item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements `coppice_rref::AnyBits` for a struct whose fields all are.
#[proc_macro_derive(AnyBits)]
pub fn any_bits(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    shareable::expand_any_bits(&item).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Makes a struct of `Handle`s the imports of a domain: the manifest wires each field by its name.
#[proc_macro_derive(Imports)]
pub fn imports(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as syn::DeriveInput);
    imports::expand(&item).unwrap_or_else(syn::Error::into_compile_error).into()
}
