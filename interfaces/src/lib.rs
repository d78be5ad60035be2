//! What domains say to each other.
//!
//! One file per interface, documented as a contract; [`registry`] lists them all. The rest is what carries a call:
//! [`crossing`] (the proxies' common path), [`Handle`] (an interface object, as it travels), and [`Imports`] and
//! [`Exports`] (what an entry function takes and gives).
//!
//! A trait becomes an interface by [`macro@interface`]. Its proxies run in the kernel's image, which never goes
//! away; this crate is linked into domains too, for the types and the traits.

#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;
// Macros name this crate by its path, also when they are used inside it.
extern crate self as coppice_interfaces;

pub mod block;
mod control;
mod counter;
pub mod crossing;
mod echo;
mod engine;
mod entry;
mod factory;
mod fault;
mod filter;
mod guardian;
mod handle;
mod hoarder;
mod keeper;
pub mod net;
mod orders;
mod pool;
mod registry;
pub mod shadow;
mod subject;
mod text;

pub use block::{BlockDevice, BlockError, BlockInfo, BlockQueue};
pub use control::{
    AuditLine, AuditSummary, Control, ControlError, DomainInfo, DomainState, InUse, MemoryInfo, Prospect,
    Resource, TraceRecord,
};
pub use coppice_abi::crossing::{ProxyCore, RpcError};
pub use coppice_abi::{CrashKind, DomainId};
pub use coppice_interface_macros::{Imports, interface};
pub use counter::Counter;
pub use echo::{Echo, Message};
pub use engine::{Engine, EngineInfo, Misuse};
pub use entry::{Exports, Import, Imports, RawHandles, import_note};
pub use factory::Factory;
pub use fault::Fault;
pub use filter::{Filter, FilterError, Rule, Verdict};
pub use guardian::{Conduct, Guardian, Told};
pub use handle::{HANDLE_CELL, Handle, HandleCell, Interface};
pub use hoarder::Hoarder;
pub use keeper::Keeper;
pub use net::{NetDevice, NetError, NetInfo, NetQueue};
pub use orders::{News, Order, Orders, Place, Record};
pub use pool::{Job, Pool, PoolError};
pub use registry::{InterfaceEntry, NOTES, registry};
pub use shadow::{Shadow, Shadowed};
pub use subject::Subject;
pub use text::Text;

/// What a call across domains answers: the callee's answer, or why there is none.
pub type RpcResult<T> = Result<T, RpcError>;

/// What the macros' expansions need and nobody else should name.
#[doc(hidden)]
pub mod private {
    pub use alloc::boxed::Box;

    pub use coppice_abi as abi;
}
