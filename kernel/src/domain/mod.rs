//! Domains: the domain table, loading, calls into domains, the proxies between them, and their memory.
//!
//! These modules import each other in a circle, on purpose. The table holds each domain's export, which is a
//! proxy. Handles to a proxy are objects of the shared heap. The heap charges the quota of a domain in the
//! table, and destroys a handle by releasing a proxy's reference. The object behind the last reference is
//! dropped inside its domain, by a call from the kernel. This folder does not decide when a domain starts or
//! why it ends: see [`crate::policy`] and [`crate::fault`].

pub(crate) mod enter;
pub(crate) mod environment;
pub mod image;
pub(crate) mod interfaces;
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
