//! `#[derive(Imports)]`.
//!
//! Domains use this macro, so it expands to safe code: a domain that redirects the paths in it gains no more
//! than by writing an implementation itself.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, Result};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    const SHAPE: &str = "imports are a struct without generics whose named fields are `Handle`s";
    let Data::Struct(data) = &input.data else { return Err(Error::new_spanned(&input.ident, SHAPE)) };
    let Fields::Named(fields) = &data.fields else { return Err(Error::new_spanned(&input.ident, SHAPE)) };
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, SHAPE));
    }
    let name = &input.ident;
    let members: Vec<_> = fields.named.iter().map(|field| &field.ident).collect();
    let labels = members.iter().map(|member| member.as_ref().map(ToString::to_string).unwrap_or_default());
    // From the last field to the first, since a list ends in `()`.
    let reversed = || fields.named.iter().rev();
    let types = reversed().fold(quote!(()), |rest, field| {
        let ty = &field.ty;
        quote!((#ty, #rest))
    });
    let pattern = reversed().fold(quote!(()), |rest, field| {
        let member = &field.ident;
        quote!((#member, #rest))
    });
    Ok(quote! {
        impl ::coppice_interfaces::Imports for #name {
            type Handles = #types;
            const NAMES: &'static [&'static str] = &[#(#labels),*];
            fn from_handles(#pattern: Self::Handles) -> Self {
                Self { #(#members),* }
            }
        }
    })
}
