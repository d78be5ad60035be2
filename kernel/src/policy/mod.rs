//! Policy: starts and restarts of domains, deadlines, CPU shares, revocation.
//!
//! Deferred work and its users import each other: a work item is an enum of all deferred actions, and not a
//! boxed closure, so an item can be compared and taken back, and a checkpoint can request one without
//! allocating.

pub(crate) mod call_timestamp;
pub(crate) mod cpu_share;
pub(crate) mod deferred_work;
pub(crate) mod restart;
pub(crate) mod revoke;
pub(crate) mod start;
mod suspects;
pub(crate) mod watchdog;
