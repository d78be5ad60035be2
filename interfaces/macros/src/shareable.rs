//! `#[derive(Shareable)]`, `#[derive(Flat)]` and `#[derive(AnyBits)]`.

use proc_macro2::TokenStream;
use quote::{ToTokens, format_ident, quote};
use syn::{Data, DeriveInput, Error, Field, Fields, Index, Result};

use crate::package;

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let name = &input.ident;
    let label = name.to_string();
    let (generics, arguments, clause) = input.generics.split_for_impl();
    refuse_lifetimes(input)?;
    let fields = all_fields(input)?;
    let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
    let package = package::identity("#[derive(Shareable)]")?;
    let shape = shape(input);
    let roots = visit_roots(input);
    Ok(quote! {
        // SAFETY: the derive visits every field, and each is `Shareable`.
        #[diagnostic::do_not_recommend]
        unsafe impl #generics ::coppice_rref::Shareable for #name #arguments #clause {
            // With its package and path, so that a look-alike in another crate is another type.
            const SHAPE: ::coppice_rref::Fingerprint = ::coppice_rref::fingerprint("type")
                .text(#package)
                .text(::core::module_path!())
                .text(#label)
                #shape
                .number(::core::mem::size_of::<Self>() as u64)
                .number(::core::mem::align_of::<Self>() as u64)
                .finish();
            const ROOTS: bool = false #(|| <#types as ::coppice_rref::Shareable>::ROOTS)*;
            #[inline(always)]
            fn for_each_root<Visit: ::core::ops::FnMut(&::coppice_rref::Header)>(&self, visit: &mut Visit) {
                #roots
            }
            fn for_each_type(visit: &mut dyn ::core::ops::FnMut(::coppice_rref::TypeEntry)) {
                #(<#types as ::coppice_rref::Shareable>::for_each_type(visit);)*
                let _ = visit;
            }
        }
    })
}

pub(crate) fn expand_flat(input: &DeriveInput) -> Result<TokenStream> {
    // `RRef` refuses a flat type with a destructor.
    expand_marker(input, &quote!(::coppice_rref::Flat))
}

pub(crate) fn expand_any_bits(input: &DeriveInput) -> Result<TokenStream> {
    if let Data::Enum(_) = input.data {
        return Err(Error::new_spanned(&input.ident, "some bytes are no value of an enum"));
    }
    expand_marker(input, &quote!(::coppice_rref::AnyBits))
}

/// Implements `marker` for a type whose fields all have it.
fn expand_marker(input: &DeriveInput, marker: &TokenStream) -> Result<TokenStream> {
    package::identity(&format!("#[derive({})]", name_of(marker)))?;
    let name = &input.ident;
    let mut with_bounds = input.generics.clone();
    let clause = with_bounds.make_where_clause();
    for field in all_fields(input)? {
        let ty = &field.ty;
        clause.predicates.push(syn::parse_quote!(#ty: #marker));
    }
    let (generics, _, clause) = with_bounds.split_for_impl();
    let (_, arguments, _) = input.generics.split_for_impl();
    Ok(quote! {
        // SAFETY: the marker's contract holds for a type if it holds for each field.
        unsafe impl #generics #marker for #name #arguments #clause {}
    })
}

fn refuse_lifetimes(input: &DeriveInput) -> Result<()> {
    match input.generics.lifetimes().next() {
        None => Ok(()),
        Some(lifetime) => Err(Error::new_spanned(
            lifetime,
            "a type that crosses a domain boundary borrows nothing: lend an RRef instead",
        )),
    }
}

fn all_fields(input: &DeriveInput) -> Result<Vec<&Field>> {
    match &input.data {
        Data::Struct(data) => Ok(data.fields.iter().collect()),
        Data::Enum(data) => Ok(data.variants.iter().flat_map(|variant| &variant.fields).collect()),
        Data::Union(_) => Err(Error::new_spanned(
            &input.ident,
            "a union does not say which field it holds, so it cannot cross",
        )),
    }
}

/// The last word of a marker's path.
fn name_of(marker: &TokenStream) -> String {
    marker.clone().into_iter().last().map(|word| word.to_string()).unwrap_or_default()
}

/// Adds the constants among the parameters, the attributes of the layout, and the fields' names, shapes and
/// offsets to a fingerprint. An enum's fields have no `offset_of`; their names, their order, the
/// discriminants and the whole size stand for the offsets, since both sides come from one compiler.
fn shape(input: &DeriveInput) -> TokenStream {
    let constants = input.generics.const_params().map(|parameter| {
        let name = &parameter.ident;
        quote!(.number((#name as u128) as u64).number(((#name as u128) >> 64) as u64))
    });
    let layout = input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr"));
    let layout = layout.map(|attribute| {
        let text = attribute.meta.to_token_stream().to_string();
        quote!(.text(#text))
    });
    let content = content(input);
    quote!(#(#constants)* #(#layout)* #content)
}

fn content(input: &DeriveInput) -> TokenStream {
    match &input.data {
        Data::Struct(data) => fields_shape(&data.fields, true),
        Data::Enum(data) => data
            .variants
            .iter()
            .map(|variant| {
                let label = variant.ident.to_string();
                let fields = fields_shape(&variant.fields, false);
                let discriminant =
                    variant.discriminant.as_ref().map(|(_, value)| quote!(.number((#value) as i128 as u64)));
                quote!(.text(#label) #discriminant #fields)
            })
            .collect(),
        Data::Union(_) => TokenStream::new(),
    }
}

fn fields_shape(fields: &Fields, with_offsets: bool) -> TokenStream {
    let mut shape = TokenStream::new();
    for (index, field) in fields.iter().enumerate() {
        let ty = &field.ty;
        let (label, member) = match &field.ident {
            Some(ident) => (ident.to_string(), quote!(#ident)),
            None => {
                let index = Index::from(index);
                (index.index.to_string(), quote!(#index))
            }
        };
        shape.extend(quote!(.text(#label).with(<#ty as ::coppice_rref::Shareable>::SHAPE)));
        if with_offsets {
            shape.extend(quote!(.number(::core::mem::offset_of!(Self, #member) as u64)));
        }
    }
    shape
}

fn visit_roots(input: &DeriveInput) -> TokenStream {
    match &input.data {
        Data::Struct(data) => {
            let members = data.fields.members();
            quote!(#(::coppice_rref::Shareable::for_each_root(&self.#members, visit);)* let _ = visit;)
        }
        Data::Enum(data) => {
            let arms = data.variants.iter().map(|variant| {
                let name = &variant.ident;
                let members: Vec<_> = variant.fields.members().collect();
                let names: Vec<_> = (0..members.len()).map(|index| format_ident!("field{index}")).collect();
                quote!(Self::#name { #(#members: ref #names),* } => {
                    #(::coppice_rref::Shareable::for_each_root(#names, visit);)*
                })
            });
            quote!(let _ = &visit; match *self { #(#arms)* })
        }
        Data::Union(_) => TokenStream::new(),
    }
}
