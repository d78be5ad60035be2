//! `#[interface]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Error, FnArg, GenericArgument, Ident, ItemTrait, Pat, PathArguments, Result, ReturnType, TraitItem,
    TraitItemFn, Type,
};

use crate::package;
use crate::recovery::{self, Recovery};

pub(crate) fn expand(attribute: TokenStream, mut item: ItemTrait) -> Result<TokenStream> {
    if !attribute.is_empty() {
        return Err(Error::new_spanned(attribute, "#[interface] takes no arguments"));
    }
    refuse(&item.generics.params, "an interface has no generics: its proxy is made once, in the kernel")?;
    refuse(&item.supertraits, "an interface stands alone: `Send + Sync + 'static` are implied")?;
    refuse(&item.generics.where_clause, "an interface stands alone: it has no `where` clause")?;
    if item.unsafety.is_some() {
        return Err(Error::new_spanned(item.unsafety, "domains cannot implement an unsafe trait"));
    }
    let items = item.items.clone();
    let methods = items.iter().map(Method::parse).collect::<Result<Vec<_>>>()?;

    let package = package::identity("#[interface]")?;
    let name = &item.ident;
    let label = name.to_string();
    let visibility = &item.vis;
    let proxy = format_ident!("{name}Proxy");
    let calls = methods.iter().map(|method| method.call(name));
    let shapes = methods.iter().map(Method::shape);
    let types = methods.iter().flat_map(Method::types).collect::<Vec<_>>();
    let shadow = recovery::shadow(name, &methods)?;
    item.supertraits = syn::parse_quote!(::core::marker::Send + ::core::marker::Sync + 'static);

    for (member, method) in item.items.iter_mut().zip(&methods) {
        if let TraitItem::Fn(source) = member {
            recovery::document(source, method.recovery);
        }
    }

    let proxy_doc = format!("Carries calls of [`{label}`] into the domain that exported the object.");
    let export_doc = "Makes `target` callable by other domains. Returns a handle that any domain may hold.";
    Ok(quote! {
        #item

        #[doc = #proxy_doc]
        #[doc(hidden)]
        #[repr(transparent)]
        #visibility struct #proxy(::coppice_interfaces::ProxyCore);

        impl #name for #proxy {
            #(#calls)*
        }

        // SAFETY: the proxy is transparent over `ProxyCore`, and `from_raw` undoes `as_raw`.
        #[diagnostic::do_not_recommend]
        unsafe impl ::coppice_interfaces::Interface for dyn #name {
            const NAME: &'static str = #label;
            const IDENTITY: ::coppice_rref::Fingerprint = ::coppice_rref::fingerprint("interface")
                .text(#package)
                .text(::core::module_path!())
                .text(#label)
                .finish();
            const FINGERPRINT: ::coppice_rref::Fingerprint = ::coppice_rref::fingerprint("signatures")
                .with(Self::IDENTITY)
                .text(::coppice_interfaces::private::COMPILER)
                #(#shapes)*
                .finish();
            unsafe fn proxy(core: *const ::coppice_interfaces::ProxyCore) -> *const Self {
                core.cast::<#proxy>()
            }
            unsafe fn from_raw(raw: ::coppice_interfaces::private::RawObject) -> *const Self {
                // SAFETY: both are the two words of a trait object, data first (a test of the kernel checks
                // it).
                unsafe {
                    ::core::mem::transmute::<::coppice_interfaces::private::RawObject, *const Self>(raw)
                }
            }
            unsafe fn as_raw(object: *const Self) -> ::coppice_interfaces::private::RawObject {
                // SAFETY: as in `from_raw`.
                unsafe {
                    ::core::mem::transmute::<*const Self, ::coppice_interfaces::private::RawObject>(object)
                }
            }
            fn for_each_type(visit: &mut dyn ::core::ops::FnMut(::coppice_rref::TypeEntry)) {
                #(<#types as ::coppice_rref::Shareable>::for_each_type(visit);)*
                let _ = visit;
            }
        }

        // An image carries the note of each interface in the contract crates that it is linked with, so that
        // the loader can name one that the kernel knows in another version.
        const _: () = {
            use ::coppice_interfaces::private::{Note, Wire, interface_note};
            #[used]
            #[unsafe(link_section = ".note.coppice")]
            static NOTE: Note<Wire> = interface_note::<dyn #name>();
        };

        impl dyn #name {
            #[doc = #export_doc]
            #visibility fn export(target: impl #name) -> ::coppice_interfaces::Handle<dyn #name> {
                let target: ::coppice_interfaces::private::Box<dyn #name> =
                    ::coppice_interfaces::private::Box::new(target);
                ::coppice_interfaces::Handle::export(target)
            }
        }

        #shadow
    })
}

fn refuse(tokens: &(impl quote::ToTokens + Spanned), why: &str) -> Result<()> {
    let empty = quote!(#tokens).is_empty();
    if empty { Ok(()) } else { Err(Error::new_spanned(tokens, why)) }
}

/// One argument after `&self`.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    /// The type as written.
    pub(crate) written: Type,
    /// `Some(T)` for `&RRef<T>`.
    pub(crate) borrowed: Option<Type>,
}

/// One method of an interface.
pub(crate) struct Method<'a> {
    pub(crate) source: &'a TraitItemFn,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) result: Type,
    pub(crate) recovery: Option<Recovery>,
}

impl<'a> Method<'a> {
    fn parse(item: &'a TraitItem) -> Result<Self> {
        let TraitItem::Fn(source) = item else {
            return Err(Error::new_spanned(item, "an interface has methods only"));
        };
        let signature = &source.sig;
        refuse(&signature.generics.params, "an interface method has no generics or lifetimes of its own")?;
        refuse(
            &signature.generics.where_clause,
            "an interface method has no `where` clause: every proxy implements it",
        )?;
        if let Some(body) = &source.default {
            return Err(Error::new_spanned(
                body,
                "an interface method has no default body: it would run without a crossing",
            ));
        }
        for (token, why) in [
            (
                quote_option(&signature.asyncness),
                "a crossing runs on its caller's thread, so it cannot be async",
            ),
            (quote_option(&signature.unsafety), "domains cannot call an unsafe method"),
            (quote_option(&signature.abi), "an interface method has the ordinary Rust ABI"),
            (quote_option(&signature.variadic), "an interface method has a fixed number of arguments"),
            (quote_option(&signature.constness), "a crossing cannot be const"),
        ] {
            if let Some(token) = token {
                return Err(Error::new_spanned(token, why));
            }
        }
        let mut inputs = signature.inputs.iter();
        match inputs.next() {
            Some(FnArg::Receiver(receiver))
                if receiver.reference.is_some()
                    && receiver.mutability.is_none()
                    && receiver.colon_token.is_none() => {}
            other => {
                let span = other.map_or(signature.ident.span(), Spanned::span);
                return Err(Error::new(span, "an interface method takes `&self`: any thread may call it"));
            }
        }
        let arguments = inputs.map(argument).collect::<Result<_>>()?;
        let result = result(&signature.output, signature.ident.span())?;
        let recovery = Recovery::parse(source)?;
        Ok(Self { source, arguments, result, recovery })
    }

    /// The proxy's method.
    fn call(&self, interface: &Ident) -> TokenStream {
        let signature = &self.source.sig;
        let name = &signature.ident;
        let moved = self.arguments.iter().filter(|argument| argument.borrowed.is_none());
        let moved: Vec<_> = moved.map(|argument| &argument.name).collect();
        let borrowed = self.arguments.iter().filter(|argument| argument.borrowed.is_some());
        let borrowed: Vec<_> = borrowed.map(|argument| &argument.name).collect();
        let inner = self.arguments.iter().filter_map(|argument| argument.borrowed.as_ref());
        let passed = self.arguments.iter().map(|argument| {
            let name = &argument.name;
            if argument.borrowed.is_some() { quote!(&#name) } else { quote!(#name) }
        });
        // Hygienic names, which cannot collide with an argument's.
        let borrows = Ident::new("borrows", Span::mixed_site());
        let target = Ident::new("target", Span::mixed_site());
        quote! {
            #[inline]
            #signature {
                // The callee gets copies of the borrowed references: the caller's own may lie in a private
                // heap that is freed before the call ends. SAFETY: the copies last for the call, and the
                // kernel keeps their objects as long (R6).
                #(let #borrowed = unsafe { ::coppice_rref::RRef::<#inner>::alias(#borrowed) };)*
                let #borrows = [#(#borrowed.address() as *const u8),*];
                // SAFETY: the core is that of an object of this interface; `borrows` are live objects.
                unsafe {
                    ::coppice_interfaces::crossing::call::<dyn #interface, _, _, _>(
                        &self.0,
                        (#(#moved,)*),
                        &#borrows,
                        move |#target, (#(#moved,)*)| #target.#name(#(#passed),*),
                    )
                }
            }
        }
    }

    /// This method's part of the fingerprint.
    fn shape(&self) -> TokenStream {
        let name = self.source.sig.ident.to_string();
        let arguments = self.arguments.iter().map(|argument| {
            let (how, ty) = match &argument.borrowed {
                Some(inner) => ("&RRef", inner),
                None => ("", &argument.written),
            };
            quote_spanned!(ty.span()=> .text(#how).with(<#ty as ::coppice_rref::Shareable>::SHAPE))
        });
        let result = &self.result;
        let result = quote_spanned!(result.span()=> .with(<#result as ::coppice_rref::Shareable>::SHAPE));
        quote!(.text(#name) #(#arguments)* .text("->") #result)
    }

    /// All types that cross; a borrowed `&RRef<T>` counts as `RRef<T>`.
    fn types(&self) -> Vec<TokenStream> {
        let arguments = self.arguments.iter().map(|argument| match &argument.borrowed {
            Some(inner) => quote!(::coppice_rref::RRef<#inner>),
            None => {
                let written = &argument.written;
                quote!(#written)
            }
        });
        let result = &self.result;
        arguments.chain([quote!(#result)]).collect()
    }
}

fn quote_option(token: &Option<impl quote::ToTokens>) -> Option<TokenStream> {
    token.as_ref().map(|token| quote!(#token))
}

fn argument(input: &FnArg) -> Result<Argument> {
    let FnArg::Typed(typed) = input else {
        return Err(Error::new_spanned(input, "`self` comes first"));
    };
    let Pat::Ident(name) = &*typed.pat else {
        return Err(Error::new_spanned(&typed.pat, "an interface argument has a plain name"));
    };
    let borrowed = match &*typed.ty {
        Type::Reference(reference) => Some(borrowed(reference)?),
        other => {
            refuse_type(other)?;
            None
        }
    };
    Ok(Argument { name: name.ident.clone(), written: (*typed.ty).clone(), borrowed })
}

fn borrowed(reference: &syn::TypeReference) -> Result<Type> {
    const ONLY: &str =
        "the only reference that crosses is `&RRef<T>`: it is read-only and the kernel knows its owner";
    if reference.mutability.is_some() || reference.lifetime.is_some() {
        return Err(Error::new_spanned(reference, ONLY));
    }
    if let Type::Path(path) = &*reference.elem
        && let Some(segment) = path.path.segments.last()
        && segment.ident == "RRef"
        && let PathArguments::AngleBracketed(arguments) = &segment.arguments
        && let Some(GenericArgument::Type(inner)) = arguments.args.first()
    {
        return Ok(inner.clone());
    }
    Err(Error::new_spanned(reference, ONLY))
}

fn result(output: &ReturnType, span: Span) -> Result<Type> {
    const SHAPE: &str = "an interface method returns `RpcResult<T>`: the domain behind it may have crashed";
    let ReturnType::Type(_, ty) = output else { return Err(Error::new(span, SHAPE)) };
    if let Type::Path(path) = &**ty
        && let Some(segment) = path.path.segments.last()
        && segment.ident == "RpcResult"
        && let PathArguments::AngleBracketed(arguments) = &segment.arguments
        && let Some(GenericArgument::Type(inner)) = arguments.args.first()
    {
        refuse_type(inner)?;
        return Ok(inner.clone());
    }
    Err(Error::new_spanned(ty, SHAPE))
}

/// Refuses types that would otherwise fail with a less readable error about a missing `Shareable`.
fn refuse_type(ty: &Type) -> Result<()> {
    let why = match ty {
        Type::Reference(_) => "a reference may not cross: move, lend or borrow an RRef",
        Type::Ptr(_) => "a raw pointer may not cross: move, lend or borrow an RRef",
        Type::BareFn(_) => "a function pointer may not cross: its code is unloaded with its domain",
        Type::ImplTrait(_) => "an argument has a definite type: a proxy is made once, in the kernel",
        Type::TraitObject(_) => "a trait object crosses as a `Handle<dyn Interface>`",
        _ => return Ok(()),
    };
    Err(Error::new_spanned(ty, why))
}
