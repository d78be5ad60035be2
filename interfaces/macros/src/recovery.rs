//! The attributes `#[retry]`, `#[replay]` and `#[fail]` of an interface's methods, and the shadow that is
//! written from them. Their meaning is explained in `coppice_interfaces::shadow`.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Attribute, Error, Ident, Meta, Result, TraitItemFn, Type};

use crate::interface::{Argument, Method};

/// The attribute of one method.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    Retry,
    Replay { last: bool },
    Fail,
}

impl Recovery {
    /// Reads a method's attribute. Skips the attributes of other macros.
    pub(crate) fn parse(source: &TraitItemFn) -> Result<Option<Self>> {
        let mut found = None;
        for attribute in source.attrs.iter().filter(|attribute| is_recovery(attribute)) {
            if found.is_some() {
                let why = "a method has one of `#[retry]`, `#[replay]` and `#[fail]`, once";
                return Err(Error::new_spanned(attribute, why));
            }
            found = Some(Self::of(attribute)?);
        }
        Ok(found)
    }

    fn of(attribute: &Attribute) -> Result<Self> {
        let name = attribute.path().require_ident()?;
        match &attribute.meta {
            Meta::Path(_) if name == "retry" => Ok(Self::Retry),
            Meta::Path(_) if name == "fail" => Ok(Self::Fail),
            Meta::Path(_) => Ok(Self::Replay { last: false }),
            Meta::List(list) if name == "replay" => {
                let argument: Ident = list.parse_args()?;
                if argument == "last" {
                    return Ok(Self::Replay { last: true });
                }
                Err(Error::new_spanned(
                    argument,
                    "`#[replay]` keeps all calls, and `#[replay(last)]` the latest",
                ))
            }
            other => Err(Error::new_spanned(other, format!("`#[{name}]` takes no arguments"))),
        }
    }

    /// The sentence that is added to the method's documentation.
    fn doc(self) -> &'static str {
        match self {
            Self::Retry => "Behind a shadow, the call is made again to the next instance.",
            Self::Replay { last: false } => "Behind a shadow, each call is replayed to the next instance.",
            Self::Replay { last: true } => {
                "Behind a shadow, the latest call is replayed to the next instance."
            }
            Self::Fail => "Behind a shadow, the call fails if the instance crashes.",
        }
    }
}

fn is_recovery(attribute: &Attribute) -> bool {
    ["retry", "replay", "fail"].iter().any(|name| attribute.path().is_ident(name))
}

/// Replaces a method's attribute, which the compiler does not know, by a sentence of documentation.
pub(crate) fn document(method: &mut TraitItemFn, recovery: Option<Recovery>) {
    method.attrs.retain(|attribute| !is_recovery(attribute));
    if let Some(recovery) = recovery {
        let doc = recovery.doc();
        method.attrs.extend([syn::parse_quote!(#[doc = ""]), syn::parse_quote!(#[doc = #doc])]);
    }
}

/// The shadow of an interface, if its methods have these attributes.
pub(crate) fn shadow(interface: &Ident, methods: &[Method<'_>]) -> Result<TokenStream> {
    if methods.iter().all(|method| method.recovery.is_none()) {
        return Ok(TokenStream::new());
    }
    let calls = methods.iter().map(call).collect::<Result<Vec<_>>>()?;
    Ok(quote! {
        impl #interface for ::coppice_interfaces::Shadow<dyn #interface> {
            #(#calls)*
        }

        #[diagnostic::do_not_recommend]
        impl ::coppice_interfaces::Shadowed for dyn #interface {
            fn export_shadow(shadow: ::coppice_interfaces::Shadow<Self>) -> ::coppice_interfaces::Handle<Self> {
                <dyn #interface>::export(shadow)
            }
        }
    })
}

/// The shadow's method.
fn call(method: &Method<'_>) -> Result<TokenStream> {
    let signature = &method.source.sig;
    let name = &signature.ident;
    let Some(recovery) = method.recovery else {
        let why = "other methods of this interface say how a call survives a crash: \
                   mark this one `#[retry]`, `#[replay]` or `#[fail]` too";
        return Err(Error::new_spanned(signature, why));
    };
    // A hygienic name, which cannot collide with an argument's.
    let target = Ident::new("target", Span::mixed_site());
    let passed = method.arguments.iter().map(|argument| passed(argument, recovery));
    let passed = passed.collect::<Result<Vec<_>>>()?;
    let body = match recovery {
        Recovery::Retry => quote!(self.retry(|#target| #target.#name(#(#passed),*))),
        Recovery::Fail => quote!(self.once(|#target| #target.#name(#(#passed),*))),
        Recovery::Replay { last } => {
            let label = name.to_string();
            let keep = if last { quote!(Last) } else { quote!(Every) };
            // The span makes the compiler's error point at the result type.
            let span = method.result.span();
            let keep = quote!(::coppice_interfaces::shadow::Keep::#keep);
            quote_spanned!(span=> self.replay(#label, #keep, move |#target| #target.#name(#(#passed),*)))
        }
    };
    Ok(quote! {
        #[inline]
        #signature {
            #body
        }
    })
}

/// The expression that passes an argument to one of several instances.
fn passed(argument: &Argument, recovery: Recovery) -> Result<TokenStream> {
    let name = &argument.name;
    if recovery == Recovery::Fail || (argument.borrowed.is_some() && recovery == Recovery::Retry) {
        return Ok(quote!(#name));
    }
    if argument.borrowed.is_some() {
        let why =
            "an object that is borrowed for a call is not there when the call is replayed: pass plain data";
        return Err(Error::new_spanned(&argument.written, why));
    }
    if let Type::Path(path) = &argument.written
        && let Some(segment) = path.path.segments.last()
        && (segment.ident == "RRef" || segment.ident == "Lent")
    {
        let why = match recovery {
            Recovery::Retry => {
                "an object that moves into an instance is lost with it and cannot be passed to the next: \
                 borrow it (`&RRef<T>`), or mark the method `#[fail]`"
            }
            _ => {
                "an object that moves into an instance is lost with it and cannot be passed to the next: \
                 pass plain data"
            }
        };
        return Err(Error::new_spanned(&argument.written, why));
    }
    let span = argument.written.span();
    Ok(quote_spanned!(span=> ::coppice_interfaces::shadow::repeat(&#name)))
}
