//! The mechanism of calls between domains; part of the trusted set.
//!
//! A trait becomes an interface by [`macro@interface`]. The traits themselves are contracts and live in
//! crates of their own, one per family (`coppice-block`, `coppice-net`, `coppice-control`, ...), with no
//! unsafe code. A kernel image lists the families whose proxies it carries ([`Registry`]); domains link the
//! families that they use, for the types and the traits.
//!
//! - [`crossing`]: the common path of all proxies.
//! - [`Handle`]: an interface object, as it travels between domains.
//! - [`Imports`] and [`Exports`]: the arguments and the result of an entry function.
//! - [`Registry`]: the interfaces of a kernel image.
//! - [`shadow`]: objects that hide the restarts of another domain.
//! - [`Text`]: a short string that may cross.

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;
// The macros name this crate by its path, also when they are used inside it.
extern crate self as coppice_interfaces;

pub mod crossing;
mod entry;
mod handle;
mod registry;
pub mod shadow;
mod text;

pub use coppice_abi::crossing::{ProxyCore, RpcError};
pub use coppice_abi::{CrashKind, DomainId};
pub use coppice_interface_macros::{Imports, interface};
pub use entry::{Exports, HandleList, ImportNotes, Imports, RawHandles, import_notes, take_imports};
pub use handle::{Handle, HandleCell, Interface};
pub use registry::{InterfaceEntry, Registry};
pub use shadow::{Shadow, Shadowed};
pub use text::Text;

/// The result of a call across domains: the callee's result, or the reason why the call did not return.
pub type RpcResult<T> = Result<T, RpcError>;

/// Items for the macros' expansions alone.
#[doc(hidden)]
pub mod private {
    pub use alloc::boxed::Box;

    pub use coppice_abi::RawObject;
    pub use coppice_abi::note::{COMPILER, Note, Wire};

    pub use crate::entry::interface_note;
}
