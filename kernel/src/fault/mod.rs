//! The end of a domain: how its code fails, how it is cut off and reclaimed, and what is remembered of it.
//!
//! What follows an end is [`crate::policy`]'s decision, which [`terminate::install_policy`] is told.

pub(crate) mod crash;
pub(crate) mod crash_log;
pub(crate) mod post_mortem;
pub(crate) mod terminate;
