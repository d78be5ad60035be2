//! Entry: where machines and domains come into the kernel, and where it starts.

mod audit;
pub(crate) mod boot;
pub(crate) mod checkpoint;
mod control;
pub(crate) mod divert;
mod in_use;
mod services;
pub mod trap;
