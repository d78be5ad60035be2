//! Entry: the entry points of machines and domains into the kernel, and boot.

mod audit;
pub(crate) mod boot;
pub(crate) mod checkpoint;
mod control;
pub(crate) mod divert;
mod in_use;
mod seal;
mod services;
pub mod trap;
