//! `#[derive(Imports)]`.

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
    let count = fields.named.len();
    let members: Vec<_> = fields.named.iter().map(|field| &field.ident).collect();
    let labels: Vec<_> =
        members.iter().map(|member| member.as_ref().map(ToString::to_string).unwrap_or_default()).collect();
    let types: Vec<_> = fields.named.iter().map(|field| &field.ty).collect();
    Ok(quote! {
        // SAFETY: `take` takes the handles in the order of `NOTES`, each as the interface that its note
        // names.
        unsafe impl ::coppice_interfaces::Imports for #name {
            type Notes = [::coppice_interfaces::private::abi::note::Note<::coppice_interfaces::private::abi::note::Wire>; #count];
            const NOTES: Self::Notes = [
                #(::coppice_interfaces::import_note::<#types>(#labels)),*
            ];
            fn take(handles: &mut ::coppice_interfaces::RawHandles<'_>) -> Self {
                // Struct fields are evaluated in the order written, which is that of `NOTES`.
                Self { #(#members: <#types as ::coppice_interfaces::Import>::take(handles)),* }
            }
        }
    })
}
