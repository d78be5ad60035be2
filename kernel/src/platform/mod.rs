//! The machine contract and x86_64 support, without threads or domains.

pub mod archive;
pub(crate) mod backtrace;
pub(crate) mod exception;
pub(crate) mod latency;
pub mod machine;
pub(crate) mod options;
pub mod pci;
pub mod sync;
#[cfg(test)]
pub(crate) mod test_manifest;
pub(crate) mod xstate;
