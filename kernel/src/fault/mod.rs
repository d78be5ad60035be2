//! The end of a domain: its crash, the eviction of its threads, the reclaim of its resources, and its crash
//! record.
//!
//! [`crate::policy`] decides what follows ([`terminate::install_policy`]).

pub(crate) mod crash;
pub(crate) mod crash_log;
#[cfg(feature = "testing")]
mod mutation;
pub(crate) mod post_mortem;
pub(crate) mod terminate;
