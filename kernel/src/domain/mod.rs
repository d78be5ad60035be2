//! Domains: the table of them, how they are loaded and entered, the proxies between them, and the memory that they have.
//!
//! These modules import each other in a circle, on purpose: the table holds each domain's export, which is a proxy; handles to
//! a proxy are objects of the shared heap; the heap charges the quota of a domain in the table, and destroys a handle by
//! giving up a proxy's reference; the object behind the last one is dropped inside its domain, by a call from the kernel.
//! Nothing here decides when a domain starts or why it ends: that is [`crate::policy`]'s and [`crate::fault`]'s.

pub(crate) mod enter;
pub(crate) mod environment;
pub mod image;
pub(crate) mod kernel_calls;
pub(crate) mod load;
pub(crate) mod private_heap;
pub(crate) mod proxy;
pub(crate) mod quota;
pub(crate) mod reaper;
pub(crate) mod recount;
pub(crate) mod shared_heap;
pub(crate) mod shared_types;
pub(crate) mod start_error;
pub(crate) mod supervision_tree;
mod table;
pub(crate) mod threads;

pub(crate) use table::{Domain, all, find, get, init, name};
